"""The training loop of the package."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler

from safs_ray.accuracy import accuracies, accuracy, enough_memory
from safs_ray.config import Hyperparameters, counted
from safs_ray.data import augmentation, batch_count, batches
from safs_ray.metrics import metric_of
from safs_ray.network import Network
from safs_ray.optimizers import OPTIMIZERS, SCHEDULES
from safs_ray.randomness import generator
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.execution import cohort, following
from safs_ray.training.averaging import Mean
from safs_ray.training.goal import loss_of
from safs_ray.training.training import Training


class AloneError(Exception):
    """Networks that can only be trained one at a time."""


@dataclass
class Standing:
    """Where a network stands in its training.

    Attributes:
        best: the network as it was after its best epoch; the one given before there is one.
        best_epoch: the epoch of the highest validation accuracy, among those after which the network had reached
            its sparsity, or the last one where the mean of the last ones is better; 0 before the first of them.
        best_accuracy: that accuracy, in [0, 1]; 0 before there is one.
        curve: validation accuracy after every epoch, in [0, 1]; 0 after that in which it diverged, the last.
        diverged: whether the loss became infinite or NaN; the network learns nothing after that.
    """

    best: Network
    best_epoch: int = 0
    best_accuracy: float = 0.0
    curve: tuple[float, ...] = ()
    diverged: bool = False

    @property
    def accuracy(self) -> float:
        """Validation accuracy after the last epoch; 0 before the first."""
        return self.curve[-1] if self.curve else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        best = {"state": dict(self.best.state), "masks": dict(self.best.masks)}
        return {**vars(self), "best": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, replace(self.best, **value) if name == "best" else value)
        self.curve = tuple(self.curve)


class Trainer:
    """Trains a cohort, networks side by side, an epoch at a time, and remembers the best weights of each.

    Each network ends as it would alone, bit for bit, and all draw the same batches and the same augmentation, as do
    any two trainings of the same seed: so that differences between candidates are differences between candidates. A
    training that was under way when its process died goes on from its latest checkpoint, bit for bit.

    Args:
        networks: where training starts; they are not changed. Several differ in weights and operators alone.

    Attributes:
        epoch: epochs done.
        standings: of the networks.
        core_seconds: CPU time of the epochs done, those before an interruption included.
        core_seconds_before: CPU time of the latter alone, which another process spent.

    Raises:
        AloneError: several networks that can only be trained one at a time.
    """

    def __init__(self, networks: Sequence[Network], training: Training) -> None:
        self.networks = networks
        self.training = training
        self.epoch = 0
        self.core_seconds = 0.0
        self.standings = [Standing(network) for network in networks]
        first = networks[0]
        self._memory_format, self._precision = training.memory_format(first), training.precision(first)
        device, splits = training.context.device, training.context.splits
        with enough_memory(device, "the network with all images"):
            self._train = splits.train.standardised(first.specification.standardised).to(device)
            self._validation = splits.validation.to(device)
            self._cohort = _cohort(networks, training)
        self._loss = loss_of(training.context.configuration.data, splits.train, training.loss)
        self._metric = metric_of(training.context.configuration.data)
        if not training.learn_scales:
            self._cohort.freeze_scales()
        steps = training.epochs * batch_count(len(self._train), training.hyperparameters.batch_size)
        weights = self._cohort.prunable
        masks = {name: mask for name, mask in first.masks.items() if name in weights}
        self._rule = training.mask_rule(weights, masks, steps)
        self._optimizer = _optimizer(self._cohort, training.hyperparameters)
        self._schedule = SCHEDULES[training.hyperparameters.schedule](self._optimizer, training.epochs)
        self._means = [Mean() for _ in networks]
        self._kept_at = time.monotonic()
        self._checkpoint = training.checkpoint(networks)
        if saved := self._checkpoint.load():
            self.load_state_dict(saved)
        self.core_seconds_before = self.core_seconds

    @property
    def diverged(self) -> bool:
        """Whether every network has."""
        return all(standing.diverged for standing in self.standings)

    def run_epoch(self) -> None:
        """Train one epoch, unless all have diverged."""
        if self.diverged:
            return
        start = time.process_time()
        with enough_memory(self.training.context.device, f"a step of training with {self._batch}"):
            losses = self._pass_over_training_images()
        self.epoch += 1
        self._validate([math.isfinite(loss) for loss in losses])
        self._average()
        self.core_seconds += time.process_time() - start
        self._keep()

    @property
    def standing(self) -> Standing:
        """Where the first network stands, or the only one."""
        return self.standings[0]

    @property
    def over(self) -> bool:
        """Whether no epoch is left to train."""
        return self.diverged or self.epoch >= self.training.epochs

    @property
    def _batch(self) -> str:
        """A batch in words."""
        shape = "x".join(map(str, self._train.inputs.shape[1:]))
        noun = self.networks[0].specification.noun
        return f"{counted(self.training.hyperparameters.batch_size, noun)} of {shape}"

    def _validate(self, finite: Sequence[bool]) -> None:
        """The validation accuracies, which the schedule and the best networks follow.

        Args:
            finite: whether the loss of each network is.
        """
        measured = self._measured() if any(finite) else [0.0] * len(finite)
        for number, standing in enumerate(self.standings):
            if standing.diverged:
                continue
            standing.diverged = not finite[number]
            standing.curve = (*standing.curve, measured[number] if finite[number] else 0.0)
            # 0 may stand for anything below, such as a negative R²: what was trained for longer is better.
            better = standing.accuracy > standing.best_accuracy or not standing.best_accuracy
            if self._rule.complete and better and not standing.diverged:
                standing.best_epoch, standing.best_accuracy = self.epoch, standing.accuracy
                standing.best = self.current(number)
        if isinstance(self._schedule, lr_scheduler.ReduceLROnPlateau):
            self._schedule.step(self.standings[0].accuracy)
        else:
            self._schedule.step()

    def _average(self) -> None:
        """Take the weights after each of the last epochs into a mean, which after all of them may be the best."""
        training = self.training
        if not self._rule.complete or self.epoch <= training.epochs - training.averaged:
            return
        for number, (mean, standing) in enumerate(zip(self._means, self.standings, strict=True)):
            if standing.diverged:
                continue
            mean.add(self._cohort.state(number))
            if self.epoch == training.epochs and mean.count > 1:
                self._judge(mean.of(self.current(number), training.context), standing)

    def _judge(self, mean: Network, standing: Standing) -> None:
        """Let the mean of the last epochs be the best where it is no less accurate than any of them."""
        context = self.training.context
        reached = accuracy(mean, self._validation, context.device, context.configuration)
        if reached >= standing.best_accuracy:
            standing.best, standing.best_epoch, standing.best_accuracy = mean, self.epoch, reached

    def _measured(self) -> list[float]:
        """The validation accuracy of each network."""
        return accuracies(self._cohort, self._validation, self._metric, self.networks[0].specification)

    def _keep(self) -> None:
        """Write a checkpoint when the last one is old, and after a long training: a stage may be made of several."""
        seconds = self._checkpoint.seconds
        ended = self.epoch == self.training.epochs and self.core_seconds >= seconds
        if ended or time.monotonic() - self._kept_at >= seconds:
            self._checkpoint.save(self.state_dict())
            self._kept_at = time.monotonic()

    def forget(self) -> None:
        """Delete the checkpoint: what the training was for is on storage."""
        self._checkpoint.remove()

    def current(self, number: int = 0) -> Network:
        """A network as it is now."""
        network = self.networks[number]
        masks = {name: mask.cpu() for name, mask in self._rule.masks.items()}
        return replace(network, state=self._cohort.state(number), masks={**network.masks, **masks})

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`load_state_dict` needs to go on bit for bit; plain values and tensors."""
        return {
            "epoch": self.epoch,
            "core_seconds": self.core_seconds,
            "standings": [standing.state_dict() for standing in self.standings],
            "mask_rule": self._rule.state_dict(),
            "planned": dict(self._cohort.planned),
            "networks": [self._cohort.state(number) for number in range(len(self.networks))],
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "means": [mean.state_dict() for mean in self._means],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.core_seconds = state["epoch"], state["core_seconds"]
        for standing, saved in zip(self.standings, state["standings"], strict=True):
            standing.load_state_dict(saved)
        self._rule.load_state_dict(state["mask_rule"])
        for number, network in enumerate(state["networks"]):
            self._cohort.load(number, network)
        self._cohort.plan(state.get("planned", {}))
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        for mean, saved in zip(self._means, state["means"], strict=True):
            mean.load_state_dict(saved)

    def _pass_over_training_images(self) -> list[float]:
        """One epoch of weight updates; returns the mean loss of each network."""
        self._cohort.train()
        training, data = self.training, self.training.context.configuration.data
        draws = generator(training.seed, "augmentation", self.epoch)
        order = generator(training.seed, "batches", self.epoch)
        augment = augmentation(data.crop, data.flip, draws)
        total = torch.zeros(len(self.networks), device=training.context.device)  # there: no synchronisation per batch
        for batch in batches(self._train, training.hyperparameters.batch_size, order, augment):
            images = batch.inputs.contiguous(memory_format=self._memory_format)
            self._cohort.follow(self._rule.masks, self._rule.reads_dropped)
            losses = self._cohort.learn(images, batch.targets, self._loss, self._precision)
            self._rule.before_step()
            self._optimizer.step()
            self._rule.after_step(self._optimizer)
            total += losses * len(batch)
        return [loss / len(self._train) for loss in total.tolist()]

    def run(self) -> Trainer:
        """Train the epochs that are left; the context's report is told of each."""
        while not self.over:
            self.run_epoch()
            self.training.context.report(self.epoch, self.standing.accuracy)
        return self


def _cohort(networks: Sequence[Network], training: Training) -> Cohort:
    """What trains networks.

    Raises:
        AloneError: several that can only be trained one at a time: by a schedule that follows a network's own
            accuracy, by masks that change, or as their execution is.
    """
    context, first = training.context, networks[0]
    arguments = training.execution(first), context.device, context.configuration.run.known_costs
    alone = training.hyperparameters.schedule == "plateau" or training.changes_masks
    if len(networks) > 1 and alone:
        module = None
    elif training.changes_masks:
        module = following(first, *arguments)
    else:
        module = cohort(networks, *arguments)
    if module is None:
        raise AloneError(f"{len(networks)} networks of {first.specification.model}")
    return module


def _optimizer(module: Cohort, hyperparameters: Hyperparameters) -> Optimizer:
    """The optimizer; weight decay spares the activations, which it would pull towards the zero function."""
    groups = [
        {"params": list(module.weights), "weight_decay": hyperparameters.weight_decay},
        {"params": list(module.scales), "weight_decay": 0.0},
    ]
    return OPTIMIZERS[hyperparameters.optimizer](groups, hyperparameters, module.tensors)
