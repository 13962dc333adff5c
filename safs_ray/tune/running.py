"""A whole run on Ray, from data to results.json. To begin a run and to resume one is the same call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

from safs_ray import experiment, stages
from safs_ray.config import PAGE, RESULTS, Configuration
from safs_ray.data import Dataset
from safs_ray.experiment.progress import Clock
from safs_ray.log import event, log
from safs_ray.storage import Folder
from safs_ray.tune.executor import OnRay
from safs_ray.tune.tasks import CHECKPOINTS


def run(configuration: Configuration, dataset: Dataset, folder: Folder, clock: Clock) -> dict[str, Any]:
    """Do all that is left of a run on the Ray that is connected; returns the content of results.json.

    Raises:
        KeyboardInterrupt: by a signal; the run can be resumed.
        FailedSearchError: no trial reached its end.
    """
    configuration = placed(configuration, ray.cluster_resources())  # type: ignore[no-untyped-call]
    specification = stages.specify(configuration, dataset, stages.folds(configuration, dataset).search())
    results = experiment.run(configuration, specification, OnRay(configuration, dataset, folder, clock))
    folder.remove(PAGE)  # it is of the unfinished run, where somebody had it written
    folder.write_json(RESULTS, results)
    (folder / CHECKPOINTS).delete()
    log.info("finished", extra=event("finished", results=str(folder / RESULTS)))
    return results


def placed(configuration: Configuration, have: Mapping[str, float]) -> Configuration:
    """The configuration with the GPUs of a trial decided, by what the cluster has."""
    resources = configuration.tune.resources
    if resources.gpu is None:
        wanted = {"cuda": True, "auto": bool(have.get("GPU")), "cpu": False}[configuration.run.device]
        gpu = 1.0 if wanted else 0.0
        resources = resources.model_copy(update={"gpu": gpu})
    return configuration.model_copy(update={"tune": configuration.tune.model_copy(update={"resources": resources})})
