"""How many trials there are, with which resources, which of them go on, and what the table shows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from safs_ray.config.hyperparameters import SpaceSection
from safs_ray.config.section import Count, HomePath, Section, distinct


def _gpus(value: float | None) -> float | None:
    if value and value != round(value) and not 1e-4 <= value < 1:
        raise ValueError("must be 0, a fraction of one from 0.0001 on, or a whole number, as Ray wants it")
    return value


class ResourcesSection(Section):
    cpu: int = Field(1, ge=1, le=1024, description="number of threads of a trial or stage")
    gpu: Annotated[float | None, AfterValidator(_gpus)] = Field(
        None,
        ge=0,
        le=1024,
        description="number of GPUs of a trial or stage; a fraction shares one GPU; default: 1 if there is a GPU, "
        "else 0",
    )


class TuneSection(Section):
    trials: Count = Field(8, description="number of trials, each with its own hyperparameters")
    max_concurrent: Count | None = Field(None, description="number of trials at a time; default: as many as fit")
    searcher: Literal["hyperopt", "random"] = Field(
        "hyperopt",
        description="what proposes hyperparameters. hyperopt: TPE, which learns from the trials that have ended; "
        "random: draws at random",
    )
    scheduler: Literal["asha", "none"] = Field("asha", description="asha: stop weak trials early; none: stop no trial")
    max_t: Count | None = Field(None, description="step at which every trial ends; default: its last step")
    grace_period: Count = Field(4, description="number of steps before ASHA may stop a trial")
    reduction_factor: int = Field(2, ge=2, le=1000, description="at each rung ASHA lets one in so many trials go on")
    brackets: int = Field(
        1,
        ge=1,
        le=16,
        description="number of groups of trials that ASHA compares separately, each with a longer grace period "
        "than the last",
    )
    resources: ResourcesSection = Field(ResourcesSection(), description="resources of each trial and stage")
    warm_start: HomePath | None = Field(
        None,
        description="folder of an earlier run with the same data, model, task, dense, training, pruning, run.seed, "
        "run.precision, search.when and final.folds; this run takes over its networks and evaluations, and HyperOpt "
        "learns from its trials",
    )
    space: SpaceSection = Field(SpaceSection(), description="hyperparameters that HyperOpt may propose")


class FinalSection(Section):
    folds: int = Field(
        3,
        ge=1,
        le=100,
        description="number of folds on which every row of the table is trained and tested; folds * "
        "data.validation must be at most 0.5",
    )
    epochs: Count = Field(
        30, description="epochs of the final training of every row of the table, and of each training of a finalist"
    )
    finalists: int = Field(
        3,
        ge=1,
        le=100,
        description="number of best trials of a sweep that are trained again, on the images of the search, beside "
        "the default recipe (the network's own activations, the default hyperparameters, no scales). The default "
        "recipe wins unless the mean validation accuracy of another is higher by more than two standard errors",
    )
    seeds: int = Field(2, ge=1, le=100, description="number of trainings of each finalist, each with other batches")
    ablations: Annotated[tuple[Literal["stage 1", "stage 2"], ...], AfterValidator(distinct)] = Field(
        ("stage 1", "stage 2"),
        description="further rows of the table. stage 1: the operators of SAFS with the default hyperparameters, "
        "without scales; stage 2: the network's own activations with searched hyperparameters and learned scales",
    )
