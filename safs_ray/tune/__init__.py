"""The Ray application: stages as Ray tasks, trials as Tune trainables. The only room that imports Ray."""

import os

# Ray reads these when it is imported. A user's own values stand.
for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports usage to its makers by default
    "RAY_AIR_NEW_OUTPUT": "0",  # Ray's live table; progress.py prints instead
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # workers keep the working directory, so that relative paths hold
    "RAY_idle_worker_killing_time_threshold_ms": "60000",  # a stage after a short sweep finds its process again
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; the present one prints a warning
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they are in files, which we name
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # with each snapshot curves reach the run: what of them a killed driver may lose
    "TUNE_RESULT_BUFFER_LENGTH": "2",  # several steps a call: trials decide how many (see trainable.py)
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}.items():
    os.environ.setdefault(_name, _value)
