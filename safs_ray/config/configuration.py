"""A whole run, and the rules between its sections."""

from __future__ import annotations

from pydantic import model_validator

from safs_ray.config.names import REFERENCE
from safs_ray.config.pruning import PruningSection
from safs_ray.config.recipes import AUTO
from safs_ray.config.refusals import counted
from safs_ray.config.run import RunSection
from safs_ray.config.search import FinetuneSection, SearchSection
from safs_ray.config.section import Section
from safs_ray.config.start import DataSection, DenseSection, ModelSection
from safs_ray.config.training import TrainingSection
from safs_ray.config.tune import FinalSection, TuneSection


class Configuration(Section):
    """A whole run."""

    run: RunSection = RunSection()
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    dense: DenseSection = DenseSection()
    training: TrainingSection = TrainingSection()
    pruning: PruningSection = PruningSection()
    search: SearchSection = SearchSection()
    finetune: FinetuneSection = FinetuneSection()
    tune: TuneSection = TuneSection()
    final: FinalSection = FinalSection()

    @property
    def whole(self) -> int:
        """Steps of a whole trial: evaluations if the protocol is joint, and fine-tuning."""
        evaluations = self.search.steps if self.search.protocol == "joint" else 0
        return evaluations + self.finetune.stretches

    @property
    def iterations(self) -> int:
        """Steps of a trial that is never stopped: all, or as many as tune.max_t allows."""
        return self.tune.max_t or self.whole

    @property
    def location(self) -> str:
        """Path or URI of the run folder."""
        storage = self.run.storage
        address, mark, query = storage.partition("?") if "://" in storage else (storage, "", "")
        return f"{address.rstrip('/')}/{self.run.name}{mark}{query}"

    @model_validator(mode="after")
    def _pieces_fit(self) -> Configuration:
        held_out = self.final.folds * self.data.validation
        if held_out > 0.5 + 1e-6:  # three folds of 0.1666667 are a half
            raise ValueError(
                f"final.folds={self.final.folds} folds of data.validation={self.data.validation:g} hold back "
                f"{held_out:.0%} of the training images from the search; allowed: at most half"
            )
        if (self.pruning.rewind or 0) > self.dense.epochs:
            raise ValueError(
                f"pruning.rewind={self.pruning.rewind} lies beyond dense.epochs={self.dense.epochs}; "
                f"allowed: 0 to {self.dense.epochs}"
            )
        if self.search.when == "during" and self.pruning.schedule != "gradual":
            raise ValueError(
                f"pruning.schedule={self.pruning.schedule} does not go with search.when=during; allowed: gradual"
            )
        if self.search.when != "after" and self.pruning.recipe == AUTO:
            raise ValueError(f"search.when={self.search.when} does not go with pruning.recipe=auto; allowed: after")
        if self.run.execution == "sparse" and self.run.precision == "bf16":
            raise ValueError("run.execution=sparse does not go with run.precision=bf16; allowed: auto, float32")
        if self.model.weights and self.pruning.rewind is not None:
            raise ValueError(
                f"pruning.rewind={self.pruning.rewind} does not go with model.weights, whose training is not known; "
                "allowed: null"
            )
        if self.run.budget and self.tune.warm_start:
            raise ValueError(
                f"run.budget={self.run.budget} does not go with tune.warm_start, whose dense and pruned networks are "
                "there already; allowed: null"
            )
        if self.model.pruned and self.search.when != "after":
            raise ValueError(f"search.when={self.search.when} does not go with model.pruned=true; allowed: after")
        if self.training.distillation.share and (lacks := self._lacks_teacher):
            share = f"training.distillation.share={self.training.distillation.share:g}"
            raise ValueError(f"{share} needs a dense network to learn from, and {lacks}; allowed: 0")
        return self

    @property
    def _lacks_teacher(self) -> str:
        """Why no dense network is known that classifies; a user's own function may return one that is trained."""
        if self.model.pruned:
            return "model.pruned=true begins with a sparse one"
        untrained = not (self.dense.epochs or self.model.weights or REFERENCE.fullmatch(self.model.name))
        return "dense.epochs=0 leaves it untrained" if untrained else ""

    @model_validator(mode="after")
    def _rungs_lie_within_a_trial(self) -> Configuration:
        tune = self.tune
        if self.iterations > self.whole:
            raise ValueError(f"tune.max_t={tune.max_t} exceeds the {counted(self.whole, 'step')} of a trial")
        if tune.scheduler == "none":
            return self
        if tune.grace_period > self.iterations:
            end = f"tune.max_t={tune.max_t}" if tune.max_t else f"the {counted(self.whole, 'step')} of a trial"
            raise ValueError(f"tune.grace_period={tune.grace_period} exceeds {end}")
        grace = tune.grace_period * tune.reduction_factor ** (tune.brackets - 1)
        if grace > self.iterations:
            raise ValueError(
                f"tune.brackets={tune.brackets} gives the last one a grace period of {counted(grace, 'step')} "
                "(tune.grace_period times tune.reduction_factor for each bracket before it), beyond the "
                f"{self.iterations} of a trial"
            )
        return self
