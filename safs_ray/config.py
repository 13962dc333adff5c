"""What a run is: validated sections, read from YAML and dotted overrides.

Every fraction is in [0, 1]. An unknown key, a wrong type or a value out of range raises
:class:`ConfigurationError` with one line that names the key, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

CONFIGURATION = "config.yaml"
"""The file of a run folder that holds its configuration."""

LONGEST_MESSAGE = 1000
"""Characters of an error, which may quote what a file or a user's function says."""

SECRET = re.compile(
    r"(?<=://)[^\s@:]{0,500}+:[^\s@]{0,500}+(?=@)"
    r"|(?<=[?&])(?=[^=&\s]{0,50}?(?:key|password|secret|token))[^=&\s]{1,100}+=[^&\s]*",
    re.IGNORECASE,
)
"""What gives access in a URI: ``user:password@``, ``?access_token=...``."""


class ConfigurationError(ValueError):
    """A user's mistake, told in one printable line without secrets."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        printable = (sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)
        super().__init__(_shortened("".join(printable), LONGEST_MESSAGE))


def refusal(key: str, value: object, allowed: str) -> ConfigurationError:
    """The error that names the key, the value and what is allowed."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return ConfigurationError(f"{_shortened(key or repr(key))}={_shortened(text)}: {allowed}")


def _shortened(text: str, length: int = 80) -> str:
    """The text without secrets, and without its middle where it is longer than so many characters."""
    text, head = SECRET.sub("***", text), (length - 3) * 2 // 5
    return text if len(text) <= length else f"{text[:head]}...{text[head + 3 - length :]}"


