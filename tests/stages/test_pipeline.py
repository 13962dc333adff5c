from __future__ import annotations

import json
import subprocess
import sys

import torch

from safs_ray import stages
from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.stages import Result


def test_the_whole_pipeline_repeats_bit_for_bit_in_another_process(
    configuration: Configuration, pruned: Result, splits: Splits, device: torch.device
) -> None:
    found = stages.search(pruned.network, configuration, splits, configuration.pruning.hyperparameters, device)
    code = """
import json, sys, torch
torch.set_num_threads(1)
from safs_ray import config, stages
def fingerprint(seed):
    values = json.loads(sys.argv[1])
    values["run"]["seed"] = seed
    run = config.validate(values)
    data, cpu = stages.load(run), torch.device("cpu")
    splits = stages.folds(run, data).search()
    dense = stages.train_dense(run, data, splits, cpu)
    pruned = stages.prune(dense.network, run, splits, cpu)
    return stages.search(pruned.network, run, splits, run.pruning.hyperparameters, cpu).network.fingerprint
print(fingerprint(0), fingerprint(1))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, json.dumps(configuration.model_dump(mode="json"))],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    same, other = run.stdout.split()
    assert same == found.network.fingerprint != other
