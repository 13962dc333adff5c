"""The only training loop of the package."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer, lr_scheduler

from safs_ray.activations import ScaledActivation
from safs_ray.config import DataSection, Hyperparameters
from safs_ray.data import Examples, Splits, augmentation, batches
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.optimizers import Fromage, TAdam
from safs_ray.pruning.masks import hold_at_zero
from safs_ray.randomness import generator

EVALUATION_BATCH = 1000
"""Images in a batch without gradients."""

Report = Callable[[int, float], None]
"""Called after every epoch with the epochs done and the validation accuracy."""


def silent(_epoch: int, _accuracy: float) -> None:
    """A report that says nothing."""


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        splits: ``train`` is trained on and ``validation`` measured after every epoch; ``test`` is not read.
        epochs: length of the whole training, which the schedule spans.
        seed: seed of the batches and the augmentation.
        data: says how training images are augmented.
        learn_scales: whether alpha and beta are learned (stage 2) or stay as they are (stage 1).
    """

    splits: Splits
    hyperparameters: Hyperparameters
    epochs: int
    seed: int
    device: torch.device
    data: DataSection
    learn_scales: bool = False


class Trainer:
    """Trains one network, an epoch at a time, and remembers the best weights that it saw.

    Two trainers of the same seed draw the same batches and the same augmentation in every epoch, whatever
    network they train, so that differences between candidates are differences between candidates.

    Args:
        network: where training starts; it is not changed.

    Attributes:
        epoch: epochs done.
        best_accuracy: highest validation accuracy after any epoch, in [0, 1]; 0 before the first.
        diverged: whether the loss became infinite or NaN; nothing is trained after that.
    """

    def __init__(self, network: Network, training: Training) -> None:
        self.network = network
        self.training = training
        self.epoch = 0
        self.best_accuracy = 0.0
        self.diverged = False
        self._train = training.splits.train.to(training.device)
        self._validation = training.splits.validation.to(training.device)
        self._module = network.build().to(training.device)
        if not training.learn_scales:
            for site in network.sites:
                cast(ScaledActivation, self._module.get_submodule(site)).freeze_scales()
        parameters = dict(self._module.named_parameters())
        self._masked = [parameters[name] for name in network.masks]
        self._dropped = [~mask.to(training.device) for mask in network.masks.values()]
        for weight, dropped in zip(self._masked, self._dropped, strict=True):
            # What is dropped has no gradient, and so no part in the norms that an optimizer may take.
            weight.register_hook(lambda gradient, dropped=dropped: gradient.masked_fill(dropped, 0))  # type: ignore[no-untyped-call]
        self._optimizer = _optimizer(network, parameters, training.hyperparameters)
        self._schedule = SCHEDULES[training.hyperparameters.schedule](self._optimizer, training.epochs)
        self._best = network.state

    def run_epoch(self) -> float:
        """Train one epoch; returns the validation accuracy after it, in [0, 1], or 0 when it diverged."""
        if self.diverged:
            return 0.0
        loss = self._pass_over_training_images()
        self.epoch += 1
        if not math.isfinite(loss):
            self.diverged = True
            return 0.0
        accuracy = _accuracy(self._module, self._validation, self.network.specification)
        if isinstance(self._schedule, lr_scheduler.ReduceLROnPlateau):
            self._schedule.step(accuracy)
        else:
            self._schedule.step()
        if accuracy > self.best_accuracy or self.epoch == 1:
            self.best_accuracy = accuracy
            self._best = self.network.after(self._module).state
        return accuracy

    def run(self, report: Report = silent) -> Trainer:
        """Train the epochs that are left, calling ``report(epochs done, validation accuracy)`` after each."""
        while self.epoch < self.training.epochs and not self.diverged:
            accuracy = self.run_epoch()
            report(self.epoch, accuracy)
        return self

    def best(self) -> Network:
        """The network as it was after its best epoch; the one given before the first."""
        return replace(self.network, state=self._best)

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`load_state_dict` needs to go on bit for bit; plain values and tensors."""
        return {
            "epoch": self.epoch,
            "best_accuracy": self.best_accuracy,
            "diverged": self.diverged,
            "best": dict(self._best),
            "module": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.best_accuracy = state["best_accuracy"]
        self.diverged = state["diverged"]
        self._best = state["best"]
        self._module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])

    def _pass_over_training_images(self) -> float:
        """One epoch of weight updates; returns the mean loss."""
        self._module.train()
        training = self.training
        draws = generator(training.seed, "augmentation", self.epoch)
        order = generator(training.seed, "batches", self.epoch)
        augment = augmentation(training.data.crop, training.data.flip, draws)
        total = torch.zeros((), device=training.device)  # summed on the device: no synchronisation per batch
        for batch in batches(self._train, training.hyperparameters.batch_size, order, augment):
            logits = self._module(normalised(batch.images, self.network.specification))
            loss = cross_entropy(logits, batch.labels)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            hold_at_zero(self._masked, self._dropped)  # here, so that momentum and decay revive nothing
            total += loss.detach() * len(batch)
        return total.item() / len(self._train)


def accuracy(network: Network, examples: Examples, device: torch.device) -> float:
    """Fraction of the examples that the network classifies correctly."""
    return _accuracy(network.build().to(device), examples.to(device), network.specification)


def normalised(images: Tensor, specification: Specification) -> Tensor:
    """uint8 images (N, C, H, W) as float32 with the specification's mean and deviation taken out."""
    mean = images.new_tensor(specification.mean, dtype=torch.float32)[:, None, None]
    deviation = images.new_tensor(specification.deviation, dtype=torch.float32)[:, None, None]
    return (images.float() / 255 - mean) / deviation


