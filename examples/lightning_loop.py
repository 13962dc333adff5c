"""A training by Lightning: ``task.loop=lightning_loop:train``."""

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from safs_ray.training import LoopContext


class Classifier(lightning.LightningModule):
    """Your LightningModule, around the module that is given."""

    def __init__(self, network: nn.Module, context: LoopContext) -> None:
        super().__init__()
        self.network, self.context = network, context

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        inputs, labels = batch
        return cross_entropy(self.network(inputs), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.context.optimizer()


class Reports(Callback):
    """Tells of every epoch."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        pl_module.context.report(trainer.current_epoch + 1, accuracy(pl_module.network, pl_module.context))


def train(module: nn.Module, context: LoopContext) -> float:
    """Train the module for ``context.epochs`` and return its score."""
    if context.epochs:
        data = TensorDataset(context.normalised(context.train.inputs), context.train.labels)
        trainer = lightning.Trainer(
            max_epochs=context.epochs,
            accelerator="gpu" if context.device.type == "cuda" else "cpu",
            devices=1,
            callbacks=[Reports()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Classifier(module, context), DataLoader(data, batch_size=32, shuffle=True))
    return accuracy(module.to(context.device), context)  # Lightning leaves it on the CPU


@torch.no_grad()
def accuracy(module: nn.Module, context: LoopContext) -> float:
    """Fraction of the examples that are held out which the module classifies correctly."""
    training = module.training
    logits = module.eval()(context.normalised(context.held_out.inputs.to(context.device)))
    module.train(training)
    return (logits.argmax(1).cpu() == context.held_out.labels).float().mean().item()
