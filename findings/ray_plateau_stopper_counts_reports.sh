#!/usr/bin/env bash
# Ray Tune's ExperimentPlateauStopper says that `top` is the number of best models to consider. It counts reports, not
# models: ten nearly equal reports of one trial that has converged are ten best models, and the whole sweep ends there,
# with trials that were never run. A sweep of trials that report once each shows nothing.
# What to do: set top above the number of reports of one trial, or use a Stopper that keeps one best value for each
# trial_id, as below.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile 'ray[tune]==2.60.0'
cd "$folder"
RAY_AIR_NEW_OUTPUT=0 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import sys
from pathlib import Path

import numpy as np
import ray
from ray import tune
from ray.tune.stopper import ExperimentPlateauStopper

print("ray", ray.__version__)
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
SETTLES_AT = [0.3, 0.2, 0.1]


class Converging(tune.Trainable):
    def setup(self, config):
        self.loss = config["loss"]

    def step(self):
        return {"loss": self.loss + 0.5**self.iteration, "done": self.iteration >= 29}


class BestOfEachTrial(tune.Stopper):
    """Stops when the `top` best trials, each by its best report, lie within `std`."""

    def __init__(self, top, std):
        self.top, self.std, self.best = top, std, {}

    def __call__(self, trial_id, result):
        self.best[trial_id] = min(result["loss"], self.best.get(trial_id, np.inf))
        return self.stop_all()

    def stop_all(self):
        return len(self.best) >= self.top and float(np.std(sorted(self.best.values())[: self.top])) <= self.std


def trials_run(name, stopper):
    results = tune.Tuner(
        Converging,
        param_space={"loss": tune.grid_search(SETTLES_AT)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=1),
        run_config=tune.RunConfig(name=name, storage_path=str(Path.cwd()), verbose=0, stop=stopper),
    ).fit()
    losses = [round(result.metrics["loss"], 3) for result in results if result.metrics]
    print(f"{name}: {len(losses)} of {len(SETTLES_AT)} trials ran, losses {losses}")
    return len(losses)


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
counts = [
    trials_run("ExperimentPlateauStopper", ExperimentPlateauStopper("loss", std=0.001, top=10, mode="min")),
    trials_run("BestOfEachTrial", BestOfEachTrial(top=3, std=0.001)),
]
ray.shutdown()
if counts != [1, len(SETTLES_AT)]:
    sys.exit("CHANGED: the stopper no longer counts the reports of one trial as models")
print("As described: one converged trial ends the sweep.")
PYTHON
