"""A whole experiment in one call, on a network and images in memory."""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from safs_ray import config, experiment, stages
from safs_ray.config import AUTO, Configuration, PruningSection, refusal
from safs_ray.config.pruning import LEAST_EPOCHS
from safs_ray.data import Array, Dataset, Splits
from safs_ray.display import telling
from safs_ray.engine.module import inference_module
from safs_ray.experiment import BEST, PRUNED, Workers
from safs_ray.experiment.budget import Budget
from safs_ray.experiment.budgeting import planned
from safs_ray.experiment.forecasting import forecast, seconds_per_epoch
from safs_ray.experiment.local import InProcess
from safs_ray.experiment.progress import Clock
from safs_ray.log import duration, log, percent
from safs_ray.metrics import metric_of
from safs_ray.models.inspection import hook_without_copy
from safs_ray.network import Network
from safs_ray.references import lend
from safs_ray.report.table import show
from safs_ray.stages import Result, untrained
from safs_ray.training import Context, LoopContext

Inputs = Tensor | Array
"""uint8 images (N, C, H, W); or uint8 or float32 (N, …); or int64 (N, …), indices of an embedding."""

Labels = Tensor | Array
"""Integers (N,), from 0; with ``data.task=regression`` numbers (N,) or (N, outputs), with ``multilabel`` 0 and 1
(N, labels)."""

TRAINED = 0.25
"""A network whose accuracy lies so far between that of guessing and 1 was trained before it was given."""

MANY, FEWEST_EPOCHS = 1000, 1 / 8
"""Images for which the epochs of the quickstart are meant, and the part of them that is enough for many more."""

TRIALS = ("tune.trials=6", "tune.scheduler=none", "final.folds=1")
"""In one process, after each other."""

PRUNERS = "pruning.recipe=auto"
"""The best sparse network, whatever the pruner."""

WITH_ANY_LOOP = ("one-shot-global", "erk", "synflow", "iterative")
"""Recipes that prune between two trainings, so that any loop goes with them."""


@dataclass(frozen=True)
class Sparsified:
    """What :func:`sparsify` has found. As text it is the table that the command prints.

    Attributes:
        network: the best sparse network, with its masks, operators and scales.
        results: as results.json has them; ``results["rows"]`` is the table.
    """

    network: Network
    results: dict[str, Any]

    @property
    def assignment(self) -> dict[str, str]:
        """The operator of every site."""
        return dict(zip(self.network.sites, self.network.assignment, strict=True))

    @property
    def module(self) -> nn.Module:
        """The network as a module from inputs (N, …), such as uint8 images, to outputs, in evaluation mode."""
        return inference_module(self.network)

    def __str__(self) -> str:
        text = io.StringIO()
        show(self.results, Console(file=text, width=100))
        return text.getvalue()


def sparsify(
    module: nn.Module,
    train: tuple[Inputs, Labels],
    test: tuple[Inputs, Labels],
    sparsity: float | None = 0.99,
    settings: Sequence[str] = (),
    budget: str | None = None,
) -> Sparsified:
    """Make a network sparse and keep it accurate: train, try pruners, search activations, train again, compare.

    It runs in this process, one training after the other, and keeps nothing on disk; ``python -m safs_ray.tune`` does
    the same on all cores of a machine or a cluster, and can be resumed. The configuration is that of the quickstart,
    with fewer epochs for more than a thousand images.

    Args:
        module: from inputs (N, …), normalised, such as images (N, C, H, W), to logits (N, classes), or values. It stays
            as it is. A network that predicts the labels already is pruned as it comes; another one is trained first.
        train: inputs to train on and to choose by, and their labels.
        test: inputs for the last line of the table, and their labels.
        sparsity: fraction of the convolution and linear weights that become zero, in [0, 1); None for a network that
            is pruned already, whose zeros stay.
        settings: ``key.path=value``, as the command takes them, such as ``"tune.trials=20"``, or
            ``"data.task=regression"``, or ``"data.mean=[0.5]"`` with ``"data.deviation=[0.25]"`` for a network that was
            trained on inputs normalised so. Without them inputs are normalised by those of the training.
        budget: time that it may take, such as ``"20m"`` or ``"1h30m"``, from which the lengths of the trainings, the
            pruners that are tried and the search follow, but for what the settings name. None for as long as it takes.

    Raises:
        ConfigurationError: the network, the images, a setting or the budget cannot be used; nothing was trained.
        FailedSearchError: no trial reached its end.

    Examples:
        >>> module = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))
        >>> images, labels = torch.randint(256, (60, 1, 8, 8), dtype=torch.uint8), torch.arange(60) % 2
        >>> short = ["dense.epochs=1", "search.steps=2", "tune.trials=2", "run.execution=dense", "run.verbose=0"]
        >>> sparse = sparsify(module, train=(images, labels), test=(images, labels), sparsity=0.5, settings=short)
        >>> sparse.network.nonzero_weights, list(sparse.assignment)
        (528, ['2'])

        Then ``print(sparse)`` shows the table, what was gained, and ``sparse.module(images)`` gives logits.
    """
    model = _lent(module)
    images = lend(lambda: (*train, *test), "images")
    pruned = _pruned(sparsity, model, [PRUNERS])
    words = [f"run.name={type(module).__name__}", f"model.name={model}", f"data.source={images}", *pruned, *TRIALS]
    words += [f"run.budget={budget}"] if budget is not None else []
    return _sparsified(words, settings, _epochs)


