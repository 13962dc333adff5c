#!/usr/bin/env bash
# With reuse_actors=True and a search algorithm Ray Tune may keep one worker busy and the others idle for a whole sweep.
# Without max_concurrent_trials one trial at a time waits for a process. When another ends meanwhile, the one that waits
# takes its process, and Tune ends the process that was about to start. So where a process takes longer to start than a
# trial to run (imports of PyTorch and a data set: seconds; a trial that ASHA stops early: less), no second worker ever
# comes up, whatever the CPUs allow. With max_concurrent_trials=2 two start side by side, and stay.
# What to do: always give max_concurrent_trials; count the process ids among the results.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile "ray[tune]==2.60.0"
cd "$folder"
cat >sweep.py <<'PYTHON'
import logging
import sys
import tempfile
import time

import ray
from ray import tune
from ray.tune.search import Searcher


class Short(tune.Trainable):
    """A trial of half a second, in a process that takes four to start."""

    def setup(self, config):
        time.sleep(4)

    def reset_config(self, config):
        return True

    def step(self):
        time.sleep(0.5)
        return {"accuracy": 0.5, "done": True}


class Always(Searcher):
    """Proposes twelve trials, all alike."""

    def __init__(self):
        super().__init__(metric="accuracy", mode="max")
        self.proposed = 0

    def suggest(self, trial_id):
        self.proposed += 1
        return {} if self.proposed <= 12 else Searcher.FINISHED

    def on_trial_complete(self, trial_id, result=None, error=False):
        """Nothing follows."""


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
logging.getLogger("ray.tune").setLevel(logging.ERROR)
found = tune.Tuner(
    Short,
    tune_config=tune.TuneConfig(
        search_alg=Always(), num_samples=12, reuse_actors=True, max_concurrent_trials=int(sys.argv[1]) or None
    ),
    run_config=tune.RunConfig(
        storage_path=tempfile.mkdtemp(), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
    ),
).fit()
pids = [found[index].metrics["pid"] for index in range(len(found))]
print(f"max_concurrent_trials {sys.argv[1]}:", len(set(pids)), "processes, the busiest with", max(pids.count(pid) for pid in pids), "of", len(pids))
PYTHON
"$folder/venv/bin/python" -c 'import ray; print("ray", ray.__version__)'
for most in 0 2; do
    "$folder/venv/bin/python" -W ignore sweep.py "$most" 2>/dev/null | grep processes | tee -a seen
done
grep -q "^max_concurrent_trials 0: 1 processes, the busiest with 12 of 12$" seen
grep -q "^max_concurrent_trials 2: 2 processes" seen
