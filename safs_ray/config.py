"""What a run is: validated sections, read from YAML and dotted overrides.

Every fraction is in [0, 1]. An unknown key, a wrong type or a value out of range raises
:class:`ConfigurationError` with one line that names the key, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator


class ConfigurationError(ValueError):
    """A user's mistake, told in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def refusal(key: str, value: object, allowed: str) -> ConfigurationError:
    """The error that names the key, the value and what is allowed."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return ConfigurationError(f"{key}={text if len(text) <= 80 else text[:77] + '...'}: {allowed}")


class Section(BaseModel):
    """A group of keys; immutable, no other key allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1, le=10**9)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _up_to(most: float) -> AfterValidator:
    """A check of a range that HyperOpt draws from."""

    def check(value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("must be [low, high] with 0 < low <= high")
        if value[1] > most:
            raise ValueError(f"must not reach beyond {most:g}")
        return value

    return AfterValidator(check)


OptimizerName = Literal["sgd", "adam", "adamw"]
ScheduleName = Literal["constant", "cosine", "cosine warm restarts", "halving", "step", "linear", "plateau"]


class Hyperparameters(Section):
    """How weights are trained."""

    optimizer: OptimizerName = Field("adam", description="update rule")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="initial learning rate")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty on weights; never on the scales")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of sgd; others ignore it")
    schedule: ScheduleName = Field("constant", description="course of the learning rate over the epochs")
    batch_size: Count = Field(256, description="images in a batch")


