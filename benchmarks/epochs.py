"""How many epochs rungs and the predictor save, on the recorded table of real evaluations.

    python benchmarks/epochs.py [SEEDS [EPOCHS]]

prints the tables of README.md for evaluations of so many epochs, at most 40; 20 seeds take a minute. The chains are
the package's own: what they would train is in their memory, and they follow its curves as far as they would train.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from record_evaluations import SETTING, TABLE

from safs_ray import config, stages
from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.randomness import derive
from safs_ray.search.assignment import Assignment
from safs_ray.search.chain import Chain, Course
from safs_ray.search.evaluation import Evaluation, Ledger, canonical, evaluation_key
from safs_ray.training import Training

STEPS = 120
BUDGETS = 20, 100
RANKS = 50, 20, 8
"""Of all assignments: the costs to reach are those of the best so many."""


@dataclass(frozen=True)
class Setting:
    """What chains need: none of it is trained."""

    configuration: Configuration
    network: Network
    splits: Splits
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
    runs = {name: contend(setting(epochs, options), seeds) for name, options in contenders(epochs).items()}
    costs = sorted(1 - max(curve) for curve in setting(epochs, {}).curves.values())
    for line in [*spent(runs, BUDGETS), "", *reached(runs, [costs[rank - 1] for rank in RANKS])]:
        print(line)


def contenders(epochs: int) -> dict[str, dict[str, Any]]:
    """Settings of the search by the name of a line; all others are the defaults."""
    rungs = [epochs // 4, epochs // 2]
    return {
        "lahc": {},
        "rungs": {"rungs": rungs},
        "predictor": {"predictor": "linear"},
        "both": {"rungs": rungs, "predictor": "linear"},
    }


def setting(epochs: int, options: dict[str, Any]) -> Setting:
    search = {"operators": config.load(SETTING).search.operators, "steps": STEPS, "epochs": epochs, **options}
    loaded = config.load(SETTING)
    configuration = config.validate({**loaded.model_dump(mode="json"), "search": search})
    dataset = stages.load(configuration)
    splits = stages.folds(configuration, dataset).search()
    network = Network.initial(stages.specify(configuration, dataset, splits), seed=0)
    rows = pq.read_table(TABLE).to_pylist()
    curves = {tuple(row["assignment"]): tuple(row["validation_accuracy"][:epochs]) for row in rows}
    return Setting(configuration, network, splits, curves)


def contend(given: Setting, seeds: int) -> Runs:
    recorded = evaluations(given)
    runs = [search(given, recorded, seed) for seed in range(seeds)]
    return Runs(np.array([epochs for epochs, _ in runs]), np.array([best for _, best in runs]))


def evaluations(given: Setting) -> list[Evaluation]:
    """The recorded curves as a chain's memory has them."""
    configuration = given.configuration
    chosen, epochs = configuration.pruning.hyperparameters, configuration.search.epochs
    seed = derive(configuration.run.seed, "evaluation")
    training = Training(given.splits, chosen, epochs, seed, torch.device("cpu"), configuration.data)
    return [
        Evaluation(
            sweep="recorded",
            trial="recorded",
            iteration=number,
            phase="search",
            key=evaluation_key(given.network, assignment, training),
            assignment=assignment,
            hyperparameters=canonical(chosen),
            epochs=epochs,
            seed=seed,
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
    chain = Chain(
        given.network,
        given.splits,
        given.configuration.pruning.hyperparameters,
        given.configuration,
        torch.device("cpu"),
        Ledger(recorded),
        Course("stage 1", given.configuration.search.steps, 0),
        trial=f"chain-{seed + 1}",
    )
    trained: dict[Assignment, int] = {}
    epochs, best = [], []
    while not chain.finished:
        step = chain.step()
        before = trained.get(step.assignment, 0)
        # A whole evaluation is never trained again; one that stopped is, from its beginning, where more is needed.
        epochs.append((epochs[-1] if epochs else 0) + (step.epochs if step.epochs > before else 0))
        trained[step.assignment] = max(before, step.epochs)
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
