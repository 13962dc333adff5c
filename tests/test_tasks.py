"""Tables, signals, numbers, several labels, images that are not square, and indices: whole experiments in process."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import safs_ray
from safs_ray import config, export, stages
from safs_ray.config import ConfigurationError, Hyperparameters
from safs_ray.export.c import writing
from safs_ray.export.loading import load
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.references import lend
from safs_ray.sparsification import Sparsified
from safs_ray.storage import Folder
from safs_ray.training import Context, Trainer, Training

SHORT = (
    "dense.epochs=12", "dense.hyperparameters.learning_rate=0.01", "pruning.recipe=one-shot-global",
    "pruning.epochs=2", "search.steps=2", "search.epochs=1",
    "finetune.epochs=1", "finetune.epochs_per_step=1", "tune.trials=2", "tune.grace_period=1", "final.epochs=2",
    "final.finalists=1", "run.verbose=0", "data.validation=0.2",
)  # fmt: skip

Data = tuple[Tensor, Tensor]
Case = tuple[nn.Module, Data, Data, tuple[str, ...]]


def parts(inputs: Tensor, labels: Tensor) -> tuple[Data, Data]:
    """One in four to test on."""
    draws = torch.Generator().manual_seed(0)
    order = torch.randperm(len(inputs), generator=draws)
    test = len(inputs) // 4
    return (inputs[order[test:]], labels[order[test:]]), (inputs[order[:test]], labels[order[:test]])


def linear(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, outputs))


def of_table() -> Case:
    """scikit-learn's breast cancer: 30 features of very different sizes, 2 classes."""
    found = load_breast_cancer()
    inputs, labels = torch.tensor(found.data).float(), torch.tensor(found.target)
    return linear(30, 2), *parts(inputs, labels), ("data.metric=balanced accuracy", "data.class_weights=balanced")


def of_signals() -> Case:
    """Sines of two frequencies with noise, at any phase, in two channels."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(240) % 2
    time = torch.linspace(0, 6, 32)[None] * (2.0 + 2.0 * labels[:, None])
    phase = 6 * torch.rand(240, 1, generator=draws)
    signals = torch.stack([torch.sin(time + phase), torch.cos(time + phase)], 1)
    inputs = 5 + signals + 0.2 * torch.randn(signals.shape, generator=draws)
    convolutions = [nn.Conv1d(2, 8, 5, stride=2, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)]
    further = [nn.Conv1d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(16, 2)]
    return nn.Sequential(*convolutions, *further), *parts(inputs, labels), ()


def of_values() -> Case:
    """scikit-learn's diabetes: a number around 150."""
    found = load_diabetes()
    inputs, targets = torch.tensor(found.data).float(), torch.tensor(found.target)
    return linear(10, 1), *parts(inputs, targets), ("data.task=regression", "dense.epochs=20")


def of_labels() -> Case:
    """Three labels, each of which applies where a sum of features is positive."""
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 8, generator=draws)
    labels = (inputs @ torch.randn(8, 3, generator=draws) > 0.5).float()
    return linear(8, 3), *parts(inputs, labels), ("data.task=multilabel", "data.class_weights=balanced")


