"""How assignments are searched, and the best of a trial fine-tuned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from safs_ray.config.names import OPERATORS, STRATEGIES, VARIANTS, known
from safs_ray.config.section import Count, Section

Move = Literal["redraw", "redraw and swap"]


class LahcSection(Section):
    history: int = Field(3, ge=1, le=10**5, description="length of the history")
    walks: int = Field(
        1,
        ge=1,
        le=64,
        description="hill climbers that take turns in a chain, the first from the starting assignment, the others from "
        "random ones; their candidates are trained side by side, on small sparse networks in a fraction of the time",
    )


class AnnealingSection(Section):
    initial_temperature: float = Field(1e4, ge=1e-6, le=1e12, description="for the first neighbour, in units of cost")
    final_temperature: float = Field(10.0, ge=1e-6, le=1e12, description="for the last neighbour of the budget")

    @model_validator(mode="after")
    def _cools(self) -> AnnealingSection:
        if self.final_temperature > self.initial_temperature:
            raise ValueError(
                f"final_temperature={self.final_temperature:g} must not exceed "
                f"initial_temperature={self.initial_temperature:g}"
            )
        return self


class GeneticSection(Section):
    population: int = Field(5, ge=2, le=10**6, description="assignments in a generation")
    crossover: float = Field(0.8, ge=0, le=1, description="probability that a child has two parents")
    mutation: float = Field(0.3, ge=0, le=1, description="probability that one site of a child is redrawn")
    elites: int = Field(1, ge=0, le=10**6, description="best of a generation that live on, without a new evaluation")

    @model_validator(mode="after")
    def _has_children(self) -> GeneticSection:
        if self.elites >= self.population:
            raise ValueError(f"elites={self.elites} must be below population={self.population}")
        return self


class TpeSection(Section):
    startup: int = Field(10, ge=0, le=10**6, description="random assignments before the first of the model")
    gamma: float = Field(0.25, gt=0, le=100, description="of n evaluations, the best gamma * sqrt(n) are the good ones")


class SearchSection(Section):
    protocol: Literal["joint", "staged"] = Field(
        "joint",
        description="joint: every trial searches with its own hyperparameters; staged: as published, first the "
        "search with the default ones, then the hyperparameters of the assignment found",
    )
    chains: int = Field(
        1, ge=1, le=10**4, description="chains of stage 1, protocol staged only; in protocol joint each trial is one"
    )
    when: Literal["after", "before", "during"] = Field(
        "after",
        description="after: the search begins from the pruned network; before: from the dense one, which is pruned "
        "with what was found; during: from the dense one, which every training prunes by schedule gradual",
    )
    operators: tuple[Annotated[str, known(OPERATORS, VARIANTS, "unknown operator; ")], ...] = Field(
        (
            "relu", "relu6", "hardswish", "swish", "tanhsoft1", "acon", "gelu",
            "srs", "elu", "tanh", "softplus", "logsigmoid", "symlog", "symexp",
        ),
        min_length=2,
        description="operators that a site may take; your own as package.module:function",
    )  # fmt: skip
    granularity: Literal["layer", "network", "group"] = Field(
        "layer", description="what has an operator of its own: each site, all sites together, or groups of its channels"
    )
    groups: int = Field(2, ge=2, le=10**4, description="groups of channels at each site, where granularity is group")
    steps: Count = Field(20, description="evaluations of a chain, the starting assignment included")
    epochs: Count = Field(10, description="epochs of one evaluation")
    start: Literal["default", "random"] = Field(
        "default", description="starting assignment: the network's own activations, or random"
    )
    share: Literal["none", "best"] = Field(
        "none",
        description="what a new chain takes from those that are under way or done: nothing, or the best assignment so "
        "far to start from",
    )
    strategy: Annotated[str, known(STRATEGIES)] = Field(
        "lahc", description="what proposes: lahc, random, annealing, genetic, tpe or package.module:function"
    )
    move: Move = Field(
        "redraw and swap",
        description="what makes a neighbour for lahc and annealing: a redrawn site, then two sites swapped",
    )
    predictor: Literal["none", "linear"] = Field(
        "none",
        description="what chooses among 16 neighbours for lahc: nothing, it takes the first; linear: a model of the "
        "costs that the chain has seen",
    )
    lahc: LahcSection = Field(LahcSection(), description="of Late Acceptance Hill Climbing")
    annealing: AnnealingSection = Field(AnnealingSection(), description="of simulated annealing")
    genetic: GeneticSection = Field(GeneticSection(), description="of the genetic algorithm")
    tpe: TpeSection = Field(TpeSection(), description="of the tree-structured Parzen estimator")

    @model_validator(mode="after")
    def _predicts_for_lahc(self) -> SearchSection:
        if self.predictor != "none" and self.strategy != "lahc":
            raise ValueError(f"predictor={self.predictor} does not go with strategy={self.strategy}; allowed: none")
        return self


class FinetuneSection(Section):
    epochs: Count = Field(30, description="epochs of fine-tuning with learnable scales")
    epochs_per_step: Count = Field(5, description="epochs between two comparisons by ASHA")

    @model_validator(mode="after")
    def _whole_steps(self) -> FinetuneSection:
        if self.epochs % self.epochs_per_step:
            raise ValueError(f"epochs={self.epochs} must be a multiple of epochs_per_step={self.epochs_per_step}")
        return self

    @property
    def stretches(self) -> int:
        """Steps of a trial that fine-tune."""
        return self.epochs // self.epochs_per_step
