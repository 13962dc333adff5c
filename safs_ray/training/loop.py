"""A training loop of the user's own, and what keeps it honest."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from safs_ray.activations import ScaledActivation
from safs_ray.checkpoints import require_plain
from safs_ray.config import ConfigurationError, Hyperparameters, refusal
from safs_ray.data import Examples
from safs_ray.models import Specification
from safs_ray.network import Network, load_state, state_of
from safs_ray.optimizers import OPTIMIZERS
from safs_ray.pruning.holding import Holding
from safs_ray.randomness import GlobalGenerators
from safs_ray.references import resolve
from safs_ray.training.pausing import Pausing
from safs_ray.training.trainer import AloneError, Standing
from safs_ray.training.training import Training

LOOKS = 3
"""Forward passes at the beginning before which the masks are checked; later they are when the loop reports."""


@dataclass(frozen=True)
class LoopContext:
    """What a loop of the user's own is given beside the module that it trains.

    Attributes:
        epochs: how long to train, in whatever unit the loop counts; 0: only return the score of the module as it is.
        done: epochs that were trained before an interruption, 0 without one; the module is as it was after them.
        state: what :meth:`report` was given then; None without an interruption.
        seed: of whatever the loop draws, in [0, 2**32). The global generators of torch, numpy and Python begin with it.
        device: where the module is.
        hyperparameters: as the search proposes them; what the loop does not read has no effect.
        train: examples to train on; empty where the loop knows its own.
        held_out: examples to score the module by: those for validation, or with ``test`` those for the test.
        test: whether the score is for the last line of the table: of what nothing was chosen by.
    """

    epochs: int
    done: int
    state: dict[str, Any] | None
    seed: int
    device: torch.device
    hyperparameters: Hyperparameters
    train: Examples
    held_out: Examples
    test: bool
    _module: nn.Module
    _specification: Specification
    _holding: Holding
    _take: Callable[[int, object, dict[str, Any] | None], None]

    def report(self, epoch: int, score: float, state: dict[str, Any] | None = None) -> None:
        """Tell how good the module is now; the loop may wait here, or end here for good.

        Args:
            epoch: epochs done, from 1; more than at the last report.
            score: which is maximised.
            state: plain values and tensors from which the loop can go on after an interruption, such as
                ``optimizer.state_dict()``. Weights and global generators are kept beside it.
        """
        self._take(epoch, score, state)

    def normalised(self, inputs: Tensor) -> Tensor:
        """Inputs of the run's examples (N, …) as the module takes them."""
        return self._specification.normalised(inputs)

    def optimizer(self) -> Optimizer:
        """A new optimizer of the module, as the hyperparameters say; weight decay spares the activations."""
        scales = {id(scale) for each in _activations(self._module) for scale in each.parameters()}
        chosen, parameters = self.hyperparameters, list(self._module.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [each for each in parameters if id(each) not in scales], "weight_decay": chosen.weight_decay},
            {"params": [each for each in parameters if id(each) in scales], "weight_decay": 0.0},
        ]
        return OPTIMIZERS[chosen.optimizer](groups, chosen, {})

    def hold(self) -> None:
        """Set the pruned weights to zero; for loops that move weights by no optimizer of torch."""
        self._holding.hold()


