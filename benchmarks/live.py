"""How many epochs rungs and the predictor save in chains that train.

    python benchmarks/live.py [SEEDS]

LeNet-5 on scikit-learn's digits, 442 of 44,190 weights, all 14 operators, chains of 20 evaluations of 20 epochs; a seed
takes a minute. The contenders are those of epochs.py.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from epochs import Setting, contend, contenders, spent
from record_evaluations import SETTING

from safs_ray import config, stages
from safs_ray.config import SearchSection

STEPS, EPOCHS = 20, 20


def main(seeds: int) -> None:
    torch.set_num_threads(1)
    runs = {name: contend(setting(options), seeds) for name, options in contenders(EPOCHS).items()}
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
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
