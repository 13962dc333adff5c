#!/usr/bin/env bash
# Ray Tune's Tuner.restore brings back trials, checkpoints and searchers, and starts ASHAScheduler anew, with empty
# rungs. A trial that runs after the restore is the first of its rung and is never stopped there, however bad: here the
# worst of five trials runs for 1 of 9 iterations in an uninterrupted sweep and for all 9 in a restored one.
# What to do: keep the scheduler's rungs in a tune.Callback (copy bracket._rungs in get_state, put them back in
# set_state), or expect a restored sweep to cost more and to stop other trials than a whole one.
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

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

print("ray", ray.__version__)
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
FOLDER = Path.cwd()


class Fixed(tune.Trainable):
    """Reports its configured loss in each iteration; the worst trial fails at its first start if it is told to."""

    def setup(self, config):
        self.loss = config["loss"]
        if self.loss == 0.9 and config["failure"] and not Path(config["failure"]).exists():
            Path(config["failure"]).touch()
            raise RuntimeError("the first start fails")

    def step(self):
        return {"loss": self.loss}

    def save_checkpoint(self, checkpoint_dir):
        return {}

    def load_checkpoint(self, checkpoint):
        pass


def tuner(name, failure):
    return tune.Tuner(
        Fixed,
        param_space={"loss": tune.grid_search([0.1, 0.2, 0.3, 0.4, 0.9]), "failure": failure},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            max_concurrent_trials=1,
            scheduler=ASHAScheduler(max_t=9, grace_period=1, reduction_factor=3),
        ),
        run_config=tune.RunConfig(name=name, storage_path=str(FOLDER), verbose=0, stop={"training_iteration": 9}),
    )


def iterations(results):
    return {result.metrics["loss"]: result.metrics["training_iteration"] for result in results}


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
whole = iterations(tuner("whole", None).fit())
errors = tuner("interrupted", str(FOLDER / "failed_once")).fit().num_errors
restored = iterations(tune.Tuner.restore(str(FOLDER / "interrupted"), Fixed, restart_errored=True).fit())
ray.shutdown()
print("iterations for each loss, uninterrupted:", dict(sorted(whole.items())))
print(f"iterations for each loss, {errors} trial run after Tuner.restore:", dict(sorted(restored.items())))
if (whole[0.9], restored[0.9], errors) != (1, 9, 1):
    sys.exit("CHANGED: a restored ASHAScheduler stops the bad trial as an uninterrupted one does")
print("As described: the restored scheduler let the worst trial run to the end.")
PYTHON
