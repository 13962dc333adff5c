#!/usr/bin/env bash
# Ray Tune gives Trainable.train_buffered its two limits in the wrong order: TUNE_RESULT_BUFFER_LENGTH is taken as the
# seconds to collect results for, and TUNE_RESULT_BUFFER_MIN_TIME_S as their number. So a length alone, as the
# documentation advises where trials report faster than the driver answers, collects nothing: with a minimal time of 0,
# its default, every call returns one result. A length of 2 and a time of 7 collect seven results, or for two seconds.
# What to do: give both, each with the other's meaning, and expect it to be mended; or override train_buffered(*limits).
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile "ray[tune]==2.60.0"
cd "$folder"
cat >collects.py <<'PYTHON'
import logging
import os
import sys
import tempfile

import ray
from ray import tune


class Steps(tune.Trainable):
    """Forty quick steps; writes down how many results each call of Tune's returns."""

    def setup(self, config):
        self.file, self.taken = config["file"], 0

    def step(self):
        self.taken += 1
        return {"accuracy": self.taken, "done": self.taken == 40}

    def train_buffered(self, *limits):
        results = super().train_buffered(*limits)
        with open(self.file, "a") as file:
            file.write(f"{len(results)}\n")
        return results


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
logging.getLogger("ray.tune").setLevel(logging.ERROR)
file = os.path.join(os.getcwd(), f"{sys.argv[1]}.txt")
settings = tune.RunConfig(
    storage_path=tempfile.mkdtemp(), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
)
tune.Tuner(Steps, param_space={"file": file}, run_config=settings).fit()
PYTHON
"$folder/venv/bin/python" -c 'import ray; print("ray", ray.__version__)'
TUNE_RESULT_BUFFER_LENGTH=10 "$folder/venv/bin/python" -W ignore collects.py alone >/dev/null 2>&1
TUNE_RESULT_BUFFER_LENGTH=2 TUNE_RESULT_BUFFER_MIN_TIME_S=7 "$folder/venv/bin/python" -W ignore collects.py both >/dev/null 2>&1
echo "length 10: $(wc -l <alone.txt) calls of $(sort -n alone.txt | tail -1) result at most"
echo "length 2, minimal time 7: $(wc -l <both.txt) calls of $(sort -n both.txt | tail -1) results at most"
[[ $(wc -l <alone.txt) == 40 && $(sort -n alone.txt | tail -1) == 1 ]]
[[ $(wc -l <both.txt) == 6 && $(sort -n both.txt | tail -1) == 7 ]]
