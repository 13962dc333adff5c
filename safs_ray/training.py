"""The only training loop of the package."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer, lr_scheduler

from safs_ray.accuracy import accuracies, accuracy, enough_memory
from safs_ray.checkpoints import Checkpoints
from safs_ray.config import ConfigurationError, DataSection, Execution, Hyperparameters, RunSection, counted, refusal
from safs_ray.data import Splits, augmentation, batch_count, batches
from safs_ray.network import Network
from safs_ray.optimizers import OPTIMIZERS, SCHEDULES
from safs_ray.pruning.rules import FixedMasks, MakeRule
from safs_ray.randomness import generator
from safs_ray.references import is_reference
from safs_ray.sparse.execution import Team, team


class NotTogetherError(Exception):
    """Networks that can only be trained one at a time."""


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
        run: says how the network is computed: with all weights or with nonzeros alone, the same network but for
            rounding; with which precision; how images lie in memory. It is computed with all weights while masks
            change, and in bf16.
        learn_scales: whether alpha and beta are learned (stage 2) or stay as they are (stage 1).
        mask_rule: what becomes of the network's masks while it trains.
        checkpoints: where the training keeps its state while it is under way; without them it begins at its
            beginning after an interruption.
    """

    splits: Splits
    hyperparameters: Hyperparameters
    epochs: int
    seed: int
    device: torch.device
    data: DataSection
    run: RunSection = field(default_factory=RunSection)
    learn_scales: bool = False
    mask_rule: MakeRule = FixedMasks
    checkpoints: Checkpoints | None = None

    @property
    def precision(self) -> torch.dtype:
        """What layers compute in while the network trains."""
        asked = self.run.precision
        if asked == "auto":
            has_it = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            asked = "bf16" if has_it else "float32"
        return torch.bfloat16 if asked == "bf16" else torch.float32

    def memory_format(self, network: Network) -> torch.memory_format:
        """How a batch of images (N, C, H, W) lies in memory; convolutions follow it.

        A user's own network may view what is channels_last as what it is not, so it gets that only when told to.
        """
        asked = self.run.memory_format
        own = is_reference(network.specification.model)
        last = asked == "channels_last" or (asked == "auto" and self.device.type == "cuda" and not own)
        return torch.channels_last if last else torch.contiguous_format

    @property
    def execution(self) -> Execution:
        """How the network is executed while it trains."""
        changing = self.mask_rule is not FixedMasks
        return "dense" if changing or self.precision is torch.bfloat16 else self.run.execution

    def key(self, networks: Sequence[Network]) -> str:
        """Equal for trainings in one run that train the same networks in the same way.

        The device may change when a run goes on, and with it how the optimizer's state is laid out.
        """
        chosen, device = self.hyperparameters.model_dump(), self.device.type
        fingerprints = [network.fingerprint for network in networks]
        return digest(fingerprints, chosen, self.epochs, self.seed, self.learn_scales, device)


def digest(*values: object) -> str:
    """Equal for equal plain values: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


@dataclass
class Standing:
    """Where a network stands in its training.

    Attributes:
        best: the network as it was after its best epoch; the one given before there is one.
        best_epoch: the epoch of the highest validation accuracy, among those after which the network had reached
            its sparsity; 0 before the first of them.
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