class Section(BaseModel):
    """A group of keys; immutable, no other key allowed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=1, le=10**6)]
Images = Annotated[int, Field(ge=1, le=10**9)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def _between(least: float, most: float) -> AfterValidator:
    """A check of a range that HyperOpt draws from."""

    def check(value: tuple[float, float]) -> tuple[float, float]:
        if not least <= value[0] <= value[1] <= most:
            raise ValueError(f"must be [low, high] with {least:g} <= low <= high <= {most:g}")
        return value

    return AfterValidator(check)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must name each choice once")
    return names


def _ascending(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("must be in ascending order, each once")
    return values


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


Execution = Literal["auto", "dense", "sparse"]


class Costs(NamedTuple):
    """Times of what sparse execution does, in that of a use of a weight in a dense layer.

    All of them for one image on one core, forward and backward.

    Attributes:
        nonzero: of a use of a nonzero in a layer that knows only those.
        neuron: of a neuron, in whatever step.
        crossing: of a neuron on its way into or out of a dense layer among sparse ones.
    """

    nonzero: float
    neuron: float
    crossing: float


TYPICAL = Costs(nonzero=4.0, neuron=25.0, crossing=110.0)
"""Medians on a core with AVX-512, where a dense layer takes 0.02 ns for a use of a weight."""


Cost = Annotated[float, Field(gt=0, le=1e6)]
Precision = Literal["auto", "float32", "bf16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]


def _storage(value: str) -> str:
    if re.match(r"[A-Za-z][\w+.-]*:(?!//.)", value):
        raise ValueError("must be a folder or SCHEME://BUCKET/FOLDER, such as s3://bucket/runs")
    return value


class RunSection(Section):
    name: str = Field(
        "run", max_length=100, pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", description="name of the run folder"
    )
    storage: Annotated[str, AfterValidator(_storage)] = Field(
        "runs", min_length=1, description="folder or URI (s3://, gs://) that holds run folders"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed from which every random draw of the run is derived")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when one is there")
    execution: Execution = Field(
        "auto", description="dense: with all weights; sparse: with nonzeros alone (CPU); auto: what is faster, by layer"
    )
    costs: tuple[Cost, Cost, Cost] | None = Field(
        None,
        description="what auto goes by: times of a nonzero's use, of a neuron, and of its way into or out of a dense "
        "layer, in that of a use of a weight in a dense layer; default: measured by safs_ray.tune once on a machine, "
        "else typical ones",
    )
    precision: Precision = Field(
        "auto",
        description="of the arithmetic of training; auto: bf16 on a GPU that has it, else float32. Weights, and all "
        "accuracies, are of float32",
    )
    memory_format: MemoryFormat = Field(
        "auto",
        description="how images lie in memory; auto: channels_last on a GPU, for networks that are not your own",
    )
    deterministic: bool = Field(
        True,
        description="the same bits every time on a GPU, where torch has kernels that give them; false: the fastest",
    )
    checkpoint_seconds: float = Field(
        30.0, ge=1, le=1e6, description="seconds between two checkpoints of a training; a shorter one leaves none"
    )
    address: str = Field("local", description="Ray cluster: local, auto, or an address")
    verbose: int = Field(
        1, ge=0, le=1, description="1: a line for every step, a table in a terminal; 0: warnings and the result"
    )
    events: str | None = Field(
        None, min_length=1, description="file that every event is appended to, a line of JSON each; default: none"
    )

    @property
    def known_costs(self) -> Costs:
        """What auto goes by; as it typically is where nothing is known of the machine."""
        return Costs(*self.costs) if self.costs else TYPICAL


class DataSection(Section):
    source: str = Field(
        "digits",
        description="digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, parquet:FOLDER, imagefolder:FOLDER, "
        "imagenet16:FOLDER, imagenet16-CLASSES:FOLDER or package.module:function",
    )
    folder: str = Field("data", description="where torchvision's data sets lie or are downloaded to")
    size: int | None = Field(None, ge=4, le=1024, description="side in pixels to resize images to")
    validation: float = Field(0.1, gt=0, le=0.5, description="fraction of the training images that a fold validates on")
    limit: Images | None = Field(None, description="use only so many training and test images, a fixed sample")
    mean: tuple[Annotated[float, Field(ge=-1000, le=1000)], ...] | None = Field(
        None, description="of each channel, of pixels in [0, 1], to normalise by; default: of the training images"
    )
    deviation: tuple[Annotated[float, Field(ge=1e-6, le=1000)], ...] | None = Field(
        None, description="as mean; goes with it"
    )
    crop: int = Field(0, ge=0, le=64, description="pixels of padding for random crops in training; 0: none")
    flip: bool = Field(False, description="random horizontal flips in training")

    @model_validator(mode="after")
    def _mean_with_deviation(self) -> DataSection:
        if len(self.mean or ()) != len(self.deviation or ()):
            mean, deviation = (json.dumps(value) for value in (self.mean, self.deviation))
            raise ValueError(f"mean={mean} and deviation={deviation} must have as many values, one for each channel")
        return self


class ModelSection(Section):
    name: str = Field(
        "lenet5", description="lenet5, mlp, vgg16, resnet18, efficientnet_b0, localvit_t or package.module:function"
    )
    exclude: tuple[str, ...] | None = Field(
        None,
        description="patterns of activations that are no sites; default: squeeze-excitation's, where a network has it",
    )
    weights: str | None = Field(
        None, min_length=1, description="state dict to start from, safetensors or torch; default: none"
    )
    pruned: bool = Field(False, description="the zeros of model.weights stay zeros: nothing more is pruned")

    @model_validator(mode="after")
    def _weights_of_a_pruned_network(self) -> ModelSection:
        if self.pruned and self.weights is None:
            raise ValueError("pruned=true needs model.weights, the file of the pruned network")
        return self


class DenseSection(Section):
    epochs: int = Field(
        30, ge=0, le=10**6, description="passes over the training images; 0: initial weights are pruned as they are"
    )
    hyperparameters: Hyperparameters = Field(Hyperparameters(), description="of dense training")


def _structure(value: str) -> str:
    if value in ("unstructured", "filters") or _n_of_m(value):
        return value
    raise ValueError("must be unstructured, filters or N:M with 0 < N < M <= 64, such as 2:4")


def _n_of_m(structure: object) -> tuple[int, int] | None:
    found = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", structure) if isinstance(structure, str) else None
    if not found:
        return None
    n, m = int(found[1]), int(found[2])
    return (n, m) if n < m <= 64 else None


class PruningSection(Section):
    """How a dense network becomes sparse: score, allocation and structure choose the weights, the schedule when."""

    sparsity: Fraction = Field(
        0.99,
        description="fraction of conv and linear weights that become zero; with structure filters, of the filters; "
        "follows from structure N:M",
    )
    score: Literal["magnitude", "random", "snip", "grasp", "synflow"] = Field(
        "magnitude", description="what ranks weights"
    )
    allocation: Literal["layer", "global", "erk"] = Field(
        "layer",
        description="layer: the same sparsity in every layer; global: one ranking over all layers; "
        "erk: small layers denser (Erdos-Renyi-Kernel)",
    )
    structure: Annotated[str, AfterValidator(_structure)] = Field(
        "unstructured",
        description="unstructured; N:M: the N highest of every M consecutive input weights; filters: whole filters",
    )
    schedule: Literal["one shot", "gradual", "iterative", "gsm", "swamp", "rigl"] = Field(
        "one shot", description="when weights become zero"
    )
    epochs: int = Field(20, ge=0, le=10**6, description="epochs of retraining; iterative and swamp: of every round")
    until: float = Field(
        0.75, gt=0, le=1, description="gradual, gsm, rigl: fraction of the epochs after which the mask stays"
    )
    interval: Count = Field(100, description="gradual, rigl: steps from one change of the mask to the next")
    fraction: float = Field(
        0.2, ge=0.01, lt=1, description="iterative, swamp: fraction of the weights left that a round prunes"
    )
    rewind: int | None = Field(
        None,
        ge=0,
        le=10**6,
        description="iterative, swamp: each round begins from the weights after so many epochs of dense training, "
        "0: the initial ones (IMP); null: from those just trained (learning-rate rewinding)",
    )
    particles: int = Field(4, ge=2, le=1000, description="swamp: networks trained in each round and averaged")
    images: Images = Field(1000, description="snip, grasp: training images that the score looks at")
    hyperparameters: Hyperparameters = Field(
        Hyperparameters(), description="of retraining; also the default hyperparameters of the sparse network"
    )

    @property
    def n_of_m(self) -> tuple[int, int] | None:
        """N and M of the structure N:M; None for any other."""
        return _n_of_m(self.structure)

    @model_validator(mode="before")
    @classmethod
    def _sparsity_follows(cls, values: Any) -> Any:
        pattern = _n_of_m(values.get("structure")) if isinstance(values, dict) else None
        if pattern and "sparsity" not in values:
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
        retraining = self.hyperparameters
        if self.schedule == "gsm" and not (retraining.optimizer == "sgd" and retraining.weight_decay):
            raise ValueError("schedule=gsm needs hyperparameters.optimizer=sgd and a weight_decay above 0")
        return self

    def _rules(self) -> Iterator[tuple[str, str, tuple[object, ...]]]:
        """Choice, another key, and the values of that key which go with the choice."""
        if pattern := self.n_of_m:
            follows = 1 - pattern[0] / pattern[1]
            near = abs(self.sparsity - follows) < 1e-6
            yield f"structure={self.structure}", "sparsity", (self.sparsity if near else round(follows, 6),)
            yield f"structure={self.structure}", "allocation", ("layer",)
            yield f"structure={self.structure}", "schedule", ("one shot",)
        if self.structure == "filters":
            yield "structure=filters", "allocation", ("layer", "global")
            yield "structure=filters", "schedule", ("one shot", "gradual", "iterative", "swamp")
        if self.schedule in ("gradual", "gsm"):
            yield f"schedule={self.schedule}", "score", ("magnitude",)


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
    operators: tuple[str, ...] = Field(
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
    rungs: Annotated[tuple[Count, ...], AfterValidator(_ascending)] = Field(
        (), description="epochs after which an evaluation stops when its curve says that lahc would reject it"
    )
    start: Literal["default", "random"] = Field(
        "default", description="starting assignment: the network's own activations, or random"
    )
    share: Literal["none", "best"] = Field(
        "none",
        description="what a new chain takes from those that are under way or done: nothing, or the best assignment so "
        "far to start from",
    )
    strategy: Literal["lahc", "random", "annealing", "genetic", "tpe"] = Field("lahc", description="what proposes")
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
    def _fewer_epochs(self) -> SearchSection:
        rungs = json.dumps(self.rungs)
        if self.rungs and self.rungs[-1] >= self.epochs:
            raise ValueError(f"rungs={rungs} must lie below epochs={self.epochs}")
        if self.rungs and self.strategy != "lahc":
            raise ValueError(f"rungs={rungs} does not go with strategy={self.strategy}; allowed: []")
        if self.rungs and self.when == "during":
            raise ValueError(
                f"rungs={rungs} does not go with when=during, whose curves are of denser networks; allowed: []"
            )
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


class Ranges(Section):
    """What HyperOpt may propose for one optimizer; a range whose ends are equal fixes its value."""

    learning_rate: Annotated[tuple[float, float], _between(1e-12, 10)] = Field(
        (1e-4, 1e-1), description="log-uniform range"
    )
    weight_decay: Annotated[tuple[float, float], _between(1e-12, 1)] = Field(
        (1e-5, 1e-1), description="log-uniform range"
    )


class SgdRanges(Ranges):
    """Momentum and schedules are for sgd alone (SAFS, stage 2)."""

    momentum: Annotated[tuple[float, float], _between(0, 0.9999)] = Field((0.1, 0.999), description="uniform range")
    schedules: Annotated[tuple[ScheduleName, ...], AfterValidator(_distinct)] = Field(
        ("halving", "cosine warm restarts", "constant", "cosine", "step", "linear", "plateau"),
        min_length=1,
        description="choices",
    )


class SpaceSection(Section):
    """One section of ranges by the name of each optimizer; they count where the optimizer is a choice."""

    optimizers: Annotated[tuple[OptimizerName, ...], AfterValidator(_distinct)] = Field(
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
    warm_start: str | None = Field(
        None,
        min_length=1,
        description="folder of an earlier run that differs only in search, finetune, tune and final: its networks "
        "are taken over, its evaluations are not made again, and HyperOpt learns from its trials",
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
        description="best trials of a sweep that are trained again, on the images of the search; that of the highest "
        "mean validation accuracy wins; 1: the best trial wins as it is",
    )
    seeds: int = Field(2, ge=1, le=100, description="trainings of each finalist, each with other batches")
    ablations: Annotated[tuple[Literal["stage 1", "stage 2"], ...], AfterValidator(_distinct)] = Field(
        ("stage 1", "stage 2"),
        description="rows beside dense, pruned and SAFS; stage 1: SAFS's operators without scales, with the default "
        "hyperparameters; stage 2: the default activations with scales and hyperparameters of their own search",
    )


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
        if held_out > 0.5:
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
        if self.run.execution == "sparse" and self.run.precision == "bf16":
            raise ValueError("run.execution=sparse does not go with run.precision=bf16; allowed: auto, float32")
        if self.model.weights and self.pruning.rewind is not None:
            raise ValueError(
                f"pruning.rewind={self.pruning.rewind} does not go with model.weights, whose training is not known; "
                "allowed: null"
            )
        if self.model.pruned and self.search.when != "after":
            raise ValueError(f"search.when={self.search.when} does not go with model.pruned=true; allowed: after")
        return self

    @model_validator(mode="after")
    def _rungs_lie_within_a_trial(self) -> Configuration:
        tune = self.tune
        if self.iterations > self.whole:
            raise ValueError(f"tune.max_t={tune.max_t} exceeds the {self.whole} steps of a trial")
        if tune.scheduler == "none":
            return self
        if tune.grace_period > self.iterations:
            end = f"tune.max_t={tune.max_t}" if tune.max_t else f"the {self.whole} steps of a trial"
            raise ValueError(f"tune.grace_period={tune.grace_period} exceeds {end}")
        grace = tune.grace_period * tune.reduction_factor ** (tune.brackets - 1)
        if grace > self.iterations:
            raise ValueError(
                f"tune.brackets={tune.brackets} gives the last one a grace period of {grace} steps (tune.grace_period "
                f"times tune.reduction_factor for each bracket before it), beyond the {self.iterations} of a trial"
            )
        return self


LONGEST_TEXT, MOST_VALUES, DEEPEST = 100_000, 10_000, 20
"""Of a configuration: characters of YAML, keys and values with those that aliases repeat, keys within each other."""

LARGEST = 10**30
"""No number is larger; of larger ones only the order of magnitude is told."""

TOO_DEEP = f"allowed: at most {DEEPEST} keys within each other"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 of plain values, repaired.

    ``1e-3`` is a number; ``2:4``, ``010`` and dates are texts; a key given twice is an error, and so are aliases that
    repeat each other until a short text holds more than memory does.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        inner, count = [node], 0
        while inner:
            one = inner.pop()
            count += 1
            if count > MOST_VALUES:
                raise yaml.constructor.ConstructorError(None, None, f"it holds more than {MOST_VALUES:,} values")
            if isinstance(one, yaml.CollectionNode):
                inner += [part for entry in one.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        return super().construct_document(node)

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


_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
for _sign in "-+0123456789":  # first of all, before octal numbers, those to the base of 60, and timestamps
    _Loader.yaml_implicit_resolvers[_sign].insert(
        0, ("tag:yaml.org,2002:str", re.compile(r"^([-+]?0[\d_]+|[-+]?[\d_]+(:[\d_]+)+(\.\d*)?|\d{4}-\d.*)$"))
    )


def load(path: str | Path, overrides: Sequence[str] = ()) -> Configuration:
    """Read a YAML file and apply ``key.path=value`` overrides; the values are YAML too.

    Raises:
        ConfigurationError: the file is missing or not YAML, or a key or value is not allowed.
    """
    return validate(overridden(_read(Path(path)), overrides))


def validate(values: Mapping[str, Any]) -> Configuration:
    """Check nested keys and values.

    Raises:
        ConfigurationError: with the first fault found.
    """
    try:
        return Configuration.model_validate_json(json.dumps(_plain(values)))
    except ValidationError as error:
        raise _first_fault(error) from None


def dump(configuration: Configuration) -> str:
    """The configuration as YAML, every key written out."""
    return yaml.safe_dump(configuration.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(4 * LONGEST_TEXT).decode()  # no more of a file that does not end
    except OSError as error:
        raise refusal("configuration", str(path), f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise refusal("configuration", str(path), "is not a text file") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> dict[str, Any]:
    """The mapping in a YAML text; ``name`` is what an error calls it."""
    try:
        values = _yaml(text)
    except Exception as error:  # YAML's constructors raise whatever their conversions raise
        raise refusal("configuration", name, f"is not valid YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise refusal("configuration", name, "must hold sections, such as 'search:', with keys")
    return values


def _yaml(text: str) -> Any:
    """The value of a YAML text; raises whatever a wrong one leads to."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"it has more than {LONGEST_TEXT:,} characters")
    return yaml.load(text, _Loader)


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Nested keys and values with ``key.path=value`` overrides applied.

    Raises:
        ConfigurationError: an override is not of that form.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise refusal("override", override, "must be key.path=value, such as search.steps=5")
        if key.count(".") > DEEPEST:
            raise refusal(key, text, TOO_DEEP)
        try:
            value = _yaml(text)
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
        raise refusal(key, value, f"{_shortened(head)} is a value and has no keys of its own")
    return {**values, head: _with(inner, rest, value, key)}


