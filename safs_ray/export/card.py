"""The model card: what an exported network is, what it is worth, how it was made, and what it is not for."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch

from safs_ray.config import Configuration, counted
from safs_ray.export import Accuracies, ExportedFile
from safs_ray.export.finished import FinishedRun
from safs_ray.export.formats import FORMATS, INT8, INT8_USAGE, describe
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.operators import lookup
from safs_ray.report.wording import called
from safs_ray.stages.classes import told

CARD = "MODEL_CARD.md"


def card(run: FinishedRun, exported: ExportedFile) -> str:
    """The card of a run's best network as Markdown."""
    network = run.best.network
    sections = {
        "Use": _use(run, exported),
        called("Accuracy", run.configuration.measure): [*_accuracy(run), *_in_integers(exported)],
        "Activations": _activations(network),
        "What the export changed": _changes(exported),
        "How it was made": _making(run),
        "Limits": _limits(run),
        "Configuration": ["```yaml", run.text.strip(), "```"],
    }
    lines = [f"# {run.configuration.run.name}", "", _summary(network, run.configuration)]
    for heading, text in sections.items():
        lines += ["", f"## {heading}", "", *text]
    return "\n".join(lines) + "\n"


def _summary(network: Network, configuration: Configuration) -> str:
    kind = network.specification
    return (
        f"A sparse {kind.model} that {_task(kind, configuration)}, {_training(configuration)}. "
        f"{network.nonzero_weights:,} of its {network.prunable_count:,} convolution and linear weights are nonzero: "
        f"sparsity {_percent(network.sparsity, 2)} %. safs_ray searched its activation functions and learned their "
        "scales by Sparse Activation Function Search ([SAFS, AutoML 2023](https://arxiv.org/abs/2305.10964))."
    )


def _training(configuration: Configuration) -> str:
    """By what the network was trained, and on what."""
    by, on = configuration.task.loop, "its own data" if configuration.data.unlabelled else configuration.data.source
    return f"trained by the loop {by} on {on}" if by else f"trained on {on}"


def _task(kind: Specification, configuration: Configuration) -> str:
    takes = f"{kind.noun}s of {kind.size}"
    if configuration.task.loop:
        return f"computes {counted(kind.outputs, 'number')} of {takes}"
    return {
        "classification": f"classifies {takes} into {counted(kind.outputs, 'class', 'classes')}",
        "multilabel": f"tells which of {counted(kind.outputs, 'label')} apply to {takes}",
        "regression": f"predicts {counted(kind.outputs, 'value')} of {takes}",
    }[configuration.data.task]


def _use(run: FinishedRun, exported: ExportedFile) -> list[str]:
    kind, name = run.best.network.specification, exported.format
    usage = INT8_USAGE if name == INT8 else FORMATS[name].usage
    return [
        ", ".join(f"`{file}`, {size:,} bytes" for file, size in exported.files.items()) + ":",
        "",
        f"```{'c' if name in ('c', INT8) else 'python'}",
        usage.replace("image", kind.noun),
        "```",
        "",
        *(f"- {name}: {text}" for name, text in describe(kind, exported.format).items()),
        *([f"- classes, in the order of the logits: {told(run.classes)}"] if run.classes else []),
        *_normalisation(kind),
        *(
            f"- {trial.runtime} loaded it in {trial.load:.2f} s, and took {1000 * trial.image:.3g} ms for one "
            f"{kind.noun}, on the machine that exported it"
            for trial in exported.trials
        ),
    ]


def _normalisation(kind: Specification) -> list[str]:
    """What is inside the network, or nothing."""
    if not kind.mean:
        return []
    value = {"uint8": "pixel / 255" if kind.is_of_images else "value / 255"}.get(kind.kind, "value")
    lines = [
        f"- normalisation inside: ({value} - mean) / deviation; by channel, mean {list(kind.mean)}, deviation "
        f"{list(kind.deviation)}"
    ]
    if kind.target_mean:
        scale = f"mean {list(kind.target_mean)}, deviation {list(kind.target_deviation)}"
        lines.append(f"- values are given in the units of the targets: output * deviation + mean, {scale}")
    return lines


def _accuracy(run: FinishedRun) -> list[str]:
    lines = ["| network | validation, % | test, % | sparsity, % | nonzero weights |", "|---|---|---|---|---|"]
    for row in run.results["rows"]:
        spreads = " | ".join(_spread(row[name]) for name in ("validation_accuracy", "test_accuracy"))
        lines.append(f"| {row['name']} | {spreads} | {_percent(row['sparsity'], 2)} | {row['nonzero_weights']:,} |")
    validation, test = run.best.validation_accuracy, run.best.test_accuracy
    measure, noun = run.configuration.measure, run.best.network.specification.noun
    last = run.results["rows"][-1]["name"]
    masks = " from the same masks" if run.configuration.search.when == "after" else ""
    return [
        *lines,
        "",
        "Mean ± standard deviation over the folds of the final evaluation, where there are several. All sparse rows "
        f"were trained equally long{masks}. This is the {last} network of the fold with the highest "
        f"validation {measure}: {_percent(validation)} % on validation {noun}s, {_percent(test or 0)} % on test "
        f"{noun}s.",
    ]