class Cohort:
    """Trains networks side by side, an epoch at a time, and remembers the best weights of each.

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
        NotTogetherError: several networks that can only be trained one at a time.
    """

    def __init__(self, networks: Sequence[Network], training: Training) -> None:
        self.networks = networks
        self.training = training
        self.epoch = 0
        self.core_seconds = 0.0
        self.standings = [Standing(network) for network in networks]
        first = networks[0]
        self._memory_format = training.memory_format(first)
        with enough_memory(training.device, "the network with all images"):
            self._train = training.splits.train.to(training.device)
            self._validation = training.splits.validation.to(training.device)
            self._team = _team(networks, training)
        if not training.learn_scales:
            self._team.freeze_scales()
        steps = training.epochs * batch_count(len(self._train), training.hyperparameters.batch_size)
        weights = self._team.prunable
        masks = {name: mask for name, mask in first.masks.items() if name in weights}
        self._rule = training.mask_rule(weights, masks, steps)
        self._optimizer = _optimizer(self._team, training.hyperparameters)
        self._schedule = SCHEDULES[training.hyperparameters.schedule](self._optimizer, training.epochs)
        self._kept_at = time.monotonic()
        self._key = training.key(networks) if training.checkpoints else ""
        if training.checkpoints and (kept := training.checkpoints.load(self._key)):
            self.load_state_dict(kept)
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
        with enough_memory(self.training.device, f"a step of training with {self._batch}"):
            losses = self._pass_over_training_images()
        self.epoch += 1
        self._validate([math.isfinite(loss) for loss in losses])
        self.core_seconds += time.process_time() - start
        self._keep()

    @property
    def over(self) -> bool:
        """Whether no epoch is left to train."""
        return self.diverged or self.epoch >= self.training.epochs

    @property
    def _batch(self) -> str:
        """A batch in words."""
        shape = "x".join(map(str, self._train.images.shape[1:]))
        return f"{counted(self.training.hyperparameters.batch_size, 'image')} of {shape}"

    def _validate(self, finite: Sequence[bool]) -> None:
        """The validation accuracies, which the schedule and the best networks follow.

        Args:
            finite: whether the loss of each network is.
        """
        measured = accuracies(self._team, self._validation) if any(finite) else [0.0] * len(finite)
        for number, standing in enumerate(self.standings):
            if standing.diverged:
                continue
            standing.diverged = not finite[number]
            standing.curve = (*standing.curve, measured[number] if finite[number] else 0.0)
            better = standing.accuracy > standing.best_accuracy or not standing.best_epoch
            if self._rule.complete and better and not standing.diverged:
                standing.best_epoch, standing.best_accuracy = self.epoch, standing.accuracy
                standing.best = self.current(number)
        if isinstance(self._schedule, lr_scheduler.ReduceLROnPlateau):
            self._schedule.step(self.standings[0].accuracy)
        else:
            self._schedule.step()

    def _keep(self) -> None:
        """Write a checkpoint when the last one is old, and after a long training: a stage may be made of several."""
        checkpoints = self.training.checkpoints
        if not checkpoints:
            return
        ended = self.epoch == self.training.epochs and self.core_seconds >= checkpoints.seconds
        if ended or time.monotonic() - self._kept_at >= checkpoints.seconds:
            checkpoints.save(self._key, self.state_dict())
            self._kept_at = time.monotonic()

    def forget(self) -> None:
        """Delete the checkpoint: what the training was for is on storage."""
        if self.training.checkpoints:
            self.training.checkpoints.remove(self._key)

    def current(self, number: int = 0) -> Network:
        """A network as it is now."""
        network = self.networks[number]
        masks = {name: mask.cpu() for name, mask in self._rule.masks.items()}
        return replace(network, state=self._team.state(number), masks={**network.masks, **masks})

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`load_state_dict` needs to go on bit for bit; plain values and tensors."""
        return {
            "epoch": self.epoch,
            "core_seconds": self.core_seconds,
            "standings": [standing.state_dict() for standing in self.standings],
            "mask_rule": self._rule.state_dict(),
            "networks": [self._team.state(number) for number in range(len(self.networks))],
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.core_seconds = state["epoch"], state["core_seconds"]
        for standing, kept in zip(self.standings, state["standings"], strict=True):
            standing.load_state_dict(kept)
        self._rule.load_state_dict(state["mask_rule"])
        for number, network in enumerate(state["networks"]):
            self._team.load(number, network)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])

    def _pass_over_training_images(self) -> list[float]:
        """One epoch of weight updates; returns the mean loss of each network."""
        self._team.train()
        training = self.training
        draws = generator(training.seed, "augmentation", self.epoch)
        order = generator(training.seed, "batches", self.epoch)
        augment = augmentation(training.data.crop, training.data.flip, draws)
        total = torch.zeros(len(self.networks), device=training.device)  # there: no synchronisation per batch
        for batch in batches(self._train, training.hyperparameters.batch_size, order, augment):
            images = batch.images.contiguous(memory_format=self._memory_format)
            losses = self._team.learn(images, batch.labels, training.precision)
            self._rule.before_step()
            self._optimizer.step()
            self._rule.after_step(self._optimizer)
            total += losses * len(batch)
        return [loss / len(self._train) for loss in total.tolist()]


class Trainer(Cohort):
    """A cohort of one network."""

    def __init__(self, network: Network, training: Training) -> None:
        super().__init__([network], training)

    @property
    def accuracy(self) -> float:
        """As of its :class:`Standing`."""
        return self.standings[0].accuracy

    @property
    def curve(self) -> tuple[float, ...]:
        """As of its :class:`Standing`."""
        return self.standings[0].curve

    @property
    def best_accuracy(self) -> float:
        """As of its :class:`Standing`."""
        return self.standings[0].best_accuracy

    @property
    def best_epoch(self) -> int:
        """As of its :class:`Standing`."""
        return self.standings[0].best_epoch

    def best(self) -> Network:
        """The network as it was after its best epoch; the one given where there is none yet."""
        return self.standings[0].best

    def run(self, report: Report = silent) -> Trainer:
        """Train the epochs that are left, calling ``report(epochs done, validation accuracy)`` after each."""
        while not self.over:
            self.run_epoch()
            report(self.epoch, self.accuracy)
        return self


class Trained(NamedTuple):
    """What one training, or several, made.

    Attributes:
        accuracy: on the validation images, in [0, 1].
        core_seconds_before: CPU time that was spent on it before an interruption, in another process.
    """

    network: Network
    accuracy: float
    core_seconds_before: float


def train(network: Network, training: Training, report: Report, blamed: str | None) -> Trained:
    """Run a training to its end; the network after its best epoch, and that epoch's validation accuracy.

    Args:
        blamed: the key to refuse when the training diverges before it has a result; without one, the network as
            it was is the result.

    Raises:
        ConfigurationError: the training diverged before it had a result.
    """
    trainer = Trainer(network, training).run(report)
    if trainer.diverged and not trainer.best_epoch and blamed:
        raise diverging(training, blamed)
    best, reached = trainer.best(), trainer.best_accuracy
    if not trainer.best_epoch:
        reached = accuracy(best, training.splits.validation, training.device, training.run)
    return Trained(best, reached, trainer.core_seconds_before)


def diverging(training: Training, blamed: str) -> ConfigurationError:
    """The error of a training that came to nothing."""
    when = "in its first epoch" if training.mask_rule is FixedMasks else "before its masks are complete"
    rate = training.hyperparameters.learning_rate
    return refusal(blamed, rate, f"the training diverges {when}; take a smaller one")


def _team(networks: Sequence[Network], training: Training) -> Team:
    """What trains networks.

    Raises:
        NotTogetherError: several that can only be trained one at a time: by a schedule that follows a network's own
            accuracy, or as their execution is.
    """
    plateau = len(networks) > 1 and training.hyperparameters.schedule == "plateau"
    made = None if plateau else team(networks, training.execution, training.device, training.run.known_costs)
    if made is None:
        raise NotTogetherError(f"{len(networks)} networks of {networks[0].specification.model}")
    return made


def _optimizer(team: Team, hyperparameters: Hyperparameters) -> Optimizer:
    """The optimizer; weight decay spares the activations, which it would pull towards the zero function."""
    groups = [
        {"params": list(team.weights), "weight_decay": hyperparameters.weight_decay},
        {"params": list(team.scales), "weight_decay": 0.0},
    ]
    return OPTIMIZERS[hyperparameters.optimizer](groups, hyperparameters, team.tensors)
