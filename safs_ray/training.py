"""The only training loop of the package."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, autocast
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer, lr_scheduler

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import ConfigurationError, DataSection, Execution, Hyperparameters, RunSection, refusal
from safs_ray.data import Examples, Splits, augmentation, batch_count, batches
from safs_ray.network import Network
from safs_ray.optimizers import PER_TENSOR, Fromage, TAdam
from safs_ray.pruning.rules import FixedMasks, MakeRule
from safs_ray.randomness import generator
from safs_ray.references import is_reference
from safs_ray.sparse.execution import Executable, executable

EVALUATION_BATCH = 1000
"""Images in a batch without gradients, where they are no larger than 3x32x32; fewer of larger ones."""

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
            change, for optimizers that look at whole tensors, and in bf16.
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
        whole = self.mask_rule is not FixedMasks or self.hyperparameters.optimizer in PER_TENSOR
        return "dense" if whole or self.precision is torch.bfloat16 else self.run.execution

    def key(self, network: Network) -> str:
        """Equal for trainings in one run that train the same network in the same way."""
        chosen = self.hyperparameters.model_dump()
        return digest(network.fingerprint, chosen, self.epochs, self.seed, self.learn_scales)


def digest(*values: object) -> str:
    """Equal for equal plain values: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]


class Trainer:
    """Trains one network, an epoch at a time, and remembers the best weights that it saw.

    A training that was under way when its process died goes on from its latest checkpoint, bit for bit.

    Two trainers of the same seed draw the same batches and the same augmentation in every epoch, whatever
    network they train, so that differences between candidates are differences between candidates.

    Args:
        network: where training starts; it is not changed.

    Attributes:
        epoch: epochs done.
        accuracy: validation accuracy after the last of them, in [0, 1]; 0 before the first, and once it has diverged.
        curve: that accuracy after each of them.
        best_epoch: the epoch of the highest validation accuracy, among those after which the network had reached
            its sparsity; 0 before the first of them.
        best_accuracy: that accuracy, in [0, 1]; 0 before there is one.
        diverged: whether the loss became infinite or NaN; nothing is trained after that.
        core_seconds: CPU time of the epochs done, those before an interruption included.
    """

    def __init__(self, network: Network, training: Training) -> None:
        self.network = network
        self.training = training
        self.epoch = self.best_epoch = 0
        self.accuracy = self.best_accuracy = 0.0
        self.curve: tuple[float, ...] = ()
        self.diverged = False
        self.core_seconds = 0.0
        self._memory_format = training.memory_format(network)
        with _enough_memory(training.device, "the network with all images"):
            self._train = training.splits.train.to(training.device)
            self._validation = training.splits.validation.to(training.device)
            self._module = executable(network, training.execution, training.device)
        if not training.learn_scales:
            for activation in self._module.activations:
                activation.freeze_scales()
        steps = training.epochs * batch_count(len(self._train), training.hyperparameters.batch_size)
        weights = self._module.prunable
        masks = {name: mask for name, mask in network.masks.items() if name in weights}
        self._rule = training.mask_rule(weights, masks, steps)
        self._optimizer = _optimizer(self._module, training.hyperparameters)
        self._schedule = SCHEDULES[training.hyperparameters.schedule](self._optimizer, training.epochs)
        self._best = network
        self._kept_at = time.monotonic()
        self._key = training.key(network) if training.checkpoints else ""
        if training.checkpoints and (kept := training.checkpoints.load(self._key)):
            self.load_state_dict(kept)

    def run_epoch(self) -> float:
        """Train one epoch; returns the validation accuracy after it, in [0, 1], or 0 when it diverged."""
        if self.diverged:
            return 0.0
        start = time.process_time()
        with _enough_memory(self.training.device, f"a step of training with {self._batch}"):
            loss = self._pass_over_training_images()
        self.epoch += 1
        self.diverged = not math.isfinite(loss)
        self.accuracy = 0.0 if self.diverged else self._validate()
        self.curve = (*self.curve, self.accuracy)
        self.core_seconds += time.process_time() - start
        self._keep()
        return self.accuracy

    @property
    def over(self) -> bool:
        """Whether no epoch is left to train."""
        return self.diverged or self.epoch >= self.training.epochs

    @property
    def _batch(self) -> str:
        """A batch in words."""
        shape = "x".join(map(str, self._train.images.shape[1:]))
        return f"{self.training.hyperparameters.batch_size:,} images of {shape}"

    def _validate(self) -> float:
        """The validation accuracy, which the schedule and the best network follow."""
        accuracy = _accuracy(self._module, self._validation)
        if isinstance(self._schedule, lr_scheduler.ReduceLROnPlateau):
            self._schedule.step(accuracy)
        else:
            self._schedule.step()
        if self._rule.complete and (accuracy > self.best_accuracy or not self.best_epoch):
            self.best_epoch, self.best_accuracy = self.epoch, accuracy
            self._best = self.current()
        return accuracy

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

    def run(self, report: Report = silent) -> Trainer:
        """Train the epochs that are left, calling ``report(epochs done, validation accuracy)`` after each."""
        while not self.over:
            accuracy = self.run_epoch()
            report(self.epoch, accuracy)
        return self

    def best(self) -> Network:
        """The network as it was after its best epoch; the one given where there is none yet."""
        return self._best

    def current(self) -> Network:
        """The network as it is now."""
        masks = {name: mask.cpu() for name, mask in self._rule.masks.items()}
        return replace(self.network, state=self._module.state(), masks={**self.network.masks, **masks})

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`load_state_dict` needs to go on bit for bit; plain values and tensors."""
        return {
            "epoch": self.epoch,
            "accuracy": self.accuracy,
            "curve": self.curve,
            "core_seconds": self.core_seconds,
            "best_epoch": self.best_epoch,
            "best_accuracy": self.best_accuracy,
            "diverged": self.diverged,
            "best": {"state": dict(self._best.state), "masks": dict(self._best.masks)},
            "mask_rule": self._rule.state_dict(),
            "module": self._module.state(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.best_epoch = state["epoch"], state["best_epoch"]
        self.accuracy, self.core_seconds = state["accuracy"], state["core_seconds"]
        self.curve = tuple(state["curve"])
        self.best_accuracy = state["best_accuracy"]
        self.diverged = state["diverged"]
        self._best = replace(self.network, **state["best"])
        self._rule.load_state_dict(state["mask_rule"])
        self._module.load(state["module"])
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
            with autocast(training.device.type, training.precision, enabled=training.precision is torch.bfloat16):
                logits = self._module(batch.images.contiguous(memory_format=self._memory_format))
            loss = cross_entropy(logits.float(), batch.labels)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._rule.before_step()
            self._optimizer.step()
            self._rule.after_step(self._optimizer)
            total += loss.detach() * len(batch)
        return total.item() / len(self._train)


def train(network: Network, training: Training, report: Report, blamed: str | None) -> tuple[Network, float]:
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
    best = trainer.best()
    if trainer.best_epoch:
        return best, trainer.best_accuracy
    return best, accuracy(best, training.splits.validation, training.device, training.run.execution)


def diverging(training: Training, blamed: str) -> ConfigurationError:
    """The error of a training that came to nothing."""
    when = "in its first epoch" if training.mask_rule is FixedMasks else "before its masks are complete"
    rate = training.hyperparameters.learning_rate
    return refusal(blamed, rate, f"the training diverges {when}; take a smaller one")


def accuracy(network: Network, examples: Examples, device: torch.device, execution: Execution = "auto") -> float:
    """Fraction of the examples that the network classifies correctly."""
    with _enough_memory(device, "the network with all images"):
        module, examples = executable(network, execution, device), examples.to(device)
    return _accuracy(module, examples)


@contextmanager
def _enough_memory(device: torch.device, doing: str) -> Iterator[None]:
    """Say in one line what takes more memory than the device has, and the way out.

    Raises:
        MemoryError: it does.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"{doing} takes more memory than the {device.type} device has left; take a smaller batch_size, or give a "
            "trial more of it (tune.resources.gpu)"
        ) from error


