"""How weights are trained, and what HyperOpt may propose for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from safs_ray.config.section import Images, Section, between, distinct

OptimizerName = Literal["sgd", "adam", "adamw", "tadam", "fromage"]
ScheduleName = Literal["constant", "cosine", "cosine warm restarts", "halving", "step", "linear", "plateau"]


class Hyperparameters(Section):
    """How weights are trained."""

    optimizer: OptimizerName = Field("adam", description="rule that updates the weights")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="initial learning rate")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty on the weights; the scales have none")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd; other optimizers ignore it")
    nesterov: bool = Field(False, description="use Nesterov's form of momentum; sgd only")
    schedule: ScheduleName = Field("constant", description="how the learning rate changes over the epochs")
    batch_size: Images = Field(256, description="number of images in a batch")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Hyperparameters:
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise ValueError("nesterov=true needs optimizer=sgd and a momentum above 0")
        return self


class Ranges(Section):
    """Values that HyperOpt may propose for one optimizer; a range with two equal ends fixes its value."""

    learning_rate: Annotated[tuple[float, float], between(1e-12, 10)] = Field(
        (1e-4, 1e-1), description="range of the learning rate, drawn log-uniformly"
    )
    weight_decay: Annotated[tuple[float, float], between(1e-12, 1)] = Field(
        (1e-5, 1e-1), description="range of the weight decay, drawn log-uniformly"
    )


class SgdRanges(Ranges):
    """Momentum and schedules are for sgd alone (SAFS, stage 2)."""

    momentum: Annotated[tuple[float, float], between(0, 0.9999)] = Field(
        (0.1, 0.999), description="range of the momentum, drawn uniformly"
    )
    schedules: Annotated[tuple[ScheduleName, ...], AfterValidator(distinct)] = Field(
        ("halving", "cosine warm restarts", "constant", "cosine", "step", "linear", "plateau"),
        min_length=1,
        description="learning-rate schedules to choose from",
    )


class SpaceSection(Section):
    """Each optimizer has a section of ranges, which is used if ``optimizers`` names the optimizer."""

    optimizers: Annotated[tuple[OptimizerName, ...], AfterValidator(distinct)] = Field(
        ("sgd", "adam", "tadam", "fromage"), min_length=1, description="optimizers to choose from"
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
