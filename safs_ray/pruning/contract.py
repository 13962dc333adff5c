"""What every score promises, tried on one: the package's own, or a user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from safs_ray.pruning.scores import Evidence, Score
from safs_ray.randomness import generator


def fault_of(score: Score, make: Callable[[], nn.Module] | None = None, channels: int = 1, size: int = 8) -> str | None:
    """The first promise that a score breaks, in words; None where it keeps all.

    Args:
        make: builds a network of images (N, channels, size, size) and 10 classes to try it on; without one a small
            convolutional network is taken.
    """
    try:
        return next(_faults(score, make or _network, channels, size), None)
    except Exception as error:  # a user's score may raise anything
        return f"raises {type(error).__name__}: {error}"


def _faults(score: Score, make: Callable[[], nn.Module], channels: int, size: int) -> Iterator[str]:
    draws = generator(0, "contract")
    images = torch.randn(6, channels, size, size, generator=draws)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = make().eval()
    evidence = Evidence(module, images, torch.arange(6) % 10)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    scores, weights = score(evidence), evidence.weights
    if set(scores) != set(weights):
        yield f"scores {', '.join(sorted(scores))}; it must score {', '.join(sorted(weights))}"
    for name, weight in weights.items():
        yield from _faults_of_tensor(name, scores[name], weight)
    if any(not torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items()):
        yield "changes the network"
    again = score(evidence)
    if any(not torch.equal(scores[name], again[name]) for name in weights):
        yield "gives different scores when it is called again"


def _faults_of_tensor(name: str, score: object, weight: Tensor) -> Iterator[str]:
    if not isinstance(score, Tensor) or score.shape != weight.shape:
        shape = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
        yield f"gives {shape} for {name}, whose shape is {tuple(weight.shape)}"
    elif not score.isfinite().all():
        yield f"gives scores for {name} that are not finite"
    elif score.requires_grad:
        yield f"gives scores for {name} that still have a gradient"


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
