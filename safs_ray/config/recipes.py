"""Pruning recipes: one name for keys that are known to work together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safs_ray.config.hyperparameters import Hyperparameters

AUTO = "auto"
"""What stands for a recipe where the run shall choose one."""


@dataclass(frozen=True)
class PruningRecipe:
    """A way to prune.

    Attributes:
        keys: of the section ``pruning``.
        hyperparameters: of the training that prunes; None for those of retraining.
    """

    keys: Mapping[str, Any]
    hyperparameters: Hyperparameters | None = None


def _keys(score: str, allocation: str, schedule: str, **others: Any) -> dict[str, Any]:
    return {"score": score, "allocation": allocation, "schedule": schedule, **others}


RECIPES: dict[str, PruningRecipe] = {
    "one-shot-layer": PruningRecipe(_keys("magnitude", "layer", "one shot")),
    "one-shot-global": PruningRecipe(_keys("magnitude", "global", "one shot")),
    "erk": PruningRecipe(_keys("magnitude", "erk", "one shot")),
    "synflow": PruningRecipe(_keys("synflow", "global", "one shot")),
    "gradual": PruningRecipe(_keys("magnitude", "global", "gradual")),
    "gsm": PruningRecipe(
        _keys("magnitude", "global", "gsm"),
        Hyperparameters(
            optimizer="sgd", learning_rate=1e-2, momentum=0.99, nesterov=True, weight_decay=2e-3, schedule="cosine"
        ),
    ),
    "rigl": PruningRecipe(_keys("magnitude", "erk", "rigl")),
    "swamp": PruningRecipe(_keys("magnitude", "global", "swamp", fraction=0.6, particles=2)),
    "iterative": PruningRecipe(_keys("magnitude", "global", "iterative", fraction=0.6)),
}

CHOSEN = ("score", "allocation", "schedule", "fraction", "particles", "rewind")
"""Keys that a recipe chooses, or leaves at their defaults."""
