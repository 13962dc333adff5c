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
    cpu: int = Field(1, ge=1, le=1024, description="threads of a trial or stage")
    gpu: Annotated[float | None, AfterValidator(_gpus)] = Field(
        None, ge=0, le=1024, description="GPUs of a trial or stage, fractions share one; default: 1 where there are any"
    )


class TuneSection(Section):
    trials: Count = Field(8, description="sets of hyperparameters to try")
    max_concurrent: Count | None = Field(None, description="trials at a time; default: as many as fit")
    searcher: Literal["hyperopt", "random"] = Field(
        "hyperopt", description="hyperopt: TPE, which learns from the trials that have ended; random"
    )
    scheduler: Literal["asha", "none"] = Field("asha", description="asha: stop weak trials; none: stop no trial")
    max_t: Count | None = Field(None, description="step at which a trial ends; default: its last")
    grace_period: Count = Field(4, description="steps before ASHA may stop a trial")
    reduction_factor: int = Field(2, ge=2, le=1000, description="ASHA keeps one in so many trials at each rung")
    brackets: int = Field(1, ge=1, le=16, description="groups of trials, each with a longer grace period in ASHA")
    resources: ResourcesSection = Field(ResourcesSection(), description="of each trial and stage")
    warm_start: HomePath | None = Field(
        None,
        description="folder of an earlier run of the same data, model, dense, pruning, run.seed, run.precision, "
        "search.when and final.folds: its networks are taken over, its evaluations are not made again, and HyperOpt "
        "learns from its trials",
    )
    space: SpaceSection = Field(SpaceSection(), description="what HyperOpt may propose")


class FinalSection(Section):
    folds: int = Field(
        3,
        ge=1,
        le=100,
        description="last trainings of each row, each on another fold; needs folds * data.validation <= 0.5",
    )
    epochs: Count = Field(30, description="epochs of the last training of every row of the table, and of finalists")
    finalists: int = Field(
        3,
        ge=1,
        le=100,
        description="best trials of a sweep that are trained again, on the images of the search, beside the default "
        "recipe (the network's own activations, default hyperparameters, no scales); the highest mean validation "
        "accuracy wins, and the default recipe wins ties",
    )
    seeds: int = Field(2, ge=1, le=100, description="trainings of each finalist, each with other batches")
    ablations: Annotated[tuple[Literal["stage 1", "stage 2"], ...], AfterValidator(distinct)] = Field(
        ("stage 1", "stage 2"),
        description="rows beside dense, pruned and SAFS; stage 1: SAFS's operators without scales, with the default "
        "hyperparameters; stage 2: the default activations with scales and hyperparameters of their own search",
    )