def evaluation_batch(images: Tensor) -> int:
    """How many of such images (N, C, H, W) a batch without gradients takes."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_BATCH * 3 * 32 * 32 // math.prod(images.shape[1:])))


@torch.inference_mode()
def _accuracy(module: Executable, examples: Examples) -> float:
    module.eval()
    size = evaluation_batch(examples.images)
    with _enough_memory(examples.images.device, f"a batch of {size:,} images without gradients"):
        return _share_correct(module, examples, size)


def _share_correct(module: Executable, examples: Examples, size: int) -> float:
    correct = torch.zeros((), dtype=torch.int64, device=examples.labels.device)
    for images, labels in zip(torch.split(examples.images, size), torch.split(examples.labels, size), strict=True):
        logits = module(images)
        # The argmax of NaN is a class like any other: a broken network must not score by chance.
        correct += ((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum()
    return correct.item() / len(examples)


def _optimizer(module: Executable, hyperparameters: Hyperparameters) -> Optimizer:
    """The optimizer; weight decay spares the activations, which it would pull towards the zero function."""
    own = [parameter for activation in module.activations for parameter in activation.parameters()]
    groups = [
        {"params": list(module.weights), "weight_decay": hyperparameters.weight_decay},
        {"params": own, "weight_decay": 0.0},
    ]
    return OPTIMIZERS[hyperparameters.optimizer](groups, hyperparameters)


Groups = list[dict[str, Any]]

OPTIMIZERS: dict[str, Callable[[Groups, Hyperparameters], Optimizer]] = {
    "sgd": lambda groups, chosen: SGD(
        groups, lr=chosen.learning_rate, momentum=chosen.momentum, nesterov=chosen.nesterov, fused=True
    ),
    "adam": lambda groups, chosen: Adam(groups, lr=chosen.learning_rate, fused=True),
    "adamw": lambda groups, chosen: AdamW(groups, lr=chosen.learning_rate, fused=True),
    "tadam": lambda groups, chosen: TAdam(groups, lr=chosen.learning_rate),
    "fromage": lambda groups, chosen: Fromage(groups, lr=chosen.learning_rate),
}
"""Fused: one call for all parameters, of which sparse networks have many small ones."""

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
