"""How a dense network becomes sparse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from safs_ray.config.hyperparameters import Hyperparameters
from safs_ray.config.names import SCHEDULES, SCORES, known
from safs_ray.config.section import Count, Fraction, Images, Section


def _structure(value: str) -> str:
    if value in ("unstructured", "filters") or pattern_of(value):
        return value
    raise ValueError("must be unstructured, filters or N:M with 0 < N < M <= 64, such as 2:4")


def pattern_of(structure: object) -> tuple[int, int] | None:
    """N and M of the structure N:M; None for any other."""
    match = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", structure) if isinstance(structure, str) else None
    if not match:
        return None
    n, m = int(match[1]), int(match[2])
    return (n, m) if n < m <= 64 else None


class PruningSection(Section):
    """How a dense network becomes sparse: score, allocation and structure choose the weights, the schedule when."""

    sparsity: Fraction = Field(
        0.99,
        description="fraction of the convolution and linear weights that become zero; with structure filters, "
        "fraction of the filters; with structure N:M, leave it out: it follows",
    )
    score: Annotated[str, known(SCORES)] = Field(
        "magnitude",
        description="how weights are ranked: magnitude, random, snip, grasp, synflow or package.module:function",
    )
    allocation: Literal["layer", "global", "erk"] = Field(
        "layer",
        description="how many weights each layer keeps. layer: the same fraction in every layer; global: as one "
        "ranking over all layers decides; erk: a larger fraction in small layers (Erdos-Renyi kernel)",
    )
    structure: Annotated[str, AfterValidator(_structure)] = Field(
        "unstructured",
        description="what is pruned. unstructured: single weights; N:M, such as 2:4: all but the N highest of "
        "every M consecutive input weights; filters: whole filters",
    )
    schedule: Annotated[str, known(SCHEDULES)] = Field(
        "one shot",
        description="when weights become zero: one shot, gradual, iterative, gsm, swamp, rigl or "
        "package.module:function",
    )
    epochs: int = Field(
        20, ge=0, le=10**6, description="epochs of retraining; with iterative and swamp, of every round"
    )
    until: float = Field(
        0.75, gt=0, le=1, description="gradual, gsm, rigl: fraction of the epochs after which the mask is final"
    )
    interval: Count = Field(100, description="gradual, rigl: training steps between two changes of the mask")
    fraction: float = Field(
        0.2, ge=0.01, lt=1, description="iterative, swamp: fraction of the remaining weights that a round prunes"
    )
    rewind: int | None = Field(
        None,
        ge=0,
        le=10**6,
        description="iterative, swamp: every round starts from the weights after this many epochs of dense "
        "training; 0: from the initial weights (IMP); null: from the weights just trained (learning-rate "
        "rewinding)",
    )
    particles: int = Field(
        4, ge=2, le=1000, description="swamp: number of networks that each round trains and averages"
    )
    images: Images = Field(1000, description="snip, grasp: number of training images that the score uses")
    hyperparameters: Hyperparameters = Field(
        Hyperparameters(), description="hyperparameters of retraining, and the default ones of the sparse network"
    )

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """N and M of the structure N:M; None for any other."""
        return pattern_of(self.structure)

    @model_validator(mode="before")
    @classmethod
    def _sparsity_follows(cls, values: Any) -> Any:
        pattern = pattern_of(values.get("structure")) if isinstance(values, dict) else None
        if pattern and "sparsity" not in values:
            return {**values, "sparsity": 1 - pattern[0] / pattern[1]}
        return values

    @model_validator(mode="after")
    def _pieces_fit(self) -> PruningSection:
        for chosen, key, allowed in self._rules():
            value = getattr(self, key)
            if value not in allowed:
                raise ValueError(f"{key}={value} does not go with {chosen}; allowed: {', '.join(map(str, allowed))}")
        if self.schedule != "one shot" and not self.epochs:
            raise ValueError(f"epochs=0 leaves schedule={self.schedule} no time; allowed: 1 or more")
        if self.rewind is not None and self.schedule not in ("iterative", "swamp"):
            raise ValueError(f"rewind={self.rewind} does not go with schedule={self.schedule}; allowed: null")
        retraining = self.hyperparameters
        if self.schedule == "gsm" and not (retraining.optimizer == "sgd" and retraining.weight_decay):
            raise ValueError("schedule=gsm needs hyperparameters.optimizer=sgd and a weight_decay above 0")
        return self

    def _rules(self) -> Iterator[tuple[str, str, tuple[object, ...]]]:
        """Choice, another key, and the values of that key which go with the choice."""
        if pattern := self.n_of_m:
            follows = 1 - pattern[0] / pattern[1]
            near = abs(self.sparsity - follows) < 1e-6
            yield f"structure={self.structure}", "sparsity", (self.sparsity if near else round(follows, 6),)
            yield f"structure={self.structure}", "allocation", ("layer",)
            yield f"structure={self.structure}", "schedule", ("one shot",)
        if self.structure == "filters":
            yield "structure=filters", "allocation", ("layer", "global")
            yield "structure=filters", "schedule", ("one shot", "gradual", "iterative", "swamp")
        if self.schedule in ("gradual", "gsm"):
            yield f"schedule={self.schedule}", "score", ("magnitude",)
