"""The model card: what an exported network is, what it is worth, how it was made, and what it is not for."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from safs_ray.config import Configuration
from safs_ray.export import Exported
from safs_ray.export.finished import FinishedRun
from safs_ray.export.formats import FORMATS, describe
from safs_ray.network import Network

CARD = "MODEL_CARD.md"


def card(run: FinishedRun, exported: Exported) -> str:
    """The card as Markdown."""
    sections = {
        "Use": _use(run.best.network, exported),
        "Accuracy": _accuracy(run),
        "The network": _network(run.best.network, exported),
        "How it was made": _making(run),
        "Limits": _limits(run),
        "Configuration": ["```yaml", run.text.strip(), "```"],
    }
    lines = [f"# {run.configuration.run.name}", "", _summary(run)]
    for heading, text in sections.items():
        lines += ["", f"## {heading}", "", *text]
    return "\n".join(lines) + "\n"


def _summary(run: FinishedRun) -> str:
    network, data = run.best.network, run.configuration.data
    kind = network.specification
    return (
        f"A sparse {kind.model} that sorts {kind.size}x{kind.size} images of {kind.channels} channel(s) into "
        f"{kind.classes} classes, trained on {data.source}. {network.nonzero_weights:,} of its "
        f"{network.prunable_count:,} convolution and linear weights are nonzero, a sparsity of "
        f"{_percent(network.sparsity)} %. Its activation functions were searched, and their scales learned, by Sparse "
        "Activation Function Search (SAFS, Loni et al., AutoML 2023, https://arxiv.org/abs/2305.10964) with safs_ray."
    )


def _use(network: Network, exported: Exported) -> list[str]:
    chosen = FORMATS[exported.format]
    described = describe(network.specification)
    return [
        f"`{chosen.file}`, {exported.size:,} bytes:",
        "",
        "```python",
        chosen.usage,
        "```",
        "",
        *(f"- {name}: {text}" for name, text in described.items()),
        f"- the normalisation inside: (pixel / 255 - mean) / deviation, by channel, with mean "
        f"{list(network.specification.mean)} and deviation {list(network.specification.deviation)}",
    ]


def _accuracy(run: FinishedRun) -> list[str]:
    best = run.best
    lines = ["| network | validation, % | test, % | sparsity, % | nonzero weights |", "|---|---|---|---|---|"]
    for row in run.results["rows"]:
        accuracies = " | ".join(_spread(row[name]) for name in ("validation_accuracy", "test_accuracy"))
        sparsity = _percent(row["sparsity"])
        lines.append(f"| {row['name']} | {accuracies} | {sparsity} | {row['nonzero_weights']:,} |")
    folds = len(run.results["rows"][-1]["test_accuracy"]["values"])
    return [
        *lines,
        "",
        f"Mean ± standard deviation over {folds} fold(s); every sparse row was trained equally long from the same "
        f"masks. This file holds the SAFS network of the fold with the highest validation accuracy: "
        f"{_percent(best.validation_accuracy)} % on validation images, {_percent(best.test_accuracy or 0.0)} % on "
        "test images.",
    ]


def _network(network: Network, exported: Exported) -> list[str]:
    return [
        "Each site computes f(x) = alpha g(beta x), element by element:",
        "",
        "| site | operator g | alpha | beta | parameters of g |",
        "|---|---|---|---|---|",
        *_activations(network),
        "",
        "What was learned, before the export changed how it is written, but for rounding not what it computes:",
        "",
        *(f"- {note}" for note in exported.notes),
        f"- on random images the logits differ by at most {exported.difference:.1e} from those of the network that was "
        f"trained, the largest of which is {exported.largest:.2g}",
        f"- {network.survey().summary}",
    ]


def _activations(network: Network) -> Iterator[str]:
    for site, activation in network.activations().items():
        internal = {
            name.removeprefix(f"{site}.internal."): f"{tensor.item():.4g}"
            for name, tensor in network.state.items()
            if name.startswith(f"{site}.internal.")
        }
        scales = f"{activation['alpha']:.4g} | {activation['beta']:.4g}"
        yield f"| {site} | {activation['operator']} | {scales} | {_listed(internal)} |"


def _making(run: FinishedRun) -> list[str]:
    configuration, results = run.configuration, run.results
    search, pruning = results["search"], configuration.pruning
    return [
        f"- data: {configuration.data.source}{_sample(configuration)}; {_percent(configuration.data.validation)} % of "
        "the training images for validation in each fold; the test images were read once, at the end",
        f"- pruning: score {pruning.score}, allocation {pruning.allocation}, structure {pruning.structure}, schedule "
        f"{pruning.schedule}"
        + ("; the network came pruned" if configuration.model.pruned else f"; dense training {_origin(configuration)}"),
        f"- search: protocol {configuration.search.protocol}, strategy {configuration.search.strategy}, "
        f"{search['trials']} trials, {search['evaluations']} evaluations trained; operators "
        f"{', '.join(configuration.search.operators)}",
        f"- hyperparameters found: {_listed(results['hyperparameters'])}",
        f"- last training: {configuration.final.epochs} epochs",
        f"- seed: {configuration.run.seed}, from which every random draw follows",
        f"- made with {_versions(run.text)}; exported with Python {platform.python_version()}, torch "
        f"{torch.__version__}",
    ]


def _sample(configuration: Configuration) -> str:
    limit = configuration.data.limit
    return f", a sample of {limit:,} training and at most as many test images" if limit else ""


def _origin(configuration: Configuration) -> str:
    weights = configuration.model.weights
    return f"elsewhere ({weights})" if weights else f"{configuration.dense.epochs} epochs"


def _versions(text: str) -> str:
    """The first line of config.yaml names them."""
    first = text.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else "unknown versions"


def _limits(run: FinishedRun) -> list[str]:
    specification, data = run.best.network.specification, run.configuration.data
    reached = run.best.network.survey()
    lines = [
        f"- It was trained and tested on images of {data.source} alone; how it does on others is not known. Images of "
        f"another size than {specification.size}x{specification.size} must be resized as there, and have their "
        "channels in the same order.",
        "- Operators, hyperparameters and weights were chosen by validation accuracy, which is optimistic for that; "
        "test accuracy is not.",
        "- The logits are not calibrated: their softmax is no probability to rely on.",
    ]
    if reached.reached < reached.outputs:
        constant = reached.outputs - reached.reached
        lines.append(f"- {constant} of {reached.outputs} classes have a logit that is the same for every image.")
    return lines


def _spread(values: Mapping[str, Any]) -> str:
    deviation = "" if values["sd"] is None else f" ± {100 * values['sd']:.1f}"
    return f"{100 * values['mean']:.1f}{deviation}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g}"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
