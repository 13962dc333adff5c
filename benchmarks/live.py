"""What chains that train find, and in how many epochs.

    python benchmarks/live.py savings [SEEDS]       the predictor, as in epochs.py
    python benchmarks/live.py strategies [SEEDS]    as in strategies.py

LeNet-5 on scikit-learn's digits, 442 of 44,190 weights, all 14 operators, chains of 20 evaluations of 20 epochs. Twenty
seeds take a quarter of an hour.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from epochs import CONTENDERS, Setting, contend, spent
from record_evaluations import SETTING, pruned_network

from safs_ray import config, stages
from safs_ray.config import SearchSection

STEPS, EPOCHS = 20, 20

CONTESTS: dict[str, dict[str, dict[str, Any]]] = {
    "savings": CONTENDERS,
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
    loaded = config.load(SETTING)
    search = {"operators": SearchSection().operators, "steps": STEPS, "epochs": EPOCHS, **options}
    configuration = config.validate({**loaded.model_dump(mode="json"), "search": search})
    pruned, context = pruned_network(configuration)
    return Setting(context, stages.searchable(pruned, configuration), {})


if __name__ == "__main__":
    main()
