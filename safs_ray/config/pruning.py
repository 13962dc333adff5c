"""How a dense network becomes sparse."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from safs_ray.config.hyperparameters import Hyperparameters
from safs_ray.config.names import SCHEDULES, SCORES, known
from safs_ray.config.recipes import AUTO, CHOSEN, RECIPES
from safs_ray.config.section import Count, Fraction, Images, Section, distinct

LEAST_EPOCHS = 4
"""Of recipe auto, whose first round takes a quarter."""


def _recipe(value: str | None) -> str | None:
    if value is None or value == AUTO or value in RECIPES:
        return value
    raise ValueError(f"allowed: {', '.join(RECIPES)}, auto or null")


def _listed(value: object) -> object:
    """A list as a tuple, for what validators before this one have looked at is no JSON any more."""
    return tuple(value) if isinstance(value, list) else value


def _recipes(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in RECIPES:
            raise ValueError(f"allowed: {', '.join(RECIPES)}")
    return distinct(names)


def _structure(value: str) -> str:
    if value in ("unstructured", *CHANNELS) or pattern_of(value) or block_of(value):
        return value
    raise ValueError(
        "must be unstructured, filters, heads, N:M with 0 < N < M <= 64, such as 2:4, or blocks:BxC with B and C from "
        "1 to 999, such as blocks:4x1"
    )


CHANNELS = ("filters", "heads")
"""Structures that remove whole channels, so that what is left is a smaller dense network."""


def pattern_of(structure: object) -> tuple[int, int] | None:
    """N and M of the structure N:M; None for any other."""
    match = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", structure) if isinstance(structure, str) else None
    if not match:
        return None
    n, m = int(match[1]), int(match[2])
    return (n, m) if n < m <= 64 else None


def block_of(structure: object) -> tuple[int, int] | None:
    """B outputs and C inputs of the structure blocks:BxC; None for any other."""
    match = re.fullmatch(r"blocks:([1-9]\d{0,2})x([1-9]\d{0,2})", structure) if isinstance(structure, str) else None
    return (int(match[1]), int(match[2])) if match else None


class PruningSection(Section):
    """How a dense network becomes sparse: score, allocation and structure choose the weights, the schedule when."""

    recipe: Annotated[str | None, AfterValidator(_recipe)] = Field(
        None,
        description=f"name for the choice of several keys that are known to work together: {', '.join(RECIPES)}; "
        "auto: the run tries recipes and takes the best; null: the keys below",
    )
    recipes: Annotated[tuple[str, ...], BeforeValidator(_listed), AfterValidator(_recipes)] = Field(
        (), description="recipe auto: recipes to try; []: all that go with the sparsity, structure and epochs"
    )
    sparsity: Fraction = Field(
        0.99,
        description="fraction of the convolution and linear weights that become zero; with structure filters or "
        "heads, fraction of these; with structure N:M, macs or latency, leave it out: it follows",
    )
    macs: float | None = Field(
        None,
        gt=0,
        le=1,
        description="in place of sparsity: fraction of the multiply-adds for one input that stays; "
        "sparsity is then the rest, and structure filters",
    )
    latency: float | None = Field(
        None,
        gt=0,
        le=1,
        description="in place of macs: fraction of the time for one input that stays, as measured before the run "
        "begins, in torch on one core; macs follows from it",
    )
    score: Annotated[str, known(SCORES)] = Field(
        "magnitude",
        description=f"how weights are ranked: {', '.join(SCORES)} or package.module:function",
    )
    allocation: Literal["layer", "global", "erk"] = Field(
        "layer",
        description="how many weights each layer keeps. layer: the same fraction in every layer; global: as one "
        "ranking over all layers decides; erk: a larger fraction in small layers (Erdos-Renyi kernel)",
    )
    structure: Annotated[str, AfterValidator(_structure)] = Field(
        "unstructured",
        description="what is pruned. unstructured: single weights; N:M, such as 2:4: all but the N highest of "
        "every M consecutive input weights; blocks:BxC, such as blocks:4x1: blocks of B outputs and C inputs; filters: "
        "whole filters and neurons with all that reads them, those that residual sums or gates tie together at once; "
        "heads: whole heads of attention",
    )
    schedule: Annotated[str, known(SCHEDULES)] = Field(
        "one shot",
        description="when weights become zero: one shot, gradual, iterative, gsm, swamp, rigl, envelope, turbo-vbi or "
        "package.module:function",
    )
    epochs: int = Field(
        20,
        ge=0,
        le=10**6,
        description="epochs of retraining; with iterative and swamp, of every round; "
        "with a recipe, of pruning and retraining in all",
    )
    until: float = Field(
        0.75,
        gt=0,
        le=1,
        description="gradual, gsm, rigl, envelope, turbo-vbi: fraction of the epochs after which the mask is final",
    )
    interval: Count = Field(
        100,
        description="gradual, rigl, turbo-vbi: training steps between two changes of the mask or its probabilities",
    )
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
    strength: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="envelope: weight of the penalty on all that is not among the largest, times the learning rate; "
        "turbo-vbi: of that on all that is not active",
    )
    images: Images = Field(
        1000, description="snip, grasp, taylor, fisher: number of training images that the score uses"
    )
    hyperparameters: Hyperparameters = Field(
        Hyperparameters(), description="hyperparameters of retraining, and the default ones of the sparse network"
    )

    @property
    def while_pruning(self) -> Hyperparameters:
        """Hyperparameters of the training that prunes: those of the recipe, or those of retraining."""
        recipe = RECIPES.get(self.recipe or "")
        return (recipe and recipe.hyperparameters) or self.hyperparameters

    @property
    def sparsities(self) -> list[float]:
        """The sparsity after each round; a single one for the schedules that know no rounds."""
        if self.schedule not in ("iterative", "swamp"):
            return [self.sparsity]
        left = 1 - self.fraction
        rounds = math.ceil(round(math.log(1 - self.sparsity, left), 9))  # rounded, lest an error add a round
        return [1 - left**index for index in range(1, rounds)] + [self.sparsity]

    @property
    def trainings(self) -> int:
        """How many trainings the schedule takes, one after the other."""
        return len(self.sparsities) * (self.particles if self.schedule == "swamp" else 1)

    @property
    def tried(self) -> tuple[str, ...]:
        """The recipes that ``auto`` tries: those named, or all that go with structure, sparsity and epochs."""
        return self.recipes or tuple(name for name in RECIPES if self._allows(name))

    def by(self, recipe: str, epochs: int) -> PruningSection:
        """The section with one recipe and so many epochs.

        Raises:
            ValueError: the recipe does not go with the structure.
        """
        values = self.model_dump(exclude={"recipe", "recipes", *CHOSEN})
        return PruningSection.model_validate({**values, "recipe": recipe, "epochs": epochs})

    def _allows(self, recipe: str) -> bool:
        fewest = self.epochs // LEAST_EPOCHS
        try:
            return self.by(recipe, max(1, fewest)).trainings <= fewest
        except ValueError:
            return False

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """N and M of the structure N:M; None for any other."""
        return pattern_of(self.structure)

    @property
    def block(self) -> tuple[int, int] | None:
        """B and C of the structure blocks:BxC; None for any other."""
        return block_of(self.structure)

    @property
    def prunes_channels(self) -> bool:
        """Whether whole channels go."""
        return self.structure in CHANNELS

    @model_validator(mode="before")
    @classmethod
    def _recipe_chooses(cls, values: Any) -> Any:
        name = values.get("recipe") if isinstance(values, dict) else None
        if not isinstance(name, str) or (name != AUTO and name not in RECIPES):
            return values
        defaults = {key: cls.model_fields[key].default for key in CHOSEN}
        chosen = defaults | (dict(RECIPES[name].keys) if name in RECIPES else {})
        for key, value in chosen.items():
            if key in values and values[key] != value:
                takes = "chooses it" if name == AUTO else f"takes {json.dumps(value)}"
                given = json.dumps(values[key])
                raise ValueError(f"{key}={given} does not go with recipe={name}, which {takes}; give one of them")
        return {**values, **chosen}

    @model_validator(mode="before")
    @classmethod
    def _sparsity_follows(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        latency, macs = values.get("latency"), values.get("macs")
        macs = latency if macs is None else macs  # until it is measured, and as good a guess as any
        if isinstance(macs, int | float) and 0 < macs <= 1:
            structure, sparsity = values.get("structure", "unstructured"), values.get("sparsity")
            if isinstance(sparsity, int | float) and abs(sparsity - (1 - macs)) > 1e-6:
                key = "latency" if values.get("macs") is None else "macs"
                raise ValueError(f"sparsity={sparsity:g} does not go with {key}={macs:g}; give one of them")
            return {
                **values,
                "sparsity": 1 - macs,
                "structure": "filters" if structure == "unstructured" else structure,
            }
        if "sparsity" not in values and (pattern := pattern_of(values.get("structure"))):
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
        training = self.while_pruning
        if self.schedule == "gsm" and not (training.optimizer == "sgd" and training.weight_decay):
            raise ValueError("schedule=gsm needs hyperparameters.optimizer=sgd and a weight_decay above 0")
        if self.recipes and self.recipe != AUTO:
            raise ValueError(f"recipes={','.join(self.recipes)} needs recipe=auto")
        for name in self.recipes:
            self.by(name, max(1, self.epochs))
        if self.recipe == AUTO and self.epochs < LEAST_EPOCHS:
            raise ValueError(f"epochs={self.epochs} leaves recipe=auto no time; allowed: {LEAST_EPOCHS} or more")
        return self

    def _rules(self) -> Iterator[tuple[str, str, tuple[object, ...]]]:
        """Choice, another key, and the values of that key which go with the choice."""
        for key in ("macs", "latency"):
            if (value := getattr(self, key)) is not None:
                yield f"{key}={value:g}", "structure", ("filters",)
        if pattern := self.n_of_m:
            follows = 1 - pattern[0] / pattern[1]
            near = abs(self.sparsity - follows) < 1e-6
            yield f"structure={self.structure}", "sparsity", (self.sparsity if near else round(follows, 6),)
            yield f"structure={self.structure}", "allocation", ("layer",)
            yield f"structure={self.structure}", "schedule", ("one shot",)
        if self.prunes_channels or self.block:
            chosen = f"structure={self.structure}"
            if self.prunes_channels:
                yield chosen, "allocation", ("layer", "global")
            if self.score == "grasp":  # whose lowest scores, the first to go, are negative
                yield chosen, "score", tuple(name for name in SCORES if name != "grasp")
            others = ("envelope", "turbo-vbi") if self.prunes_channels else ("gsm",)
            yield chosen, "schedule", ("one shot", "gradual", "iterative", "swamp", *others)
        if self.schedule in ("envelope", "turbo-vbi"):
            yield f"schedule={self.schedule}", "allocation", ("layer", "global")
        if self.schedule in ("gradual", "gsm", "envelope", "turbo-vbi"):
            yield f"schedule={self.schedule}", "score", ("magnitude",)
