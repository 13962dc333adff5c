#!/usr/bin/env bash
# Population-based training in Ray Tune draws its first values within the bounds of a domain such as
# tune.uniform(0.5, 0.95). Later ones are mostly old ones times 0.8 or 1.2, and no bound is asked: a sparsity climbs
# above 1, a value that the search space does not hold, and the trial fails or trains on nonsense.
# What to do: clamp each value in custom_explore_fn, as below, or give a list of values, from which PBT never strays.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile 'ray[tune]==2.60.0'
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import random
import sys
from types import SimpleNamespace

import ray
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

print("ray", ray.__version__)
LOW, HIGH = 0.5, 0.95


def clamp(config):
    return {"sparsity": min(max(config["sparsity"], LOW), HIGH)}


def highest(name, domain, custom_explore_fn=None):
    """The highest sparsity of 100 successors of a trial at 0.9, each made as the scheduler makes it."""
    random.seed(0)
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        metric="score",
        mode="max",
        hyperparam_mutations={"sparsity": domain},
        custom_explore_fn=custom_explore_fn,
    )
    better_trial = SimpleNamespace(config={"sparsity": 0.9})
    values = [scheduler._get_new_config(None, better_trial)[0]["sparsity"] for _ in range(100)]
    outside = sum(not LOW <= value <= HIGH for value in values)
    print(f"{name}: {outside} of 100 successors of 0.9 lie outside [{LOW}, {HIGH}], the highest is {max(values):.2f}")
    return outside, max(values)


seen = [
    highest("uniform", tune.uniform(LOW, HIGH)),
    highest("uniform, clamped", tune.uniform(LOW, HIGH), clamp),
    highest("list", [0.5, 0.7, 0.8, 0.9, 0.95]),
]
if not (seen[0][0] > 20 and seen[0][1] > 1 and seen[1][0] == seen[2][0] == 0):
    sys.exit("CHANGED: PBT keeps to the bounds of a domain")
print("As described: PBT leaves tune.uniform(0.5, 0.95) for a sparsity above 1.")
PYTHON