def _in_integers(exported: ExportedFile) -> list[str]:
    return ["", f"{in_integers(exported.accuracies).capitalize()}."] if exported.accuracies else []


def in_integers(found: Accuracies) -> str:
    """What 8-bit integers cost, as a sentence."""
    before, after = (f"{_percent(each, 2)} %" for each in (found.before, found.after))
    return f"in 8-bit integers it classifies {after} of {counted(found.count, found.images)}, before {before}"


def _activations(network: Network) -> list[str]:
    lines = ["| site | operator g | alpha | beta | parameters of g |", "|---|---|---|---|---|"]
    for site, activation in network.activations().items():
        scales = f"{activation['alpha']:.4g} | {activation['beta']:.4g}"
        parameters = (
            f"{name} = {network.state[f'{site}.internal.{name}'].item():.4g}"
            for name in lookup(activation["operator"]).parameters
        )
        lines.append(f"| {site} | {activation['operator']} | {scales} | {', '.join(parameters)} |")
    return ["Every site computes f(x) = alpha g(beta x), element by element, as it was learned:", "", *lines]


def _changes(exported: ExportedFile) -> list[str]:
    return [
        *(f"- {note}" for note in exported.notes),
        f"- on {exported.images} its logits differ by at most {exported.difference:.1e} from those of the network that "
        f"was trained; the largest of them is {exported.largest:.2g}",
    ]


def _making(run: FinishedRun) -> list[str]:
    configuration, search = run.configuration, run.results["search"]
    data, pruning = configuration.data, configuration.pruning
    sample = f", a sample of {counted(data.limit, 'image')}" if data.limit else ""
    weights, epochs = configuration.model.weights, configuration.dense.epochs
    trained = f"trained for {counted(epochs, 'epoch')}" if epochs else "initial weights, not trained"
    dense = f"taken from {weights}" if weights else trained
    how = (
        "pruned already"
        if configuration.model.pruned
        else f"pruned by {pruning.score}, allocation {pruning.allocation}, structure {pruning.structure}, schedule "
        f"{pruning.schedule}"
    )
    return [
        f"- data: {data.source}{sample}; {_percent(data.validation)} % of the training images validate each fold; the "
        "test images were read once, at the end"
        if not data.unlabelled
        else f"- data: those of {configuration.task.loop}, which gave every score",
        f"- network: {dense}, {how}",
        f"- search: protocol {configuration.search.protocol}, strategy {configuration.search.strategy}, "
        f"{counted(search['trials'], 'trial')}, {counted(search['evaluations'], 'evaluation')} trained, among the "
        f"operators {', '.join(configuration.search.operators)}",
        f"- last training: {counted(configuration.final.epochs, 'epoch')} with "
        + ", ".join(
            [
                *(f"{name.replace('_', ' ')} {value}" for name, value in run.results["hyperparameters"].items()),
                *configuration.training.words,
            ]
        ),
        f"- seed {configuration.run.seed}, from which every random draw follows",
        f"- made with {_versions(run.text)}; exported with Python {platform.python_version()}, torch "
        f"{torch.__version__}",
    ]


def _versions(text: str) -> str:
    """What the first line of config.yaml names."""
    first = text.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else "versions that are not known"


def _limits(run: FinishedRun) -> list[str]:
    kind, survey, data = run.best.network.specification, run.best.network.survey, run.configuration.data
    measure, loop = run.configuration.measure, run.configuration.task.loop
    source = f"{kind.noun}s of {loop if data.unlabelled else data.source}"
    lines = [
        f"- It was trained and tested on {source} alone; how it does on others is not known." + _resizing(kind),
        f"- Operators, hyperparameters and weights were chosen by validation {measure}, which therefore is optimistic.",
    ]
    if data.task == "classification" and not loop:
        lines.append("- The softmax of its logits is not calibrated.")
    if survey.reached is None:
        lines.append("- Whether every class has a logit that differs from image to image is not known.")
    elif constant := survey.outputs - survey.reached:
        have = f"classes {'has' if constant == 1 else 'have'}"
        lines.append(f"- {constant} of {survey.outputs} {have} a logit that is the same for every {kind.noun}.")
    return lines


def _resizing(kind: Specification) -> str:
    if not kind.is_of_images:
        return ""
    size = "x".join(map(str, kind.shape[1:]))
    return f" Images of another size than {size} must be resized first, with their channels in the same order."


def _spread(values: Mapping[str, Any]) -> str:
    deviation = "" if values["sd"] is None else f" ± {_percent(values['sd'])}"
    return f"{_percent(values['mean'])}{deviation}"


def _percent(fraction: float, digits: int = 1) -> str:
    return f"{100 * fraction:.{digits}f}"
