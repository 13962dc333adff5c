from __future__ import annotations

import json
import subprocess
import sys

from safs_ray import stages
from safs_ray.config import Configuration
from safs_ray.stages import Result
from safs_ray.training import Context


def test_the_whole_pipeline_repeats_bit_for_bit_in_another_process(
    configuration: Configuration, pruned: Result, context: Context
) -> None:
    found = stages.search(pruned.network, context, configuration.pruning.hyperparameters)
    code = """
import json, sys, torch
torch.set_num_threads(1)
from safs_ray import config, stages
from safs_ray.training import Context
def fingerprint(seed):
    values = json.loads(sys.argv[1])
    values["run"]["seed"] = seed
    run = config.validate(values)
    data = stages.load(run)
    context = Context(run, stages.folds(run, data).search())
    dense = stages.train_dense(stages.specify(run, data, context.splits), context)
    pruned = stages.prune(dense.network, context)
    return stages.search(pruned.network, context, run.pruning.hyperparameters).network.fingerprint
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