def of_oblong_images() -> Case:
    """Images of 6x10, whose left or right half is bright."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(160) % 2
    images = torch.randint(0, 128, (160, 1, 6, 10), dtype=torch.uint8, generator=draws)
    images[labels == 1, :, :, :5] += 100
    images[labels == 0, :, :, 5:] += 100
    convolutions = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*convolutions, nn.Linear(60, 2)), *parts(images, labels), ("data.flip=false",)


def of_texts() -> Case:
    """Six words of twelve; the class is whether the first six of them are more."""
    draws = torch.Generator().manual_seed(0)
    words = torch.randint(12, (240, 6), generator=draws)
    labels = (words < 6).float().mean(1).gt(0.5).long()
    module = nn.Sequential(nn.Embedding(12, 8), nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 2))
    return module, *parts(words, labels), ()


CASES: dict[str, Callable[[], Case]] = {
    "table": of_table,
    "signals": of_signals,
    "values": of_values,
    "labels": of_labels,
    "oblong images": of_oblong_images,
    "texts": of_texts,
}


def sparsified(case: Case, *settings: str) -> Sparsified:
    module, train, test, own = case
    return safs_ray.sparsify(module, train, test, sparsity=0.5, settings=[*SHORT, *own, *settings])


@pytest.mark.parametrize(
    ("name", "measure", "least"),
    [
        ("table", "balanced accuracy", 0.8),
        ("signals", "accuracy", 0.8),
        ("values", "R²", 0.2),
        ("labels", "mean average precision", 0.7),
        ("oblong images", "accuracy", 0.9),
        ("texts", "accuracy", 0.6),
    ],
)
def test_sparsify_and_every_export_that_covers_it_and_load(
    name: str, measure: str, least: float, tmp_path: Path
) -> None:
    case = CASES[name]()
    inputs, labels = case[2]
    found = sparsified(case)
    rows = {row["name"]: row for row in found.results["rows"]}
    assert rows["SAFS"]["test_accuracy"]["mean"] >= least
    assert found.network.sparsity == pytest.approx(0.5, abs=0.01)
    assert str(found).startswith(f"{measure[0].upper()}{measure[1:]} in per cent")
    with torch.inference_mode():
        expected = found.network.specification.restored(
            found.network.build().eval()(found.network.specification.normalised(inputs))
        )
        torch.testing.assert_close(found.module(inputs), expected, rtol=1e-4, atol=1e-4)
    if name == "values":  # in the units of the targets
        assert 0.5 < expected.mean().item() / labels.mean().item() < 1.5
    for kind in ("onnx", "torch", *(() if name == "texts" else ("c",))):
        written = export.write(found.network, kind, Folder.at(tmp_path / kind))
        assert written.difference <= 1e-3 * written.largest
    found.network.save(Folder.at(tmp_path / "saved"))
    with torch.inference_mode():
        torch.testing.assert_close(load(tmp_path / "saved")(inputs), expected, rtol=1e-4, atol=1e-4)


def test_a_network_of_indices_runs_with_all_weights_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigurationError, match=r"run\.execution=sparse: .* allowed: "):
        sparsified(of_texts(), "run.execution=sparse")
    sparsified(of_texts(), "dense.epochs=1", "pruning.epochs=0", "final.epochs=1")
    assert any("runs with all weights, zeros included: 0 is a Embedding" in each.message for each in caplog.records)


def test_a_network_that_was_trained_on_values_as_they_are_is_pruned_as_it_comes() -> None:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(120, 4, generator=draws)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws))
        module[2].bias += 100
        mean, deviation = inputs[30:].mean(0), inputs[30:].std(0, correction=0)
        targets = module((inputs - mean) / deviation)
    own = (f"data.mean={mean.tolist()}", f"data.deviation={deviation.tolist()}", "data.task=regression")
    data = (inputs[30:], targets[30:]), (inputs[:30], targets[:30])
    short = [each for each in SHORT if not each.startswith("dense.")]
    found = safs_ray.sparsify(module, *data, sparsity=0, settings=[*short, *own])
    assert found.network.specification.target_mean == ()
    assert found.results["rows"][0]["test_accuracy"]["mean"] == pytest.approx(1, abs=1e-5)


def mean_absolute(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs - labels).abs().mean()


def closeness(outputs: Tensor, labels: Tensor) -> float:
    """In the units of the targets, whatever the network computes in."""
    return 1 / (1 + (outputs - labels).abs().mean().item() / 100)


def distance(outputs: Tensor, labels: Tensor) -> float:
    return (outputs - labels).abs().mean().item()


def area(outputs: Tensor, labels: Tensor) -> float:
    """Under the curve of true against false positives, which takes both classes."""
    return float(roc_auc_score(labels, outputs[:, 1] - outputs[:, 0]))


def in_place(outputs: Tensor, labels: Tensor) -> float:
    labels -= labels.mean(0)
    return float(1 / (1 + (outputs - labels).abs().mean()))


def leaving(_outputs: Tensor, _labels: Tensor) -> Tensor:
    raise SystemExit(3)


def constant(_outputs: Tensor, _labels: Tensor) -> Tensor:
    return torch.tensor(1.0, requires_grad=True)


def nothing(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs - labels).mean() * math.nan


def test_a_metric_that_takes_more_than_a_few_examples() -> None:
    """Positives are rare, so that few examples may have one class alone."""
    module, train, test, _ = of_table()
    settings = [*SHORT, f"data.metric={__name__}:area"]
    rare = [(inputs[keep], labels[keep]) for inputs, labels in (train, test) if (keep := kept_of_class_0(labels)).any()]
    found = safs_ray.sparsify(module, *rare, sparsity=0.5, settings=settings)
    [score] = found.results["rows"][-1]["test_accuracy"]["values"]
    assert score == pytest.approx(area(found.module(rare[1][0]), rare[1][1]), abs=1e-6)


def kept_of_class_0(labels: Tensor) -> Tensor:
    """All examples of class 1, and one in ten of the others."""
    return (labels == 1) | ((labels == 0).cumsum(0) % 10 == 0)


def test_a_metric_that_changes_labels_in_place_changes_a_copy() -> None:
    module, train, test, _ = of_values()
    before = train[1].clone()
    settings = [*SHORT, "data.task=regression", f"data.metric={__name__}:in_place"]
    found = safs_ray.sparsify(module, train, test, sparsity=0.5, settings=settings)
    assert torch.equal(train[1], before)
    [score] = found.results["rows"][-1]["test_accuracy"]["values"]
    assert score == pytest.approx(in_place(found.module(test[0]), test[1][:, None].clone()), rel=1e-4)


def test_a_loss_and_a_metric_of_ones_own() -> None:
    own = ("data.task=regression", f"data.loss={__name__}:mean_absolute", f"data.metric={__name__}:closeness")
    module, train, test, _ = of_values()
    settings = [*SHORT, *own, "dense.hyperparameters.learning_rate=0.1"]
    found = safs_ray.sparsify(module, train, test, sparsity=0.5, settings=settings)
    assert found.network.specification.target_mean == ()
    assert str(found).startswith("Closeness in per cent")
    [score] = found.results["rows"][-1]["test_accuracy"]["values"]
    assert score == pytest.approx(closeness(found.module(test[0]), test[1][:, None]), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["data.task=regression", f"data.metric={__name__}:distance"], "must return a number from 0 to 1, the higher"),
        (
            ["data.task=regression", f"data.loss={__name__}:leaving"],
            "data.loss=tests.test_tasks:leaving: must return the mean loss of outputs (8, 1), a finite scalar with a "
            "gradient (SystemExit: 3)",
        ),
        (["data.task=regression", f"data.loss={__name__}:constant"], "a gradient; depends on no output"),
        (["data.task=regression", f"data.loss={__name__}:nothing"], "a gradient; returns nan"),
        (
            ["data.task=regression", f"data.loss={__name__}:closeness"],
            "data.loss=tests.test_tasks:closeness: must return",
        ),
        (["data.task=regression", "data.metric=accuracy"], "does not go with task=regression; allowed: r2 or your own"),
        (["data.class_weights=[1, 2, 3]"], "data.class_weights"),
        (["data.crop=2"], "data.crop=2: is for images, uint8 (N, C, H, W); these inputs are float32 of shape"),
        (["data.size=8"], "data.size=8: is for images, uint8"),
        (["model.name=mlp"], "model.name=mlp: takes numbers, and these inputs are indices"),
        (["model.name=lenet5"], "takes images (C, H, W), and these inputs are float32 of shape (10,)"),
        (["data.task=multilabel"], "must be 0 and 1 of shape (N, labels) with N=332"),
        ([], "train_labels must be integers of shape (332,), are float64 of shape (332,); data.task=regression takes"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(settings: Sequence[str], told: str) -> None:
    module, train, test, _ = of_values()
    if "weights" in told or "model" in told or "images" in told:
        train, test = ((inputs, (labels > 150).long()) for inputs, labels in (train, test))
        module = linear(10, 2)
    if "indices" in told:
        module, train, test, _ = of_texts()
    with pytest.raises(ConfigurationError) as refused:
        safs_ray.sparsify(module, train, test, settings=[*SHORT, *settings])
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_c_takes_numbers_whose_mean_is_many_times_their_deviation() -> None:
    """As a time in seconds is: a product and a sum of numbers of 32 bits would leave three digits."""
    specification = Specification("mlp", (2,), 2, (1e5, -3e6), (1.0, 100.0), kind="float32")
    network = Network.initial(specification, 0)
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 2, generator=draws) * torch.tensor([1.0, 100.0]) + torch.tensor([1e5, -3e6])
    with torch.inference_mode():
        expected = network.build().eval()(specification.normalised(inputs))
    torch.testing.assert_close(writing.compiled(writing.write(network))(inputs), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["values", "labels", "signals"])
def test_a_training_that_is_interrupted_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    module, train, test, own = CASES[name]()
    source, model = lend(lambda: (*train, *test), "data"), lend(lambda: copy.deepcopy(module), "net")
    settings = [f"data.source={source}", f"model.name={model}", "run.execution=sparse", *own]
    configuration = config.validate(config.overridden({}, settings))
    dataset = stages.load(configuration)
    context = Context(configuration, stages.folds(configuration, dataset).search())
    dense = Network.initial(stages.specify(configuration, dataset, context.splits), 0)
    network = dense.masked({each: weight > 0 for each, weight in dense.prunable().items()})
    training = Training(context, Hyperparameters(batch_size=64), epochs=4, seed=0, learn_scales=True)
    whole, first, second = (Trainer([network], training) for _ in range(3))
    whole.run()
    for _ in range(2):
        first.run_epoch()
    torch.save(first.state_dict(), tmp_path / "state")
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=False))
    second.run()
    assert second.current().fingerprint == whole.current().fingerprint
    assert second.standing.curve == whole.standing.curve
    if name == "signals":
        return  # with batch normalisation each is trained alone
    several = Trainer([network, network.assign(["tanh"] * len(network.sites))], training).run()
    assert several.current(0).fingerprint == whole.current().fingerprint