class RunSection(Section):
    name: str = Field("run", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", description="name of the run folder")
    storage: str = Field("runs", description="folder or URI (s3://, gs://) that holds run folders")
    seed: int = Field(0, ge=0, lt=2**63, description="seed from which every random draw of the run is derived")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when one is there")
    address: str = Field("local", description="Ray cluster: local, auto, or an address")


class DataSection(Section):
    source: str = Field("digits", description="digits, mnist, cifar10, parquet:FOLDER or imagefolder:FOLDER")
    folder: str = Field("data", description="where mnist and cifar10 lie or are downloaded to")
    size: int | None = Field(None, ge=4, le=1024, description="side in pixels to resize images to")
    validation: float = Field(0.1, gt=0, le=0.5, description="fraction of the training images that a fold validates on")
    limit: Count | None = Field(None, description="use only the first so many training and test images")
    crop: int = Field(0, ge=0, le=64, description="pixels of padding for random crops in training; 0: none")
    flip: bool = Field(False, description="random horizontal flips in training")


class ModelSection(Section):
    name: str = Field("lenet5", description="lenet5, mlp, vgg16 or resnet18")


class DenseSection(Section):
    epochs: Count = Field(30, description="passes over the training images")
    hyperparameters: Hyperparameters = Field(Hyperparameters(), description="of dense training")


class PruningSection(Section):
    sparsity: Fraction = Field(0.99, description="fraction of conv and linear weights that become zero")
    score: Literal["magnitude"] = Field("magnitude", description="what ranks weights")
    allocation: Literal["layer", "global"] = Field(
        "layer", description="layer: the same sparsity in every layer; global: one ranking over all layers"
    )
    epochs: int = Field(20, ge=0, description="epochs of retraining with the mask")
    hyperparameters: Hyperparameters = Field(
        Hyperparameters(), description="of retraining; also the default hyperparameters of the sparse network"
    )


Move = Literal["redraw", "redraw and swap"]


class LahcSection(Section):
    history: Count = Field(3, description="length of the history")


class AnnealingSection(Section):
    initial_temperature: float = Field(1e4, gt=0, description="for the first neighbour, in units of cost")
    final_temperature: float = Field(10.0, gt=0, description="for the last neighbour of the budget")

    @model_validator(mode="after")
    def _cools(self) -> AnnealingSection:
        if self.final_temperature > self.initial_temperature:
            raise ValueError(
                f"final_temperature={self.final_temperature:g} must not exceed "
                f"initial_temperature={self.initial_temperature:g}"
            )
        return self


class GeneticSection(Section):
    population: int = Field(5, ge=2, le=10**9, description="assignments in a generation")
    crossover: float = Field(0.8, ge=0, le=1, description="probability that a child has two parents")
    mutation: float = Field(0.3, ge=0, le=1, description="probability that one site of a child is redrawn")
    elites: int = Field(1, ge=0, le=10**9, description="best of a generation that live on, without a new evaluation")

    @model_validator(mode="after")
    def _has_children(self) -> GeneticSection:
        if self.elites >= self.population:
            raise ValueError(f"elites={self.elites} must be below population={self.population}")
        return self


class TpeSection(Section):
    startup: int = Field(10, ge=0, le=10**9, description="random assignments before the first of the model")
    gamma: float = Field(0.25, gt=0, description="of n evaluations, the best gamma * sqrt(n) are the good ones")


class SearchSection(Section):
    operators: tuple[str, ...] = Field(
        (
            "relu", "relu6", "hardswish", "swish", "tanhsoft1", "acon", "gelu",
            "srs", "elu", "tanh", "softplus", "logsigmoid", "symlog", "symexp",
        ),
        min_length=2,
        description="operators that a site may take",
    )  # fmt: skip
    steps: Count = Field(20, description="evaluations of a chain, the starting assignment included")
    epochs: Count = Field(10, description="epochs of one evaluation")
    start: Literal["default", "random"] = Field(
        "default", description="starting assignment: the network's own activations, or random"
    )
    strategy: Literal["lahc", "random", "annealing", "genetic", "tpe"] = Field("lahc", description="what proposes")
    move: Move = Field(
        "redraw and swap",
        description="what makes a neighbour for lahc and annealing: a redrawn site, then two sites swapped",
    )
    lahc: LahcSection = Field(LahcSection(), description="of Late Acceptance Hill Climbing")
    annealing: AnnealingSection = Field(AnnealingSection(), description="of simulated annealing")
    genetic: GeneticSection = Field(GeneticSection(), description="of the genetic algorithm")
    tpe: TpeSection = Field(TpeSection(), description="of the tree-structured Parzen estimator")


class FinetuneSection(Section):
    epochs: Count = Field(30, description="epochs of fine-tuning with learnable scales")
    epochs_per_step: Count = Field(5, description="epochs between two comparisons by ASHA")

    @model_validator(mode="after")
    def _whole_steps(self) -> FinetuneSection:
        if self.epochs % self.epochs_per_step:
            raise ValueError(f"epochs={self.epochs} must be a multiple of epochs_per_step={self.epochs_per_step}")
        return self


class SpaceSection(Section):
    optimizers: tuple[OptimizerName, ...] = Field(("sgd", "adam"), min_length=1, description="choices")
    learning_rate: Annotated[tuple[float, float], _up_to(10)] = Field((1e-4, 1e-1), description="log-uniform range")
    weight_decay: Annotated[tuple[float, float], _up_to(1)] = Field((1e-5, 1e-1), description="log-uniform range")
    momentum: Annotated[tuple[float, float], _up_to(0.9999)] = Field(
        (0.1, 0.999), description="uniform range, sgd only"
    )
    schedules: tuple[ScheduleName, ...] = Field(
        ("halving", "cosine warm restarts", "constant", "cosine", "step", "linear", "plateau"),
        min_length=1,
        description="choices, sgd only",
    )


class ResourcesSection(Section):
    cpu: Count = Field(1, description="threads of a trial or stage")
    gpu: float = Field(0.0, ge=0, description="GPUs of a trial or stage; fractions share one")


class TuneSection(Section):
    trials: Count = Field(8, description="sets of hyperparameters to try")
    max_concurrent: Count | None = Field(None, description="trials at a time; default: as many as fit")
    grace_period: Count = Field(4, description="steps before ASHA may stop a trial")
    reduction_factor: int = Field(2, ge=2, description="ASHA keeps one in so many trials at each rung")
    resources: ResourcesSection = Field(ResourcesSection(), description="of each trial and stage")
    space: SpaceSection = Field(SpaceSection(), description="what HyperOpt may propose")


class FinalSection(Section):
    folds: Count = Field(
        3, description="last trainings of each row, each on another fold; needs folds * data.validation <= 0.5"
    )
    epochs: Count = Field(30, description="epochs of the last training of every row of the table")


class Configuration(Section):
    """A whole run."""

    run: RunSection = RunSection()
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    dense: DenseSection = DenseSection()
    pruning: PruningSection = PruningSection()
    search: SearchSection = SearchSection()
    finetune: FinetuneSection = FinetuneSection()
    tune: TuneSection = TuneSection()
    final: FinalSection = FinalSection()

    @property
    def iterations(self) -> int:
        """Steps of a trial that is never stopped: evaluations, then fine-tuning."""
        return self.search.steps + self.finetune.epochs // self.finetune.epochs_per_step

    @property
    def location(self) -> str:
        """Path or URI of the run folder."""
        return f"{self.run.storage.rstrip('/')}/{self.run.name}"

    @model_validator(mode="after")
    def _pieces_fit(self) -> Configuration:
        held_out = self.final.folds * self.data.validation
        if held_out > 0.5:
            raise ValueError(
                f"final.folds={self.final.folds} folds of data.validation={self.data.validation:g} hold back "
                f"{held_out:.0%} of the training images from the search; allowed: at most half"
            )
        if self.tune.grace_period > self.iterations:
            raise ValueError(
                f"tune.grace_period={self.tune.grace_period} exceeds the {self.iterations} steps of a trial"
            )
        return self


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with two repairs: ``1e-3`` is a number, and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                continue
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Configuration:
    """Read a YAML file and apply ``key.path=value`` overrides; the values are YAML too.

    Raises:
        ConfigurationError: the file is missing or not YAML, or a key or value is not allowed.
    """
    return validate(_overridden(_read(Path(path)), overrides))


def validate(values: Mapping[str, Any]) -> Configuration:
    """Check nested keys and values.

    Raises:
        ConfigurationError: with the first fault found.
    """
    try:
        text = json.dumps(values, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise refusal("configuration", str(error), "only texts, numbers, lists and keys that are texts") from None
    try:
        return Configuration.model_validate_json(text)
    except ValidationError as error:
        raise _first_fault(error) from None


def dump(configuration: Configuration) -> str:
    """The configuration as YAML, every key written out."""
    return yaml.safe_dump(configuration.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except OSError as error:
        raise refusal("configuration", str(path), f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise refusal("configuration", str(path), "is not a text file") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> dict[str, Any]:
    """The mapping in a YAML text; ``name`` is what an error calls it."""
    try:
        values = yaml.load(text, _Loader)
    except Exception as error:  # YAML's constructors raise whatever their conversions raise
        raise refusal("configuration", name, f"is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise refusal("configuration", name, "must hold sections, such as 'search:', with keys")
    return values


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise refusal("override", override, "must be key.path=value, such as search.steps=5")
        try:
            value = yaml.load(text, _Loader)
        except Exception:  # as in parse
            raise refusal(key, text, "is not a YAML value") from None
        values = _with(values, key.split("."), value, key)
    return values


def _with(values: Mapping[str, Any], path: Sequence[str], value: object, key: str) -> dict[str, Any]:
    """A copy with one nested key set."""
    head, *rest = path
    if not rest:
        return {**values, head: value}
    inner = values.get(head) or {}
    if not isinstance(inner, Mapping):
        raise refusal(key, value, f"{head} is a value and has no keys of its own")
    return {**values, head: _with(inner, rest, value, key)}


def _first_fault(error: ValidationError) -> ConfigurationError:
    fault = error.errors()[0]
    path = [str(part) for part in fault["loc"]]
    key = ".".join(path)
    reason = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return refusal(key, fault["input"], f"unknown key; {_alternatives(path)}")
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return ConfigurationError(f"{key}: {reason}" if key else reason)  # a rule between keys names them
    return refusal(key, fault["input"], reason[0].lower() + reason[1:])


def _alternatives(path: Sequence[str]) -> str:
    section: Any = Configuration
    for part in path[:-1]:
        section = section.model_fields[part].annotation
    known = list(section.model_fields)
    close = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}allowed: {', '.join(known)}"
