"""What chains that train find, and in how many epochs.

    python benchmarks/live.py savings [SEEDS]       rungs and the predictor, as in epochs.py
    python benchmarks/live.py strategies [SEEDS]    as in strategies.py

LeNet-5 on scikit-learn's digits, 442 of 44,190 weights, all 14 operators, chains of 20 evaluations of 20 epochs. Twenty
seeds take a quarter of an hour.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from epochs import Setting, contend, contenders, spent
from record_evaluations import SETTING

from safs_ray import config, stages
from safs_ray.config import SearchSection

STEPS, EPOCHS = 20, 20

CONTESTS: dict[str, dict[str, dict[str, Any]]] = {
    "savings": contenders(EPOCHS),
    "strategies": {
        "random": {"strategy": "random"},
        "lahc": {"strategy": "lahc"},
        "annealing, 0.05 to 0.002": {
            "strategy": "annealing",
            "annealing": {"initial_temperature": 0.05, "final_temperature": 0.002},
        },
        "genetic": {"strategy": "genetic"},
        "tpe": {"strategy": "tpe"},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contest", choices=CONTESTS)
    parser.add_argument("seeds", nargs="?", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    contest = CONTESTS[arguments.contest]
    runs = {name: contend(setting(options), arguments.seeds) for name, options in contest.items()}
    for line in spent(runs, (STEPS // 2, STEPS)):
        print(line)


def setting(options: dict[str, Any]) -> Setting:
    """A pruned network, and nothing recorded."""
    loaded, cpu = config.load(SETTING), torch.device("cpu")
    search = {"operators": SearchSection().operators, "steps": STEPS, "epochs": EPOCHS, **options}
    configuration = config.validate({**loaded.model_dump(mode="json"), "search": search})
    dataset = stages.load(configuration)
    splits = stages.folds(configuration, dataset).search()
    dense = stages.train_dense(configuration, dataset, splits, cpu)
    pruned = stages.prune(dense.network, configuration, splits, cpu)
    return Setting(configuration, stages.searchable(pruned.network, configuration), splits, {})


if __name__ == "__main__":
    main()
