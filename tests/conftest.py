"""Values that many tests share: a data set and a configuration that train in milliseconds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import torch

from safs_ray import config, models, stages
from safs_ray.config import Configuration
from safs_ray.data import Dataset, Splits
from safs_ray.log import log
from safs_ray.models import Specification
from safs_ray.training import Context

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # else workers get only what tests beside them leave
torch.set_num_threads(1)

TINY = {
    "data": {"source": "digits", "size": 8, "limit": 160, "validation": 0.2},
    "model": {"name": "mlp"},
    "dense": {"epochs": 3, "hyperparameters": {"learning_rate": 5e-3, "batch_size": 32}},
    "pruning": {
        "sparsity": 0.9,
        "epochs": 2,
        "hyperparameters": {"learning_rate": 5e-3, "weight_decay": 1e-4, "batch_size": 32},
    },
    "search": {"operators": ["relu", "swish", "srs", "tanh"], "steps": 4, "epochs": 1},
    "finetune": {"epochs": 4, "epochs_per_step": 2},
    "tune": {"trials": 3, "grace_period": 2, "max_concurrent": 1},
    "final": {"folds": 2, "epochs": 2, "ablations": []},
}
"""Every stage of a run in about two seconds of training; nested keys and values."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is told, also after a command in this process has shown it elsewhere."""
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, "safs_ray")
    return caplog


@pytest.fixture(scope="session")
def configuration() -> Configuration:
    return config.validate(TINY)


@pytest.fixture(scope="session")
def dataset(configuration: Configuration) -> Dataset:
    return stages.load(configuration)


@pytest.fixture(scope="session")
def splits(configuration: Configuration, dataset: Dataset) -> Splits:
    """What the search sees, with a test split that breaks whatever reads it."""
    seen = stages.folds(configuration, dataset).search()
    return Splits(seen.train, seen.validation, None)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cpu")


@pytest.fixture(scope="session")
def context(configuration: Configuration, splits: Splits) -> Context:
    """What the stages of the search are given."""
    return Context(configuration, splits)


@pytest.fixture(scope="session")
def specification(configuration: Configuration, dataset: Dataset, splits: Splits) -> Specification:
    return stages.specify(configuration, dataset, splits)


@pytest.fixture(scope="session")
def dense(specification: Specification, context: Context) -> stages.Result:
    return stages.train_dense(specification, context)


@pytest.fixture(scope="session")
def pruned(dense: stages.Result, context: Context) -> stages.Result:
    return stages.prune(dense.network, context)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of a bucket, on an S3 server of this module's own that listens on loopback."""
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import S3FileSystem

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "somebody")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "something")
        reached = {"endpoint_override": f"{host}:{port}", "scheme": "http", "region": "us-east-1"}
        S3FileSystem(allow_bucket_creation=True, **reached).create_dir("bucket")
        yield "s3://bucket?" + "&".join(f"{key}={value}" for key, value in reached.items())
    server.stop()


@pytest.fixture
def cluster() -> Iterator[None]:
    """A Ray of this test's own."""
    import ray

    from safs_ray.tune.board import NAMESPACE  # its package sets what Ray reads when it starts

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, namespace=NAMESPACE)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def architectures() -> Iterator[None]:
    """Networks that a test registers under a name of its own are gone after it."""
    known = dict(models.ARCHITECTURES)
    yield
    models.ARCHITECTURES.clear()
    models.ARCHITECTURES.update(known)
