"""Can a candidate be judged before it is trained? Training-free scores against all recorded evaluations.

    python benchmarks/predictors.py

scores every EVERY-th assignment of evaluations.parquet on the pruned network (some minutes of one core) and prints the
table of README.md: the rank correlation with the best accuracy of 40 epochs, and how many candidates have to be
trained, in the order of a score, until one of the best twentieth is among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from ranking import correlation
from record_evaluations import SETTING, TABLE, prepare
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from safs_ray import config
from safs_ray.activations import ScaledActivation
from safs_ray.network import Network
from safs_ray.training import Training

BATCHES, BATCH = 8, 64
"""Training images that a score looks at."""

EVERY = 5
"""Coprime to the number of operators, so that every operator is at every site as often."""

Scores = npt.NDArray[np.float64]


def gradient_norm(module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """The norm of the gradient of the loss (Abdelfattah et al. 2021)."""
    return float(torch.cat([each.flatten() for each in _mean_and_deviation(module, batches)[0]]).norm())


def zico(module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """The sum over layers of log sum |mean gradient| / deviation over batches (ZiCo, Li et al. 2023)."""
    means, deviations = _mean_and_deviation(module, batches)
    sums = (
        (mean.abs()[deviation > 0] / deviation[deviation > 0]).sum()
        for mean, deviation in zip(means, deviations, strict=True)
    )
    return sum(float(torch.log(each)) for each in sums if each > 0)


def linear_regions(module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """log det of how often two images have activations of the same sign (NASWOT, Mellor et al. 2021)."""
    codes: list[Tensor] = []
    hooks = [
        child.register_forward_hook(lambda _, inputs, __: codes.append((inputs[0] > 0).flatten(1).double()))
        for child in module.modules()
        if isinstance(child, ScaledActivation)
    ]
    with torch.no_grad():
        module(batches[0][0])
    for hook in hooks:
        hook.remove()
    code = torch.cat(codes, 1)
    return float(torch.linalg.slogdet(code @ code.T + (1 - code) @ (1 - code).T).logabsdet)


def untrained_loss(module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """How low the loss is as the candidate begins."""
    with torch.no_grad():
        return -sum(float(cross_entropy(module(images), labels)) for images, labels in batches)


def _mean_and_deviation(module: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """Over the batches, of the gradient of each weight that is not pruned."""
    weights = [child.weight for child in module.modules() if isinstance(child, nn.Conv2d | nn.Linear)]
    each = [torch.autograd.grad(cross_entropy(module(images), labels), weights) for images, labels in batches]
    stacked = [
        torch.stack(gradients)[:, weight != 0]
        for gradients, weight in zip(zip(*each, strict=True), weights, strict=True)
    ]
    return [gradient.mean(0) for gradient in stacked], [gradient.std(0) for gradient in stacked]


PREDICTORS: dict[str, Callable[[nn.Module, list[tuple[Tensor, Tensor]]], float]] = {
    "loss before training": untrained_loss,
    "gradient norm": gradient_norm,
    "ZiCo": zico,
    "linear regions (NASWOT)": linear_regions,
}


def main() -> None:
    network, training = prepare(config.load(SETTING))
    rows = pq.read_table(TABLE).to_pylist()[::EVERY]
    curves = np.array([row["validation_accuracy"] for row in rows])
    truth = curves.max(1)
    scores = scored(network, training, [row["assignment"] for row in rows])
    scores |= {f"accuracy after {epochs} epochs": curves[:, :epochs].max(1) for epochs in (1, 2, 5, 10)}
    for line in table(scores, truth):
        print(line)


def scored(network: Network, training: Training, assignments: list[list[str]]) -> dict[str, Scores]:
    """Every predictor's score of every assignment."""
    batches = list(_batches(network, training))
    found: dict[str, list[float]] = {name: [] for name in PREDICTORS}
    for assignment in assignments:
        module = network.assign(assignment).build()
        for name, predict in PREDICTORS.items():
            found[name].append(predict(module, batches))
    return {name: np.array(values) for name, values in found.items()}


def _batches(network: Network, training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    images = training.context.splits.train[: BATCHES * BATCH]
    for part in range(BATCHES):
        chosen = images[part * BATCH : (part + 1) * BATCH]
        yield network.specification.normalised(chosen.inputs), chosen.labels


def table(scores: dict[str, Scores], truth: Scores) -> list[str]:
    """In Markdown."""
    lines = ["| score | rank correlation | trained until one of the best 5% is found |", "|---|---|---|"]
    best = truth >= np.quantile(truth, 0.95)
    by_chance = (len(truth) + 1) / (best.sum() + 1)
    for name, values in scores.items():
        lines.append(f"| {name} | {correlation(values, truth):.2f} | {_first(values, best):.0f} |")
    return [*lines, f"| chance | 0 | {by_chance:.0f} |"]


def _first(scores: Scores, best: npt.NDArray[np.bool_]) -> float:
    """The place of the first of the best in the order of a score, on average where some score alike."""
    draws = np.random.default_rng(0)
    places = []
    for _ in range(100):
        shuffled = draws.permutation(len(scores))
        order = shuffled[np.argsort(-scores[shuffled], kind="stable")]
        places.append(1 + int(np.argmax(best[order])))
    return float(np.mean(places))


if __name__ == "__main__":
    main()
