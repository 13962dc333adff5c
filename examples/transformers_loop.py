"""A training by Hugging Face's Trainer: ``task.loop=transformers_loop:train``."""

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainerCallback, TrainingArguments

from safs_ray.training import LoopContext


class WithLoss(nn.Module):
    """The module that is given, with the loss that Trainer wants."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.network(inputs)
        return {"loss": cross_entropy(logits, labels), "logits": logits}


class Reports(TrainerCallback):
    """Tells of every epoch."""

    def __init__(self, module: nn.Module, context: LoopContext) -> None:
        self.module, self.context = module, context

    def on_epoch_end(self, _arguments: Any, state: Any, _control: Any, **_others: Any) -> None:
        self.context.report(round(state.epoch), accuracy(self.module, self.context))


def train(module: nn.Module, context: LoopContext) -> float:
    """Train the module for ``context.epochs`` and return its score."""
    inputs = context.normalised(context.train.inputs)
    data = [{"inputs": one, "labels": label} for one, label in zip(inputs, context.train.labels, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=context.epochs,
            per_device_train_batch_size=32,
            seed=context.seed,
            use_cpu=context.device.type == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        if context.epochs:
            trainer = Trainer(
                WithLoss(module),
                arguments,
                train_dataset=data,
                callbacks=[Reports(module, context)],
                optimizers=(context.optimizer(), None),
            )
            trainer.train()
    return accuracy(module, context)


@torch.no_grad()
def accuracy(module: nn.Module, context: LoopContext) -> float:
    """Fraction of the examples that are held out which the module classifies correctly."""
    training = module.training
    logits = module.eval()(context.normalised(context.held_out.inputs.to(context.device)))
    module.train(training)
    return (logits.argmax(1).cpu() == context.held_out.labels).float().mean().item()