def sparsify_with(
    loop: Callable[[nn.Module, LoopContext], float | None],
    module: nn.Module,
    inputs: Tensor,
    epochs: int,
    sparsity: float | None = 0.99,
    settings: Sequence[str] = (),
) -> Sparsified:
    """Make a network sparse by a training loop of your own, which knows its data: as :func:`sparsify` does by ours.

    Args:
        loop: called as ``loop(module, context)``; trains the module for ``context.epochs`` and returns its score,
            which is maximised.
        module: from inputs (N, …) to outputs (N, outputs), with initial weights; it stays as it is. With
            ``settings=["dense.epochs=0"]`` it is pruned as it comes.
        inputs: (N, …), what the module takes: float, integers for an embedding, or uint8.
        epochs: of a whole training by the loop; that of a candidate takes a quarter.
        sparsity, settings: as of :func:`sparsify`. The pruners that are tried, with four epochs or more, are those that
            prune between trainings.

    Raises:
        ConfigurationError: the loop, the network or a setting cannot be used.
        FailedSearchError: no trial reached its end.

    Examples:
        >>> inputs = torch.linspace(-1, 1, 32)[:, None]
        >>> def fit_a_sine(module, context):
        ...     optimizer = context.optimizer()
        ...     for epoch in range(10 * context.epochs):
        ...         optimizer.zero_grad()
        ...         (module(inputs) - inputs.sin()).square().mean().backward()
        ...         optimizer.step()
        ...     return -(module(inputs) - inputs.sin()).square().mean().item()
        >>> _ = torch.manual_seed(0)
        >>> module = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))
        >>> short = ["search.steps=2", "tune.trials=1", "run.verbose=0"]
        >>> sparse = sparsify_with(fit_a_sine, module, inputs, epochs=2, sparsity=0.5, settings=short)
        >>> sparse.network.nonzero_weights, sparse.module(inputs).shape
        (16, torch.Size([32, 1]))
    """
    model, shown = _lent(module), lend(lambda: inputs, "inputs")
    words = [
        *(f"run.name={type(module).__name__}", f"model.name={model}", f"data.source=inputs:{shown}"),
        *(f"task.loop={lend(loop, 'loop')}", *_pruned(sparsity, model, _pruners(sparsity, epochs, settings)), *TRIALS),
        *(f"{key}={epochs}" for key in ("dense.epochs", "pruning.epochs", "final.epochs", "finetune.epochs")),
        *(f"finetune.epochs_per_step={epochs}", f"search.epochs={math.ceil(epochs / 4)}"),
    ]
    return _sparsified(words, settings, lambda *_: [])


def _lent(module: nn.Module) -> str:
    """The reference under which a configuration names a copy of a network, on the CPU.

    Raises:
        ConfigurationError: no copy computes what it does.
    """
    if hook := hook_without_copy(module):
        raise refusal("module", type(module).__name__, hook)
    own = copy.deepcopy(module).cpu()
    return lend(lambda: copy.deepcopy(own), type(module).__name__)


def _pruners(sparsity: float | None, epochs: int, settings: Sequence[str]) -> list[str]:
    """The pruners that go with any loop: all for which there is time, or the first."""
    if sparsity is None or any(setting.startswith("pruning.recipe=") for setting in settings):
        return []
    if epochs < LEAST_EPOCHS:
        return [f"pruning.recipe={WITH_ANY_LOOP[0]}"]
    in_time = PruningSection(recipe=AUTO, sparsity=sparsity, epochs=epochs).tried
    return [PRUNERS, f"pruning.recipes=[{','.join(name for name in WITH_ANY_LOOP if name in in_time)}]"]


def _pruned(sparsity: float | None, model: str, pruners: Sequence[str]) -> list[str]:
    """How the network gets its zeros, or that it has them."""
    if sparsity is None:
        return ["model.pruned=true", f"model.weights={model}"]
    return [f"pruning.sparsity={sparsity}", *pruners]


