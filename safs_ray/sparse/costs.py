"""What sparse execution costs on this machine: measured once, then read from the user's cache folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile

import numba
import numpy as np
import torch
from llvmlite import binding
from pydantic import TypeAdapter, ValidationError
from torch import nn

from safs_ray import machine
from safs_ray.activations import find_sites
from safs_ray.config import TYPICAL, Cost, Costs
from safs_ray.losses import CROSS_ENTROPY, Targets
from safs_ray.models import Specification
from safs_ray.network import Network, state_of
from safs_ray.pruning.masks import prunable_weights
from safs_ray.sparse import plan
from safs_ray.sparse.cohort import Cohort
from safs_ray.sparse.dense import DenseCohort
from safs_ray.sparse.module import SparseCohort

CHANNELS, SIDE, IMAGES = 64, 16, 64
REPEATS = 7

MOST = 1000.0
"""What is more was no measurement."""


def of_this_machine() -> Costs:
    """The costs on a core of a processor of this kind, with these versions of torch and numba; takes some seconds once.

    They are the same from then on, as they decide which bits a network computes.
    """
    if not (folder := machine.cache_folder()):
        return measure()
    versions = (version("safs_ray"), torch.__version__, numba.__version__)
    file = folder / f"costs-{'-'.join((binding.get_host_cpu_name(), *versions))}.json"
    if known := _read(file):
        return known
    measured = measure()
    _write(file, measured)
    return _read(file) or measured  # another process may have been first


def _read(file: Path) -> Costs | None:
    """None where there are none, or damaged ones."""
    try:
        return Costs(*TypeAdapter(tuple[Cost, Cost, Cost]).validate_json(file.read_bytes()))
    except ValidationError:
        file.unlink(missing_ok=True)
    except OSError:
        pass
    return None


def _write(file: Path, costs: Costs) -> None:
    """Whole, and unless it is there."""
    with suppress(OSError), NamedTemporaryFile("w", dir=file.parent) as written:
        json.dump(costs, written)
        written.flush()
        os.link(written.name, file)


def measure() -> Costs:
    """Time steps of one network, dense, sparse at two sparsities, and mixed: four equations of what each does.

    What comes out of them as no cost, by chance on a busy machine, is as it typically is. All of it computes as
    trainings do: in training mode, images contiguous.
    """
    machine.keep_memory()
    network, module = _probe()
    mostly, hardly = _pruned(network, module, 0.02), _pruned(network, module, 0.2)
    dense_where_possible = TYPICAL._replace(nonzero=1e6)
    sparse = [plan.make(each, module, nonzeros_only=True) for each in (mostly, hardly)]
    mixed = plan.make(hardly, module, dense_where_possible)
    cohorts: list[Cohort] = [
        DenseCohort(network, deepcopy(module), torch.device("cpu")),
        SparseCohort(sparse[0], mostly, deepcopy(module)),
        SparseCohort(sparse[1], hardly, deepcopy(module)),
        SparseCohort(mixed, hardly, deepcopy(module)),
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = _fastest([_step(each) for each in cohorts])
    finally:
        torch.set_num_threads(threads)
    work = [mixed.work_of_dense, *(each.work for each in (*sparse, mixed))]
    use, *others = np.linalg.solve(np.array(work, float), times)
    found = [round(float(other / use), 2) for other in others] if use > 0 else TYPICAL
    return Costs(*(each if 0 < each < MOST else typical for each, typical in zip(found, TYPICAL, strict=True)))


def _probe() -> tuple[Network, nn.Module]:
    """What is timed: two convolutions of :data:`CHANNELS` channels behind one that makes these."""

    def block(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU()]

    blocks = [*block(3), *block(CHANNELS), *block(CHANNELS)]
    module = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10))
    specification = Specification("probe", (3, SIDE, SIDE), 10, (0.5,) * 3, (0.25,) * 3)
    sited = find_sites(module, specification.example(), ())
    installed = sited.install_defaults(module)
    return Network(specification, sited.sites, sited.defaults, state_of(installed), {}), installed


def _pruned(network: Network, module: nn.Module, kept: float) -> Network:
    """With a share of the weights, chosen at random, and no dead channel."""
    draws = torch.Generator().manual_seed(0)
    masks = {}
    for name, weight in prunable_weights(module).items():
        mask = torch.rand(weight.shape, generator=draws) < kept
        inputs = torch.arange(max(weight.shape[:2]))
        mask[inputs % len(weight), inputs % weight.shape[1]] = True  # so every output and every input is used
        masks[name] = mask
    return network.masked(masks)


def _step(cohort: Cohort) -> Callable[[], object]:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, SIDE, SIDE), dtype=torch.uint8, generator=draws)
    labels = torch.randint(0, 10, (IMAGES,), generator=draws)
    cohort.train().freeze_scales()
    return lambda: cohort.learn(images, Targets(labels), CROSS_ENTROPY)


def _fastest(steps: Sequence[Callable[[], object]]) -> list[float]:
    """Seconds of the fastest of several turns of each; other work on the machine only makes one slower."""
    times = [[_timed(step) for step in steps] for _ in range(REPEATS)]
    return [min(column) for column in zip(*times, strict=True)]


def _timed(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start