class LoopTrainer:
    """Trains a network by the user's loop, from one of its reports to the next: what a Trainer is to ours.

    The network is what the loop leaves, and its score what the loop returns, or else reports last.

    Args:
        networks: where training starts; only one at a time.
        training: its rule for masks is the fixed one.
        test: whether the score is for the last line of the table.

    Attributes:
        epoch: epochs reported; all of them once the loop has ended.
        core_seconds, core_seconds_before: as of a Trainer.
        diverged: whether the score became infinite, NaN, or as low as what stands for them.

    Raises:
        AloneError: several networks.
    """

    def __init__(self, networks: Sequence[Network], training: Training, test: bool = False) -> None:
        if len(networks) > 1:
            raise AloneError(f"{len(networks)} networks by task.loop")
        self.training, self._network, self._test = training, networks[0], test
        self.epoch, self.core_seconds, self.diverged = 0, 0.0, False
        self._curve: tuple[float, ...] = ()
        self._module = _trainable(self._network, training)
        self._holding = Holding(self._module, self._network.masks)
        self._generators = GlobalGenerators(self._seed)
        self._started, self._kept_at = time.process_time(), time.monotonic()
        self._checkpoint = training.checkpoint(networks)
        self._ended, self._state, self._forwards = False, None, 0
        if saved := self._checkpoint.load():
            self._load_state_dict(saved)
        self.core_seconds_before = self.core_seconds
        self._pausing = Pausing(self._call)

    @property
    def over(self) -> bool:
        """Whether nothing is left to train."""
        return self._ended or self.diverged

    @property
    def standing(self) -> Standing:
        """Where the network stands: as the loop has it, with its last score."""
        if self.diverged or not self._curve:
            return Standing(self._network, best_accuracy=self._worst, curve=self._curve, diverged=self.diverged)
        return Standing(self.current(), self.epoch, self._curve[-1], self._curve)

    @property
    def standings(self) -> list[Standing]:
        """The same, as a Trainer has it of several networks."""
        return [self.standing]

    def run_epoch(self) -> None:
        """Train to the next report, or to the end.

        Raises:
            ConfigurationError: the loop breaks a promise.
            Exception: whatever it raises.
        """
        if self.over:
            return
        self._started = time.process_time()
        with self._generators.used():
            returned = self._pausing.proceed()
        if self._pausing.ended:
            self._end(returned)
        self.core_seconds += time.process_time() - self._started
        if self.over:
            self._pausing.close()

    def run(self) -> LoopTrainer:
        """Train to the end; the context's report is told of every one of the loop's."""
        while not self.over:
            self.run_epoch()
            self.training.context.report(self.epoch, self._curve[-1])
        return self

    def current(self) -> Network:
        """The network as it is now.

        Raises:
            ConfigurationError: the loop has given it other tensors.
        """
        state = state_of(self._module)
        before = {name: (tensor.shape, tensor.dtype) for name, tensor in self._network.state.items()}
        if {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()} != before:
            raise self._refused("leaves a module whose tensors have other names, shapes or types")
        return replace(self._network, state=state)

    @property
    def measured(self) -> float:
        """The score of the network as it came, of a training of no epochs.

        Raises:
            ConfigurationError: the loop has trained it all the same, or the score is none.
        """
        changed = [
            name for name, tensor in self.current().state.items() if not _same(tensor, self._network.state[name])
        ]
        if changed:
            raise self._refused(f"changes {changed[0]} when context.epochs is 0; it must only return the score then")
        if self.diverged:
            no_score = self.training.context.configuration.no_score
            raise self._refused(f"gives a score that is {no_score} when context.epochs is 0")
        return self._curve[-1]

    def forget(self) -> None:
        """End the loop where it waits, and delete the checkpoint."""
        self._pausing.close()
        self._checkpoint.remove()

    @property
    def _seed(self) -> int:
        return self.training.seed % 2**32  # what numpy and Lightning allow

    def _call(self, pause: Callable[[], None]) -> object:
        """Run the user's loop; what it returns."""
        training, splits = self.training, self.training.context.splits
        loop = resolve(cast(str, training.context.configuration.task.loop), "task.loop")

        def take(epoch: int, score: object, state: dict[str, Any] | None) -> None:
            self._take(epoch, score)
            self._keep(state)
            if epoch < training.epochs or self.diverged:
                pause()

        context = LoopContext(
            epochs=training.epochs,
            done=self.epoch,
            state=self._state,
            seed=self._seed,
            device=training.context.device,
            hyperparameters=training.hyperparameters,
            train=splits.train,
            held_out=splits.test if self._test else splits.validation,
            test=self._test,
            _module=self._module,
            _specification=self._network.specification,
            _holding=self._holding,
            _take=take,
        )
        looking = self._module.register_forward_pre_hook(_Looking(self._look))
        with self._holding.during():
            try:
                return loop(self._module, context)
            except SystemExit as error:
                raise self._refused(f"ends the process: sys.exit({error.code})") from None
            finally:
                looking.remove()

    def _look(self) -> None:
        """Check that the masks hold after the first steps, before any more time is spent."""
        self._forwards += 1
        if self._forwards > LOOKS or not (fault := self._holding.fault):
            return
        if not any(parameter.isnan().any() for parameter in self._module.parameters()):  # else the score tells it
            raise self._dense(fault)

    def _take(self, epoch: object, score: object) -> None:
        """Check a report, and note it."""
        number = _whole(epoch)
        if number is None or not self.epoch < number <= self.training.epochs:
            allowed = f"allowed: whole numbers above {self.epoch}, the last one, up to {self.training.epochs}"
            raise self._refused(f"reports epoch {epoch}; {allowed}")
        self.epoch = number
        self._score(score)

    def _end(self, returned: object) -> None:
        """Check what the loop leaves."""
        if returned is None and not self._curve:
            when = "of the module as it is, when context.epochs is 0" if not self.training.epochs else "at its end"
            raise self._refused(f"neither returns nor reports a score {when}")
        if returned is not None:
            self._curve = self._curve[:-1] if self.epoch == self.training.epochs else self._curve
            self._score(returned)
        elif fault := self._holding.fault:
            raise self._dense(fault)
        self.epoch, self._ended = self.training.epochs, True
        if self.core_seconds + time.process_time() - self._started >= self._checkpoint.seconds:
            self._checkpoint.save(self._state_dict(None))  # a stage may be made of several trainings

    def _score(self, score: object) -> None:
        """Note a score.

        Raises:
            ConfigurationError: it is no number, or not that of a network as sparse as the masks.
        """
        number = _number(score)
        if number is None:
            raise self._refused(f"gives {type(score).__name__} as a score; allowed: a number")
        self.diverged = not math.isfinite(number) or number <= self._worst
        if not self.diverged and (fault := self._holding.fault):
            raise self._dense(fault)
        self._curve = (*self._curve, self._worst if self.diverged else number)

    @property
    def _worst(self) -> float:
        return self.training.context.configuration.worst_score

    def _dense(self, fault: str) -> ConfigurationError:
        when = f"after epoch {self.epoch}" if self.epoch else "in its first epoch"
        how = "train the module that is given, and call context.hold() after steps that no optimizer of torch makes"
        return self._refused(f"{fault} {when}; {how}")

    def _refused(self, reason: str) -> ConfigurationError:
        return refusal("task.loop", self.training.context.configuration.task.loop, reason)

    def _keep(self, state: dict[str, Any] | None) -> None:
        """Write a checkpoint when the last one is old, and the loop says how it can go on.

        Raises:
            ConfigurationError: the state holds what could not be read back.
        """
        if state is None or time.monotonic() - self._kept_at < self._checkpoint.seconds:
            return
        try:
            require_plain(state)
        except Exception as error:  # whatever a user's objects make of it
            said = str(error).partition("\n")[0] if len(str(error)) < 200 else type(error).__name__
            unfit = f"reports a state that cannot be read back ({said}); allowed: plain values and tensors"
            raise self._refused(unfit) from None
        self._checkpoint.save(self._state_dict(state))
        self._kept_at = time.monotonic()

    def _state_dict(self, state: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "core_seconds": self.core_seconds + time.process_time() - self._started,
            "curve": self._curve,
            "ended": self._ended,
            "module": state_of(self._module),
            "generators": self._generators.state_dict(),
            "loop": state,
        }

    def _load_state_dict(self, saved: dict[str, Any]) -> None:
        self.epoch, self.core_seconds, self._ended = saved["epoch"], saved["core_seconds"], saved["ended"]
        self._curve, self._state = tuple(saved["curve"]), saved["loop"]
        load_state(self._module, saved["module"])
        with self._generators.used():
            self._generators.load_state_dict(saved["generators"])


class _Looking:
    """A hook that looks. That of a pickle or copy of the module does nothing, and none is part of a compiled graph."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._look = look

    def __call__(self, *_: object) -> None:
        if not torch.compiler.is_compiling():
            self._look()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Looking, (partial(bool),)


def _whole(number: object) -> int | None:
    """A whole number of any type, None for what is none."""
    if isinstance(number, bool):
        return None
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        value = _number(number)
        return int(value) if value is not None and value.is_integer() else None


def _number(score: object) -> float | None:
    """A number of any type, None for what is none."""
    if isinstance(score, str | bytes | bool):
        return None
    try:
        return float(score.detach() if isinstance(score, Tensor) else score)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def _trainable(network: Network, training: Training) -> nn.Module:
    """The network as a module, on the device and in training mode."""
    module = network.build().to(training.context.device)
    if not training.learn_scales:
        for activation in _activations(module):
            activation.freeze_scales()
    return module


def _same(tensor: Tensor, other: Tensor) -> bool:
    return torch.equal(tensor.nan_to_num(), other.nan_to_num())


def _activations(module: nn.Module) -> list[ScaledActivation]:
    return [child for child in module.modules() if isinstance(child, ScaledActivation)]
