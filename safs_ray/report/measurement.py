"""What networks do with images: the inputs of their sites, and the gradients of their weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from safs_ray import stages
from safs_ray.config import Configuration, refusal
from safs_ray.data import Examples, batch_count
from safs_ray.network import Network
from safs_ray.pruning.flow import reach
from safs_ray.pruning.masks import prunable_weights
from safs_ray.sources.named import TORCHVISION
from safs_ray.sparse import graph
from safs_ray.sparse.graph import Affine
from safs_ray.sparse.removal import Channels, kept_weights, needed_channels

log = logging.getLogger("safs_ray")

Values = npt.NDArray[np.float32]

IMAGES = 128
"""Validation images that are looked at: enough for a distribution, few enough for a large network on a CPU."""

BATCH = 64
VALUES = 2_000_000
"""Inputs of a site that are kept at about most: of more neurons than that allows, every second, third, …"""


def validation_images(configuration: Configuration) -> Examples:
    """The first images that the search validates on; nothing is downloaded.

    Raises:
        ConfigurationError: the data are not here.
    """
    section = configuration.data
    if section.source in TORCHVISION and not Path(section.folder).is_dir():
        raise refusal("data.folder", section.folder, f"no such folder here, so {section.source} cannot be read")
    with _untold():
        dataset = stages.load(configuration).without_test()
    return stages.folds(configuration, dataset).search().validation[:IMAGES]


@contextmanager
def _untold() -> Iterator[None]:
    """Without what is said of images as they are loaded: the run has said it."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@torch.no_grad()
def site_inputs(network: Network, images: Tensor) -> dict[str, Values]:
    """What each site takes, by site: of all neurons whose input differs from image to image.

    In a very sparse network most neurons have no weights left; they hold their bias, whatever the image.

    Args:
        images: uint8 (N, C, H, W).
    """
    seen: dict[str, list[Tensor]] = {site: [] for site in network.sites}
    module = network.build().eval()
    for site in network.sites:
        module.get_submodule(site).register_forward_pre_hook(
            lambda _, inputs, site=site: seen[site].append(_spread(inputs[0].flatten(1)))
        )
    for batch in torch.split(images, BATCH):
        module(network.specification.normalised(batch))
    return {site: _varying(torch.cat(batches)) for site, batches in seen.items()}


def _spread(inputs: Tensor) -> Tensor:
    """As many neurons, evenly spread, of (N, neurons) as VALUES allows, copied."""
    return inputs[:, :: 1 + inputs.shape[1] * IMAGES // VALUES].clone()


def _varying(inputs: Tensor) -> Values:
    """The finite values of the neurons of (N, neurons) that are not constant."""
    values: Values = inputs[:, inputs.amax(0) > inputs.amin(0)].flatten().numpy()
    return values[np.isfinite(values)]


def gradient_norms(network: Network, examples: Examples) -> dict[str, float]:
    """The Euclidean norm of the loss's gradient with respect to the weights that are left, by name of the weight.

    The loss is the mean cross-entropy; batch normalisation works as in training.
    """
    module = network.build().train()
    weights = prunable_weights(module)
    totals = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    batches = batch_count(len(examples), BATCH)  # nearly equal: of one image batch normalisation knows no statistics
    for images, labels in zip(
        examples.inputs.tensor_split(batches), examples.labels.tensor_split(batches), strict=True
    ):
        loss = cross_entropy(module(network.specification.normalised(images)), labels, reduction="sum")
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        for name, gradient in zip(weights, gradients, strict=True):
            totals[name] += gradient * network.masks.get(name, 1) / len(examples)
    return {name: total.norm().item() for name, total in totals.items()}


@dataclass(frozen=True)
class Layer:
    """What masks leave of one layer.

    Attributes:
        kept, of: its weights.
        live, channels: its output channels (neurons of a linear layer), and those among them that images reach and
            that lead on to the output; live is None where the network's graph cannot be read.
    """

    kept: int
    of: int
    live: int | None
    channels: int

    @property
    def sparsity(self) -> float:
        return 1 - self.kept / self.of


def layers(network: Network) -> dict[str, Layer]:
    """What the masks leave of every layer with weights, by name of its weight, in the order of the module."""
    module, example = network.build(), network.specification.example()
    survey = network.survey
    reached, needed = reach(module, network.masks, example, network.sites).channels, _needed(network)
    return {
        name: Layer(
            survey.kept[name],
            survey.of[name],
            int((reached[name].numpy() & needed[name]).sum()) if needed is not None and name in reached else None,
            len(network.state[name]),
        )
        for name in survey.of
    }


def _needed(network: Network) -> dict[str, Channels] | None:
    """By layer: the output channels from which a path of weights leads to the output; None where that is not known."""
    plain = Network.initial(network.specification, seed=0)  # the same layers, whatever the groups of its sites
    try:
        steps = graph.read(plain.build(), network.specification.example())
    except graph.UnsupportedError:
        return None
    needed: dict[str, Channels] = {}
    for step, own in zip(steps, needed_channels(steps, kept_weights(steps, network)), strict=True):
        if isinstance(step.operation, Affine):
            name = f"{step.operation.owner}.weight"
            needed[name] = np.logical_or(own, needed.get(name, False))
    return needed
