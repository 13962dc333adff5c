"""A whole run, and the rules between its sections."""

from __future__ import annotations

import json

from pydantic import model_validator

from safs_ray.config.names import REFERENCE
from safs_ray.config.pruning import PruningSection
from safs_ray.config.recipes import AUTO, RECIPES
from safs_ray.config.refusals import counted
from safs_ray.config.run import RunSection
from safs_ray.config.search import FinetuneSection, SearchSection
from safs_ray.config.section import Section
from safs_ray.config.start import LOSS_OF, DataSection, DenseSection, ModelSection
from safs_ray.config.task import WITHIN_TRAINING, TaskSection
from safs_ray.config.training import TrainingSection
from safs_ray.config.tune import FinalSection, TuneSection

OURS = {
    "data": ("crop", "flip", "loss", "metric", "class_weights"),
    "run": ("precision", "memory_format", "budget"),
    "training": ("label_smoothing", "distillation", "average"),
}
"""Keys by section that say how the loop of the package trains, and nothing to another."""


class Configuration(Section):
    """A whole run."""

    run: RunSection = RunSection()
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    task: TaskSection = TaskSection()
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
    def measure(self) -> str:
        """What tables and figures call a score."""
        return self.data.measure if self.task.loop is None else "score"

    @property
    def for_few_examples(self) -> Configuration:
        """The same by the task's own metric: a user's may need more examples than are looked at."""
        return self.model_copy(update={"data": self.data.model_copy(update={"metric": None})})

    @property
    def worst_score(self) -> float:
        """The score of what diverges; those of a user's own loop may be negative, and so low none has not diverged."""
        return 0.0 if self.task.loop is None else -1e9

    @property
    def no_score(self) -> str:
        """What the score of something that diverges is, in words."""
        return f"NaN, infinite or not above {self.worst_score:g}"

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

    @model_validator(mode="after")
    def _softened_classes_are_classes(self) -> Configuration:
        """A teacher's probabilities and smoothed labels belong to the cross-entropy of classes."""
        training, loss = self.training, self.data.chosen_loss
        softened = {
            "training.label_smoothing": training.label_smoothing,
            "training.distillation.share": training.distillation.share,
        }
        for key, value in softened.items():
            if value and loss != LOSS_OF["classification"]:
                raise ValueError(f"{key}={value:g} goes with cross entropy, and the loss is {loss}; allowed: 0")
        return self

    @property
    def _lacks_teacher(self) -> str:
        """Why no dense network is known that classifies; a user's own function may return one that is trained."""
        if self.model.pruned:
            return "model.pruned=true begins with a sparse one"
        untrained = not (self.dense.epochs or self.model.weights or REFERENCE.fullmatch(self.model.name))
        return "dense.epochs=0 leaves it untrained" if untrained else ""

    @model_validator(mode="after")
    def _suits_the_loop(self) -> Configuration:
        if self.task.loop is None:
            if self.data.unlabelled:
                raise ValueError(f"data.source={self.data.source} has no labels; it needs a task.loop that has its own")
            return self
        pruning, alone = self.pruning, "works inside the loop of the package, not with task.loop"
        if pruning.schedule in WITHIN_TRAINING:
            raise ValueError(
                f"pruning.schedule={pruning.schedule} {alone}; allowed: one shot, iterative or package.module:function"
            )
        recipes = pruning.tried if pruning.recipe == AUTO else ()
        for recipe in recipes:
            if RECIPES[recipe].keys["schedule"] in WITHIN_TRAINING:
                others = [name for name, each in RECIPES.items() if each.keys["schedule"] not in WITHIN_TRAINING]
                raise ValueError(
                    f"pruning.recipe=auto tries {recipe}, which {alone}; allowed: pruning.recipes=[{','.join(others)}] "
                    "or some of these"
                )
        if pruning.score in ("snip", "grasp", "taylor", "fisher"):
            raise ValueError(f"pruning.score={pruning.score} needs a loss that is known, not only task.loop's score")
        if pruning.rewind:
            raise ValueError(f"pruning.rewind={pruning.rewind} {alone}; allowed: null, 0")
        return self

    @model_validator(mode="after")
    def _leaves_training_to_the_loop(self) -> Configuration:
        if self.task.loop and self.run.execution == "sparse":
            raise ValueError("run.execution=sparse does not go with task.loop, which trains a torch module as it is")
        for name, keys in OURS.items() if self.task.loop else ():
            section: Section = getattr(self, name)
            for key in keys:
                value, default = getattr(section, key), type(section).model_fields[key].default
                if value != default:
                    given, allowed = (json.dumps(each, default=Section.model_dump) for each in (value, default))
                    raise ValueError(
                        f"{name}.{key}={given} is for the loop of the package; allowed with task.loop: {allowed}"
                    )
        return self

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
