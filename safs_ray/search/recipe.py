"""What makes the network of a row of the table from the pruned one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from safs_ray.config import Hyperparameters
from safs_ray.search.assignment import Assignment


@dataclass(frozen=True)
class Recipe:
    """How a row of the table trains the pruned network.

    Attributes:
        assignment: the operators that it gets first.
        learn_scales: whether alpha and beta are learned, or stay at 1.
    """

    assignment: Assignment
    hyperparameters: Hyperparameters
    learn_scales: bool

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "hyperparameters": self.hyperparameters.model_dump()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        chosen = Hyperparameters(**values["hyperparameters"])
        return cls(tuple(values["assignment"]), chosen, values["learn_scales"])
