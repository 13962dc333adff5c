"""What a row of the table trains the pruned network with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from safs_ray.config import Hyperparameters
from safs_ray.search.assignment import Assignment


@dataclass(frozen=True)
class Recipe:
    """How a row of the table trains the pruned network."""

    assignment: Assignment
    hyperparameters: Hyperparameters
    learn_scales: bool

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "hyperparameters": self.hyperparameters.model_dump()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        chosen = Hyperparameters(**values["hyperparameters"])
        return cls(tuple(values["assignment"]), chosen, values["learn_scales"])
