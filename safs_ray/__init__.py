"""Sparse Activation Function Search: keep a very sparse network accurate.

The rooms, in reading order (each imports only from those before it)::

    config  storage  randomness  data  operators  activations  models  pruning  network
    training  search  stages  report  tune

Only :mod:`safs_ray.tune` imports Ray.
"""

__version__ = "0.1.0"
