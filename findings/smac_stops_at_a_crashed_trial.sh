#!/usr/bin/env bash
# SMAC catches an exception in the target function and records the trial as crashed, at the cost of crash_cost, infinity
# by default. Its hyperparameter facade then fits a random forest to costs that such a trial has made NaN: as soon as
# the initial design is over, the whole optimization ends with scikit-learn's "Input y contains NaN".
# What to do: set Scenario(crash_cost=...) to a finite cost worse than any real one, and return that same cost, not NaN
# and not infinity, for a run that diverged.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile \
    numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1 ConfigSpace==1.2.2 smac==2.4.1
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import math
import sys
from importlib.metadata import version

from ConfigSpace import ConfigurationSpace, Float
from smac import HyperparameterOptimizationFacade, Scenario

print("smac", version("smac"), "ConfigSpace", version("ConfigSpace"), "scikit-learn", version("scikit-learn"))
logging.disable(logging.CRITICAL)


def run(name, diverged, **settings):
    calls = []

    def loss(configuration, seed=0):
        calls.append(configuration)
        if configuration["learning_rate"] <= 0.1:
            return abs(math.log10(configuration["learning_rate"]) + 2)
        if diverged is None:
            raise FloatingPointError("the loss diverged")
        return diverged

    space = ConfigurationSpace({"learning_rate": Float("learning_rate", (1e-5, 10), log=True)}, seed=0)
    scenario = Scenario(space, name=name, n_trials=40, deterministic=True, seed=0, **settings)
    try:
        HyperparameterOptimizationFacade(scenario, loss, overwrite=True, logging_level=False).optimize()
        outcome = "completed"
    except ValueError as error:
        outcome = str(error).splitlines()[0]
    print(f"{name}: {outcome} after {len(calls)} of 40 trials")
    return outcome, len(calls) < 40


outcomes = [
    run("exception", None),
    run("NaN", math.nan),
    run("infinity", math.inf),
    run("exception with crash_cost 100", None, crash_cost=100.0),
    run("cost 100", 100.0),
]
stopped = ("Input y contains NaN.", True)
if outcomes[:3] != [stopped] * 3 or any(outcome != "completed" for outcome, _ in outcomes[3:]):
    sys.exit("CHANGED: a crashed or non-finite trial no longer ends SMAC's optimization")
print("As described: without a finite crash cost, crashes in the initial design end the search.")
PYTHON