def _sparsified(
    words: Sequence[str], settings: Sequence[str], epochs: Callable[[Configuration, Result, Splits], Sequence[str]]
) -> Sparsified:
    """Check everything, and do what the words and settings say.

    Args:
        epochs: gives further words, by what the network as it comes has learned.
    """
    began = time.monotonic()
    configuration = _configured(words, settings)
    dataset = stages.load(configuration)
    splits = stages.folds(configuration, dataset).search()
    if _predicts_in_units(configuration, dataset, splits):
        words = [*words, "data.scale_targets=false"]
        configuration = _configured(words, settings)
    network = stages.check(configuration, dataset, splits)
    if configuration.model.pruned:
        network = network.masked({name: weight != 0 for name, weight in network.prunable().items()})
    with _in_this_process(configuration) as device:
        begin = untrained(network, Context(configuration, splits, device))
        further = [*epochs(configuration, begin, splits)]
        if macs := stages.meet_latency(configuration, network).pruning.macs:
            further.append(f"pruning.macs={macs}")
        chosen, given = _configured([*words, *further], settings), config.beside_budget({}, settings)
        return _run(chosen, given, begin, dataset, device, began)


def _configured(words: Sequence[str], settings: Sequence[str]) -> Configuration:
    """The quickstart with our own words, which the user's settings replace."""
    return config.validate(config.overridden(config.overridden(config.read(config.quickstart()), words), settings))


def _epochs(configuration: Configuration, begin: Result, splits: Splits) -> list[str]:
    """The epochs that suit the number of images, and what the network has learned already."""
    part = max(FEWEST_EPOCHS, min(1.0, MANY / len(splits.train)))
    guessing = metric_of(configuration.data).guessing(splits.validation.labels)
    trained = begin.validation_accuracy >= guessing + TRAINED * (1 - guessing)
    reached = f"{configuration.measure} {percent(begin.validation_accuracy).strip()}"
    has = f"the network as it comes reaches validation {reached}"
    log.info("%s, guessing %s: it is %s", has, percent(guessing).strip(), "kept" if trained else "trained first")
    of_quickstart = {
        "dense.epochs": 0 if trained else configuration.dense.epochs,
        "pruning.epochs": configuration.pruning.epochs,
        "search.epochs": configuration.search.epochs,
        "finetune.epochs": configuration.finetune.epochs,
        "finetune.epochs_per_step": configuration.finetune.epochs_per_step,
        "final.epochs": configuration.final.epochs,
    }
    return [f"{key}={math.ceil(part * epochs)}" for key, epochs in of_quickstart.items()]


def _predicts_in_units(configuration: Configuration, dataset: Dataset, splits: Splits) -> bool:
    """Whether a network that comes predicts values as they are, so that it was trained on such."""
    data = configuration.data
    if data.task != "regression" or data.scale_targets is not None:
        return False
    plain = configuration.model_copy(update={"data": data.model_copy(update={"scale_targets": False})})
    network = stages.check(plain, dataset, splits)
    return untrained(network, Context(plain, splits)).validation_accuracy >= TRAINED


def _run(
    configuration: Configuration,
    given: Collection[str],
    begin: Result,
    dataset: Dataset,
    device: torch.device,
    began: float,
) -> Sparsified:
    """The experiment, in this process.

    Args:
        given: keys that a budget leaves as they are.
        began: when all this began, by :func:`time.monotonic`.
    """
    epoch = seconds_per_epoch(configuration, begin.network, stages.folds(configuration, dataset).search())
    budget = Budget(configuration.run.budget_seconds, began=began)
    if configuration.run.budget:
        configuration, told = planned(
            configuration, given, budget.left, partial(forecast, epoch=epoch, workers=Workers())
        )
        log.info("%s", "\n".join(told))
    seconds = forecast(configuration, epoch, Workers())
    log.info("about %s", duration(sum(seconds.values())))
    known = {PRUNED: begin} if configuration.model.pruned else {}
    executor = InProcess(configuration, dataset, device, known, Clock(seconds, budget))
    results = experiment.run(configuration, begin.network.specification, executor)
    return Sparsified(executor.result(BEST).network, results)


@contextmanager
def _in_this_process(configuration: Configuration) -> Iterator[torch.device]:
    """Tell of what is done, with the threads that the configuration grants; afterwards all is as it was."""
    threads, flushed = torch.get_num_threads(), stages.flushes_subnormals()
    try:
        with telling(configuration.run, Console(highlight=False, markup=False)):
            yield stages.set_up(configuration)
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)
