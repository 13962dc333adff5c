"""Networks that safs_ray wrote, as modules that run. Neither Ray nor the run's data are needed."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import torch
from torch import nn

from safs_ray import machine
from safs_ray.config import ConfigurationError, Execution, refusal
from safs_ray.engine.module import inference_module
from safs_ray.export import sparse_file
from safs_ray.network import Network, forget_modules
from safs_ray.sources.images import one_line
from safs_ray.storage import Folder


def load(path: str | Path, execution: Execution = "auto", device: str = "cpu", threads: int = 1) -> nn.Module:
    """A network as a torch module in evaluation mode.

    It maps uint8 images (N, C, H, W), pixels from 0 to 255, to logits (N, classes); it normalises them itself.

    Args:
        path: a run folder, whose best network is taken; a folder that a network was saved in; or a file
            ``network.safetensors`` that was exported, or its folder. A path or a URI.
        execution: "dense" computes with all weights, "sparse" with nonzeros alone, on a CPU; "auto" as is expected to
            be faster for each batch. Sparse execution gives no gradients.
        device: where torch is to compute, for instance "cuda".
        threads: that share the work of a layer in sparse execution; a large network gains from a few.

    Raises:
        ConfigurationError: there is no network, it is damaged, or it cannot be executed so.

    Examples:
        >>> from safs_ray.models import Specification
        >>> network = Network.initial(Specification("mlp", (1, 8, 8), 10, mean=(0.5,), deviation=(0.5,)), seed=0)
        >>> network.save(Folder.at("mine"))
        >>> module = load("mine", execution="dense")
        >>> module(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).shape
        torch.Size([3, 10])
    """
    if execution not in get_args(Execution):
        raise refusal("execution", execution, f"allowed: {', '.join(get_args(Execution))}")
    if not isinstance(threads, int) or threads < 1:
        raise refusal("threads", threads, "must be a whole number, 1 or more")
    place = _device(device)
    try:
        module = inference_module(_network(str(path)), execution, place, threads)
    except (ConfigurationError, MemoryError):
        raise
    except Exception as error:  # whatever a missing or damaged file makes the readers stumble over
        raise refusal("path", str(path), f"cannot be read ({type(error).__name__}: {one_line(error)})") from None
    forget_modules()
    machine.give_back_memory()
    return module


def _device(name: str) -> torch.device:
    try:
        return torch.device(name)
    except (RuntimeError, TypeError):
        raise refusal("device", name, "torch knows no such device; such as cpu or cuda") from None


def _network(path: str) -> Network:
    folder = Folder.at(path)
    for place in (folder, folder / "networks" / "best"):
        if place.exists("network.json"):
            return Network.load(place)
    name = sparse_file.FILE
    if path.endswith(".safetensors"):
        parent, _, name = str(folder).rpartition("/")
        folder = Folder.at(parent or "/")
    elif not folder.exists(name):
        allowed = "a finished run, a folder that a network was saved in, or an exported network.safetensors"
        raise refusal("path", path, f"holds no network; allowed: {allowed}")
    return sparse_file.read(folder.read(name))
