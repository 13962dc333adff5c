"""How assignments are searched, and the best of a trial fine-tuned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from safs_ray.config.names import OPERATORS, STRATEGIES, VARIANTS, known
from safs_ray.config.section import Count, Section

Move = Literal["redraw", "redraw and swap"]


class LahcSection(Section):
    history: int = Field(
        3,
        ge=1,
        le=10**5,
        description="a candidate is accepted if it is no worse than the current assignment, or than the one that "
        "was current so many evaluations ago",
    )
    walks: int = Field(
        1,
        ge=1,
        le=64,
        description="number of hill climbers that take turns in a chain. The first starts from the starting "
        "assignment, the others from random ones; their candidates are trained side by side, which is faster for "
        "small sparse networks",
    )


class AnnealingSection(Section):
    initial_temperature: float = Field(
        1e4, ge=1e-6, le=1e12, description="temperature for the first neighbour, in units of cost"
    )
    final_temperature: float = Field(
        10.0, ge=1e-6, le=1e12, description="temperature for the last neighbour, in units of cost"
    )

    @model_validator(mode="after")
    def _cools(self) -> AnnealingSection:
        if self.final_temperature > self.initial_temperature:
            raise ValueError(
                f"final_temperature={self.final_temperature:g} must not exceed "
                f"initial_temperature={self.initial_temperature:g}"
            )
        return self


class GeneticSection(Section):
    population: int = Field(5, ge=2, le=10**6, description="number of assignments in a generation")
    crossover: float = Field(0.8, ge=0, le=1, description="probability that a child has two parents")
    mutation: float = Field(0.3, ge=0, le=1, description="probability that one site of a child gets another operator")
    elites: int = Field(
        1,
        ge=0,
        le=10**6,
        description="how many of the best assignments stay in the next generation, without a new evaluation",
    )

    @model_validator(mode="after")
    def _has_children(self) -> GeneticSection:
        if self.elites >= self.population:
            raise ValueError(f"elites={self.elites} must be below population={self.population}")
        return self


class TpeSection(Section):
    startup: int = Field(10, ge=0, le=10**6, description="number of random assignments before the model proposes")
    gamma: float = Field(0.25, gt=0, le=100, description="the model imitates the best gamma * sqrt(n) of n evaluations")


class SearchSection(Section):
    protocol: Literal["joint", "staged"] = Field(
        "joint",
        description="joint: every trial searches with its own hyperparameters. staged, as published: chains "
        "search with the default hyperparameters, then trials search the hyperparameters of the assignment found",
    )
    chains: int = Field(
        1,
        ge=1,
        le=10**4,
        description="number of chains in stage 1; protocol staged only, since in protocol joint each trial has one",
    )
    when: Literal["after", "before", "during"] = Field(
        "after",
        description="after: the search starts from the pruned network; before: from the dense network, which is "
        "then pruned with the operators found; during: from the dense network, which every training prunes "
        "(schedule gradual)",
    )
    operators: tuple[Annotated[str, known(OPERATORS, VARIANTS, "unknown operator; ")], ...] = Field(
        (
            "relu", "relu6", "hardswish", "swish", "tanhsoft1", "acon", "gelu",
            "srs", "elu", "tanh", "softplus", "logsigmoid", "symlog", "symexp",
        ),
        min_length=2,
        description="operators that a site may take; name your own as package.module:function",
    )  # fmt: skip
    granularity: Literal["layer", "network", "group"] = Field(
        "layer",
        description="what gets an operator of its own. layer: each site; network: all sites together; group: each "
        "group of channels",
    )
    groups: int = Field(
        2, ge=2, le=10**4, description="number of groups of channels at each site, with granularity group"
    )
    steps: int = Field(
        20,
        ge=0,
        le=10**6,
        description="number of evaluations in a chain, including that of the starting assignment; 0: no search, so "
        "that the table has the rows dense and pruned alone",
    )
    epochs: Count = Field(10, description="epochs of an evaluation")
    start: Literal["default", "random"] = Field(
        "default", description="starting assignment. default: the network's own activations; random: a random one"
    )
    share: Literal["none", "best"] = Field(
        "none",
        description="where a new chain starts. none: from the starting assignment; best: from the best assignment "
        "that any chain has found so far",
    )
    strategy: Annotated[str, known(STRATEGIES)] = Field(
        "lahc",
        description="strategy that proposes assignments: lahc, random, annealing, genetic, tpe or "
        "package.module:function",
    )
    move: Move = Field(
        "redraw and swap",
        description="lahc, annealing: how a neighbour is made. redraw: one site gets another operator; redraw and "
        "swap: then two sites are swapped, too",
    )
    predictor: Literal["none", "linear"] = Field(
        "none",
        description="lahc: how the next neighbour is chosen. none: at random; linear: as the most promising of 16 "
        "by a linear model of the costs that the chain has seen",
    )
    lahc: LahcSection = Field(LahcSection(), description="settings of Late Acceptance Hill Climbing")
    annealing: AnnealingSection = Field(AnnealingSection(), description="settings of simulated annealing")
    genetic: GeneticSection = Field(GeneticSection(), description="settings of the genetic algorithm")
    tpe: TpeSection = Field(TpeSection(), description="settings of the tree-structured Parzen estimator")

    @model_validator(mode="after")
    def _predicts_for_lahc(self) -> SearchSection:
        if self.predictor != "none" and self.strategy != "lahc":
            raise ValueError(f"predictor={self.predictor} does not go with strategy={self.strategy}; allowed: none")
        return self


class FinetuneSection(Section):
    epochs: Count = Field(30, description="epochs of fine-tuning, which learns the scales alpha and beta")
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
