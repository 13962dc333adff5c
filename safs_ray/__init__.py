"""Sparse Activation Function Search: keep a very sparse network accurate.

The rooms, in reading order (each imports only from those before it)::

    config  keys  log  machine  storage  display  checkpoints  randomness  references  losses  mapped  metrics  data
    tensorfile  sources  operators  dropout  activations  models  pruning  network  sparse  engine  accuracy
    optimizers  training  schedules  search  stages  experiment  report  export  sparsification  testing  tune

Only :mod:`safs_ray.tune` imports Ray.

As a library, in one process and without Ray::

    sparse = safs_ray.sparsify(module, train=(images, labels), test=(test_images, test_labels), sparsity=0.99)
    sparse = safs_ray.sparsify_with(train, module, inputs, epochs=20, sparsity=0.99)    # by a training loop of yours
    safs_ray.export.write(sparse.network, "onnx", safs_ray.Folder.at("deployed"))
    module = safs_ray.load("runs/quickstart")                   # uint8 images (N, C, H, W) to logits
    run = safs_ray.config.validate({"search": {"steps": 8}})    # or safs_ray.config.load("mine.yaml")
    safs_ray.stages                                             # train_dense, prune, search, finish, …
    safs_ray.experiment                                         # all of them in order

The stages take and return these: images are :class:`Examples`, in :class:`Splits` or in a :class:`Dataset` with
:class:`Folds`; a :class:`Network` is a :class:`Specification`, which names the function that builds its module, with
weights, masks and activations. A user's mistake is a :class:`ConfigurationError`.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Read when torch is loaded; a user's own value stands. For a millisecond after each operation torch's threads look for
# more to do, on cores that threads of ours compute on: so many looks take a hundredth of that.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from safs_ray import config, experiment, export, stages
    from safs_ray.config import Configuration, ConfigurationError
    from safs_ray.data import Dataset, Examples, Folds, Splits
    from safs_ray.export.loading import load
    from safs_ray.models import Specification
    from safs_ray.network import Network
    from safs_ray.sparsification import Sparsified, sparsify, sparsify_with
    from safs_ray.storage import Folder

__version__ = "0.1.0"

__all__ = [
    "Configuration", "ConfigurationError", "Dataset", "Examples", "Folder", "Folds", "Network", "Sparsified",
    "Specification", "Splits", "config", "experiment", "export", "load", "sparsify", "sparsify_with",
    "stages",
]  # fmt: skip

_HOMES = {
    "Configuration": "config",
    "ConfigurationError": "config",
    "Dataset": "data",
    "Examples": "data",
    "Folder": "storage",
    "Folds": "data",
    "Network": "network",
    "Specification": "models",
    "Splits": "data",
    "Sparsified": "sparsification",
    "load": "export.loading",
    "sparsify": "sparsification",
    "sparsify_with": "sparsification",
}
"""The module of every name that is none itself. They are imported when they are first used: torch takes a second."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES.get(name, name)}")
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