def _plain(value: object, path: tuple[str, ...] = ()) -> Any:
    """A value as JSON has it; paths become texts.

    Raises:
        ConfigurationError: JSON has no such value, or no key may have it whatever it means.
    """
    key = ".".join(path) or "configuration"
    if len(path) > DEEPEST:
        raise refusal(key, "...", TOO_DEEP)
    if isinstance(value, Mapping):
        named = [(_text(str(_plain(name, path)), key), inner) for name, inner in value.items()]
        return {name: _plain(inner, (*path, name)) for name, inner in named}
    if isinstance(value, list | tuple):
        return [_plain(inner, (*path, str(place))) for place, inner in enumerate(value)]
    if isinstance(value, str | PurePath):
        return _text(str(value), key)
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise refusal(key, f"{'-' if value < 0 else ''}2**{value.bit_length() - 1}...", f"must be below {LARGEST:.0e}")
    if value is None or isinstance(value, bool | int | float):
        return value
    plain = "must be a text, a number, true, false, null, a list or keys with values"
    raise refusal(key, str(value), f"{plain}, is of type {type(value).__name__}")


def _text(text: str, key: str) -> str:
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text):
        raise refusal(key, text, "must be a text without control characters")
    if SECRET.search(text):
        raise refusal(key, text, "must hold no password or key, for files and logs tell it; the environment may")
    return text


def _first_fault(error: ValidationError) -> ConfigurationError:
    fault = error.errors(include_url=False)[0]
    path = [str(part) for part in fault["loc"]]
    key = ".".join(path)
    reason = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return refusal(key, fault["input"], f"unknown key; {_alternatives(path)}")
    if fault["type"] == "model_type":
        known = ", ".join(_section(path).model_fields)
        return refusal(key, fault["input"], f"must be a section, with keys and values; allowed: {known}")
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return ConfigurationError(f"{key}: {reason}" if key else reason)  # a rule between keys names them
    return refusal(key, fault["input"], reason[0].lower() + reason[1:])


def _alternatives(path: Sequence[str]) -> str:
    known = list(_section(path[:-1]).model_fields)
    close = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}allowed: {', '.join(known)}"


def _section(path: Sequence[str]) -> type[Section]:
    section: Any = Configuration
    for part in path:
        section = section.model_fields[part].annotation
    return section  # type: ignore[no-any-return]
