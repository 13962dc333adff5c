"""How weights are trained, and what HyperOpt may propose for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from safs_ray.config.section import Images, Section, between, distinct

OptimizerName = Literal["sgd", "adam", "adamw", "tadam", "fromage"]
ScheduleName = Literal["constant", "cosine", "cosine warm restarts", "halving", "step", "linear", "plateau"]


class Hyperparameters(Section):
    """How weights are trained."""

    optimizer: OptimizerName = Field("adam", description="update rule")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="initial learning rate")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty on weights; never on the scales")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd; others ignore it")
    nesterov: bool = Field(False, description="Nesterov's form of sgd's momentum")
    schedule: ScheduleName = Field("constant", description="course of the learning rate over the epochs")
    batch_size: Images = Field(256, description="images in a batch")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Hyperparameters:
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError("nesterov=true needs optimizer=sgd and a momentum above 0")
        return self


class Ranges(Section):
    """What HyperOpt may propose for one optimizer; a range whose ends are equal fixes its value."""

    learning_rate: Annotated[tuple[float, float], between(1e-12, 10)] = Field(
        (1e-4, 1e-1), description="log-uniform range"
    )
    weight_decay: Annotated[tuple[float, float], between(1e-12, 1)] = Field(
        (1e-5, 1e-1), description="log-uniform range"
    )


class SgdRanges(Ranges):
    """Momentum and schedules are for sgd alone (SAFS, stage 2)."""

    momentum: Annotated[tuple[float, float], between(0, 0.9999)] = Field((0.1, 0.999), description="uniform range")
    schedules: Annotated[tuple[ScheduleName, ...], AfterValidator(distinct)] = Field(
        ("halving", "cosine warm restarts", "constant", "cosine", "step", "linear", "plateau"),
        min_length=1,
        description="choices",
    )


class SpaceSection(Section):
    """One section of ranges by the name of each optimizer; they count where the optimizer is a choice."""

    optimizers: Annotated[tuple[OptimizerName, ...], AfterValidator(distinct)] = Field(
        ("sgd", "adam", "tadam", "fromage"), min_length=1, description="choices"
    )
    sgd: SgdRanges = SgdRanges()
    adam: Ranges = Ranges()
    adamw: Ranges = Ranges()
    tadam: Ranges = Ranges()
    fromage: Ranges = Ranges()

    def of(self, optimizer: OptimizerName) -> Ranges:
        """The ranges of one optimizer."""
        ranges: Ranges = getattr(self, optimizer)
        return ranges