@torch.inference_mode()
def _accuracy(module: nn.Module, examples: Examples, specification: Specification) -> float:
    module.eval()
    correct = torch.zeros((), dtype=torch.int64, device=examples.labels.device)
    for images, labels in zip(
        torch.split(examples.images, EVALUATION_BATCH),
        torch.split(examples.labels, EVALUATION_BATCH),
        strict=True,
    ):
        logits = module(normalised(images, specification))
        # The argmax of NaN is a class like any other: a broken network must not score by chance.
        correct += ((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum()
    return correct.item() / len(examples)


def _optimizer(network: Network, parameters: dict[str, nn.Parameter], hyperparameters: Hyperparameters) -> Optimizer:
    """The optimizer; weight decay spares the activations, which it would pull towards the zero function."""
    activations = tuple(f"{site}." for site in network.sites)
    groups = [
        {
            "params": [parameters[name] for name in parameters if not name.startswith(activations)],
            "weight_decay": hyperparameters.weight_decay,
        },
        {
            "params": [parameters[name] for name in parameters if name.startswith(activations)],
            "weight_decay": 0.0,
        },
    ]
    return OPTIMIZERS[hyperparameters.optimizer](groups, hyperparameters)


Groups = list[dict[str, Any]]

OPTIMIZERS: dict[str, Callable[[Groups, Hyperparameters], Optimizer]] = {
    "sgd": lambda groups, chosen: SGD(groups, lr=chosen.learning_rate, momentum=chosen.momentum),
    "adam": lambda groups, chosen: Adam(groups, lr=chosen.learning_rate),
    "adamw": lambda groups, chosen: AdamW(groups, lr=chosen.learning_rate),
    "tadam": lambda groups, chosen: TAdam(groups, lr=chosen.learning_rate),
    "fromage": lambda groups, chosen: Fromage(groups, lr=chosen.learning_rate),
}

Schedule = lr_scheduler.LRScheduler

SCHEDULES: dict[str, Callable[[Optimizer, int], Schedule]] = {
    "constant": lambda optimizer, epochs: lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=epochs),
    "cosine": lambda optimizer, epochs: lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs),
    # T_0 and T_mult make three cycles, each twice as long as the one before.
    "cosine warm restarts": lambda optimizer, epochs: lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=max(1, math.ceil(epochs / 7)), T_mult=2
    ),
    "halving": lambda optimizer, _: lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.5),
    "step": lambda optimizer, epochs: lr_scheduler.StepLR(optimizer, step_size=max(1, math.ceil(epochs / 3))),
    "linear": lambda optimizer, epochs: lr_scheduler.LinearLR(
        optimizer, start_factor=1.0, end_factor=0.01, total_iters=epochs
    ),
    "plateau": lambda optimizer, epochs: lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=max(1, epochs // 8)
    ),
}
"""The seven schedules of the published search, by name: optimizer and whole length in epochs to schedule."""
