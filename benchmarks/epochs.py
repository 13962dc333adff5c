"""How many epochs the predictor saves, on the recorded table of real evaluations.

    python benchmarks/epochs.py [SEEDS [EPOCHS]]

prints the tables of README.md for evaluations of so many epochs, at most 40; 20 seeds take a minute. The chains are
the package's own: what they would train is in their memory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from record_evaluations import SETTING, TABLE

from safs_ray import config, stages
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Chain
from safs_ray.search.course import Sweep, operators_only
from safs_ray.search.evaluation import Evaluation, Ledger, canonical, evaluation_key
from safs_ray.training import Context, Training

STEPS = 120
BUDGETS = 20, 100
CONTENDERS: dict[str, dict[str, Any]] = {"lahc": {}, "predictor": {"predictor": "linear"}}
"""Settings of the search by the name of a line; all others are the defaults."""

RANKS = 50, 20, 8
"""Of all assignments: the costs to reach are those of the best so many."""


@dataclass(frozen=True)
class Setting:
    """What chains need: none of it is trained."""

    context: Context
    network: Network
    curves: dict[Assignment, tuple[float, ...]]


@dataclass(frozen=True)
class Runs:
    """Epochs trained so far and lowest cost so far, by seed and step."""

    epochs: npt.NDArray[np.int64]
    best: npt.NDArray[np.float64]

    def until(self, cost: float) -> float:
        """Epochs until half of the runs have found such a cost, infinity when they have not."""
        reached = np.where(self.best <= cost + 1e-12, self.epochs, np.inf).min(axis=1)
        return float(np.sort(reached)[(len(reached) - 1) // 2])


def main(seeds: int, epochs: int) -> None:
    runs = {name: contend(setting(epochs, options), seeds) for name, options in CONTENDERS.items()}
    costs = sorted(1 - max(curve) for curve in setting(epochs, {}).curves.values())
    for line in [*spent(runs, BUDGETS), "", *reached(runs, [costs[rank - 1] for rank in RANKS])]:
        print(line)


def setting(epochs: int, options: dict[str, Any]) -> Setting:
    search = {"operators": config.load(SETTING).search.operators, "steps": STEPS, "epochs": epochs, **options}
    loaded = config.load(SETTING)
    configuration = config.validate({**loaded.model_dump(mode="json"), "search": search})
    dataset = stages.load(configuration)
    context = Context(configuration, stages.folds(configuration, dataset).search())
    network = Network.initial(stages.specify(configuration, dataset, context.splits), seed=0)
    rows = pq.read_table(TABLE).to_pylist()
    curves = {tuple(row["assignment"]): tuple(row["validation_accuracy"][:epochs]) for row in rows}
    return Setting(context, network, curves)


def contend(given: Setting, seeds: int) -> Runs:
    recorded = evaluations(given)
    runs = [search(given, recorded, seed) for seed in range(seeds)]
    return Runs(np.array([epochs for epochs, _ in runs]), np.array([best for _, best in runs]))


def evaluations(given: Setting) -> list[Evaluation]:
    """The recorded curves as a chain's memory has them."""
    configuration = given.context.configuration
    chosen, epochs = configuration.pruning.hyperparameters, configuration.search.epochs
    training = Training(given.context, chosen, epochs, derive(given.context.seed, "evaluation"))
    return [
        Evaluation(
            sweep=Sweep.OPERATORS,
            trial="recorded",
            iteration=number,
            phase="search",
            key=evaluation_key(given.network, assignment, training),
            assignment=assignment,
            hyperparameters=canonical(chosen),
            epochs=epochs,
            seed=training.seed,
            validation_accuracy=max(curve),
            best_accuracy=max(curve),
            cost=1 - max(curve),
            accepted=True,
            diverged=False,
            repeated=False,
            core_seconds=0.0,
            curve=curve,
        )
        for number, (assignment, curve) in enumerate(given.curves.items())
    ]


def search(given: Setting, recorded: Sequence[Evaluation], seed: int) -> tuple[list[int], list[float]]:
    """Epochs trained so far and lowest cost so far, after every step of one chain."""
    configuration = given.context.configuration
    course = operators_only(configuration)
    hyperparameters, memory = configuration.pruning.hyperparameters, Ledger(recorded)
    chain = Chain(given.network, given.context, hyperparameters, memory, course, course.trial(seed))
    trained: set[Assignment] = set()
    epochs: list[int] = []
    best: list[float] = []
    while not chain.finished:
        step = chain.step()
        trained.add(step.assignment)  # what comes again is on the board
        epochs.append(len(trained) * step.epochs)
        best.append(chain.strategy.best_cost)
    return epochs, best


def spent(runs: dict[str, Runs], budgets: Sequence[int]) -> list[str]:
    """What chains of a given length train and find."""
    columns = [f"epochs of {budget} steps | best cost" for budget in budgets]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (1 + 2 * len(budgets)) + "|"]
    for name, found in runs.items():
        cells = [name]
        for budget in budgets:
            low, middle, high = 100 * np.quantile(found.best[:, budget - 1], (0.25, 0.5, 0.75))
            cells += [f"{np.median(found.epochs[:, budget - 1]):.0f}", f"{middle:.2f} ({low:.2f} to {high:.2f})"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def reached(runs: dict[str, Runs], ranked: Sequence[float]) -> list[str]:
    """Epochs to costs: what half of the plain runs have found within each budget, and those of ranks."""
    plain = runs["lahc"]
    targets = {f"as lahc after {budget}": float(np.median(plain.best[:, budget - 1])) for budget in BUDGETS}
    targets |= {f"the best {rank}": cost for rank, cost in zip(RANKS, ranked, strict=True)}
    names = [f"{name}: {cost:.2%}" for name, cost in targets.items()]
    lines = [f"| epochs to | {' | '.join(names)} |", "|---" * (1 + len(targets)) + "|"]
    for name, found in runs.items():
        cells = [ratio(plain.until(cost), found.until(cost)) for cost in targets.values()]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return lines


def ratio(plain: float, mine: float) -> str:
    if np.isinf(mine):
        return "not reached"
    return f"{mine:.0f}" if np.isinf(plain) else f"{mine:.0f} ({plain / mine:.1f}x)"


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*given, *(20, 40)[len(given) :])
