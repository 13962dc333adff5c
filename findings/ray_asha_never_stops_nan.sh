#!/usr/bin/env bash
# A trial whose loss has become NaN is never stopped by Ray Tune's ASHAScheduler, since NaN is not below any cutoff: of
# all trials, the ones that diverged run to the end and use the most time. A loss of infinity is stopped at its first
# rung.
# What to do: report a very large number or infinity in place of NaN, or stop such trials by
# RunConfig(stop=lambda trial, result: math.isnan(result["loss"]) or result["training_iteration"] >= 9), as below.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile 'ray[tune]==2.60.0'
cd "$folder"
RAY_AIR_NEW_OUTPUT=0 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging
import math
import sys
from pathlib import Path

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

print("ray", ray.__version__)
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


class Network(tune.Trainable):
    def setup(self, config):
        self.loss = config["loss"]

    def step(self):
        return {"loss": self.loss}


def iterations(name, diverged, stop):
    results = tune.Tuner(
        Network,
        param_space={"loss": tune.grid_search([0.1, 0.2, 0.3, 0.4, diverged])},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            max_concurrent_trials=1,
            scheduler=ASHAScheduler(max_t=9, grace_period=1, reduction_factor=3),
        ),
        run_config=tune.RunConfig(name=name, storage_path=str(Path.cwd()), verbose=0, stop=stop),
    ).fit()
    counts = {result.config["loss"]: result.metrics["training_iteration"] for result in results}
    print(f"{name}, iterations of 9 for each loss: {counts}")
    return next(count for loss, count in counts.items() if not math.isfinite(loss))


def at_nan_or_nine(trial, result):
    return math.isnan(result["loss"]) or result["training_iteration"] >= 9


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
nine = {"training_iteration": 9}
seen = [
    iterations("NaN", math.nan, nine),
    iterations("infinity", math.inf, nine),
    iterations("NaN with a stop function", math.nan, at_nan_or_nine),
]
ray.shutdown()
if seen != [9, 1, 1]:
    sys.exit("CHANGED: ASHA stops a trial whose loss is NaN, or does not stop one of infinity")
print("As described: the trial that diverged to NaN runs to the end.")
PYTHON
