"""What every stage of an experiment is given beside its network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration
from safs_ray.data import Splits

Report = Callable[[int, float], None]
"""Called after every epoch with the epochs done and the validation accuracy."""


def silent(_epoch: int, _accuracy: float) -> None:
    """A report that says nothing."""


@dataclass(frozen=True)
class Context:
    """What a stage computes with.

    Attributes:
        splits: ``train`` is trained on and ``validation`` measured after every epoch; only the final evaluation reads
            ``test``.
        report: is told of every epoch.
        checkpoints: where trainings that are under way keep their states; without them a training begins at its
            beginning after an interruption.
    """

    configuration: Configuration
    splits: Splits
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    report: Report = silent
    checkpoints: Checkpoints | None = None

    def after(self, epochs: int) -> Context:
        """The same for a training before which so many epochs were done."""
        report = self.report
        return replace(self, report=lambda epoch, accuracy: report(epochs + epoch, accuracy))

    @property
    def seed(self) -> int:
        """The run's seed, from which every other is derived."""
        return self.configuration.run.seed
