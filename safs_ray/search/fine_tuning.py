"""The fine-tuning of the best candidate, a stretch at a time."""

from __future__ import annotations

from dataclasses import replace

from safs_ray.network import Network
from safs_ray.training import LoopTrainer, Trainer, Training, begin


class FineTuning:
    """Trains a network with learnable scales from the pruned weights (SAFS, stage 2).

    Args:
        training: of all its epochs.
        stretch: epochs of one step.
    """

    def __init__(self, network: Network, training: Training, stretch: int) -> None:
        self._network, self.training, self._stretch = network, training, stretch
        self._trainer: Trainer | LoopTrainer | None = None
        self._spent = 0.0

    def account(self, core_seconds: float) -> None:
        """Take out of the next stretch what was spent on those before it."""
        self._spent += core_seconds

    def after(self, stretches: int) -> Trainer | LoopTrainer:
        """The training after so many stretches, trained as far as it is not yet."""
        epochs = stretches * self._stretch
        self._trainer = trainer = self._trainer or self._begun(epochs)
        while trainer.epoch < epochs and not trainer.diverged:
            trainer.run_epoch()
        return trainer

    def _begun(self, epochs: int) -> Trainer | LoopTrainer:
        """The training as its checkpoint has it, unless that is younger than what is recorded."""
        trainer = begin([self._network], self.training)
        if trainer.epoch > epochs:
            without = replace(self.training.context, checkpoints=None)
            trainer = begin([self._network], replace(self.training, context=without))
        return trainer

    @property
    def unaccounted(self) -> float:
        """Core-seconds of the stretch that was trained last."""
        return max(0.0, self._trainer.core_seconds - self._spent) if self._trainer else 0.0

    def forget(self) -> None:
        """Delete the state of the training: nobody goes on with it."""
        if self._trainer:
            self._trainer.forget()
