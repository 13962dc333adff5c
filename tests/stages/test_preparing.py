from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import numpy.typing as npt
import psutil
import pytest
import torch
from PIL import Image

from safs_ray import stages
from safs_ray.config import Configuration, ConfigurationError, ResourcesSection
from safs_ray.data import Dataset, Splits
from tests.stages.altered import changed


@pytest.mark.parametrize(("gpu", "device"), [(0, "cpu"), (1, "cuda"), (0.5, "cuda"), (None, "cuda")])
def test_auto_takes_a_gpu_only_where_the_stage_is_given_one(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch, gpu: float | None, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    resources = ResourcesSection(cpu=1, gpu=gpu)
    same, flushed = torch.are_deterministic_algorithms_enabled(), stages.flushes_subnormals()
    assert stages.set_up(changed(configuration, "tune", resources=resources)).type == device
    torch.use_deterministic_algorithms(same)
    torch.set_flush_denormal(flushed)


def test_set_up_takes_subnormal_numbers_for_zero(configuration: Configuration) -> None:
    """In torch, in what numba compiles, and in the threads that start afterwards."""
    tiny, one = np.full(8, 1e-40, np.float32), np.ones(8, np.float32)

    def product() -> list[float]:
        return [float((torch.from_numpy(tiny) * 1).max()), float(_product(tiny, one).max())]

    flushed = stages.flushes_subnormals()
    torch.set_flush_denormal(False)
    assert min(product()) > 0
    assert not stages.flushes_subnormals()
    stages.set_up(configuration)
    assert stages.flushes_subnormals()
    with ThreadPoolExecutor(1) as pool:
        assert product() == pool.submit(product).result() == [0.0, 0.0]
    torch.set_flush_denormal(flushed)


@numba.njit
def _product(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return first * second


def test_images_are_normalised_as_told(configuration: Configuration, dataset: Dataset, splits: Splits) -> None:
    told = changed(configuration, "data", mean=(0.5,), deviation=(2.0,))
    specification = stages.specify(told, dataset, splits)
    assert (specification.mean, specification.deviation) == ((0.5,), (2.0,))
    assert stages.specify(configuration, dataset, splits).mean == splits.train.statistics()[0]


def test_an_exclusion_replaces_the_architectures_own(
    configuration: Configuration, dataset: Dataset, splits: Splits
) -> None:
    gated = changed(configuration, "model", name="efficientnet_b0")
    assert stages.specify(gated, dataset, splits).exclude == ("*.activation", "*.scale_activation")
    for patterns in ((), ("features.0.*",)):
        told = changed(gated, "model", exclude=patterns)
        assert stages.specify(told, dataset, splits).exclude == patterns


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("model", {"name": "resnet50"}, "model.name=resnet50: allowed: lenet5"),
        ("search", {"operators": ("relu", "tan")}, "search.operators=tan: unknown operator; allowed: relu"),
        ("search", {"operators": ("relu", "relu")}, "search.operators=relu: stands twice"),
        ("search", {"granularity": "group", "groups": 101}, "search.groups=101: site act2 has 100 channels; allowed:"),
        ("data", {"mean": (0.1, 0.2), "deviation": (1.0, 1.0)}, "data.mean=[0.1, 0.2]: the images have 1 channel"),
        ("model", {"exclude": ("act3",)}, "model.exclude=act3: matches nothing; the sites are act1, act2"),
        ("run", {"device": "cuda"}, "run.device=cuda: torch finds no GPU on this machine"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(
    configuration: Configuration, dataset: Dataset, section: str, values: dict[str, object], message: str
) -> None:
    splits = stages.folds(configuration, dataset).search()
    with pytest.raises(ConfigurationError) as caught:
        stages.check(changed(configuration, section, **values), dataset, splits)
    assert str(caught.value).startswith(message)


def of_classes(train: dict[int, int], test: tuple[int, ...] = (0, 1)) -> str:
    """A source, in a module of its own, of so many training images of each class."""
    labels = [label for label, count in train.items() for _ in range(count)]
    text = (
        f"import numpy as np\nlabels, test = np.array({labels}), np.array({list(test)})\n"
        "def images():\n    rows = [np.arange(len(each) * 64).reshape(-1, 1, 8, 8).astype(np.uint8)"
        " for each in (labels, test)]\n    return rows[0], labels, rows[1], test\n"
    )
    Path("classes_of_a_user.py").write_text(text)
    sys.modules.pop("classes_of_a_user", None)
    return "classes_of_a_user:images"


@pytest.fixture
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("_own_modules")
def test_a_rare_class_is_in_every_fold(configuration: Configuration) -> None:
    run = changed(configuration, "data", source=of_classes({0: 150, 1: 3}), limit=None, validation=0.1)
    dataset = stages.load(run)
    folds = stages.folds(run, dataset)
    found = [torch.bincount(folds.final(fold).validation.labels).tolist() for fold in range(run.final.folds)]
    assert found == [[14, 1], [14, 1]]
    assert torch.bincount(folds.search().train.labels).tolist() == [122, 1]


@pytest.mark.usefixtures("_own_modules")
@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        (
            {0: 150, 1: 2},
            (0, 1),
            "class 1 has 2 training images; 2 folds need 3: one to validate on in each, and one to",
        ),
        (
            {0: 1, 1: 90, 3: 2},
            (1, 1),
            "class 0 has 1 training image, beside 1 other class with too few; 2 folds need 3: ",
        ),
    ],
)
def test_a_class_of_fewer_images_than_the_folds_need_is_refused(
    configuration: Configuration, train: dict[int, int], test: tuple[int, ...], told: str
) -> None:
    run = changed(configuration, "data", source=of_classes(train, test), limit=None, validation=0.1)
    with pytest.raises(ConfigurationError) as refused:
        stages.load(run)
    assert str(refused.value).startswith(f"final.folds=2: {told}")


@pytest.mark.usefixtures("_own_modules")
def test_a_class_that_the_sample_leaves_to_the_test_images_alone_is_refused(configuration: Configuration) -> None:
    run = changed(configuration, "data", source=of_classes({0: 90, 1: 3}, (0, 1) * 20), limit=20, validation=0.1)
    with pytest.raises(ConfigurationError, match=r"^final\.folds=2: class 1 has [01] training image"):
        stages.load(run)


def test_a_class_that_is_refused_is_called_by_its_name(configuration: Configuration, tmp_path: Path) -> None:
    for part, counts in (("train", {"cat": 5, "dog": 2}), ("test", {"cat": 2, "dog": 2})):
        for name, count in counts.items():
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("L", (8, 8), number).save(tmp_path / part / name / f"{number}.png")
    run = changed(configuration, "data", source=f"imagefolder:{tmp_path}", limit=None)
    with pytest.raises(ConfigurationError, match=r"^final\.folds=2: class dog has 2 training images; 2 folds need 3"):
        stages.load(run)


HEAD_FIRST = """
from torch import nn

class HeadFirst(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head, self.body, self.act = nn.Linear(6, classes), nn.Linear(64, 6), nn.ReLU()

    def forward(self, x):
        if x.sum() == x.sum():  # which torch.fx does not trace
            x = self.body(x.flatten(1))
        return self.head(self.act(x))
"""


def test_filters_are_refused_where_no_channel_can_be_followed(
    configuration: Configuration, dataset: Dataset, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "head_first.py").write_text(HEAD_FIRST)
    monkeypatch.syspath_prepend(tmp_path)
    own = changed(configuration, "model", name="head_first:HeadFirst")
    assert list(stages.check(own, dataset, splits).prunable()) == ["head.weight", "body.weight"]
    with pytest.raises(ConfigurationError) as caught:
        stages.check(changed(own, "pruning", structure="filters"), dataset, splits)
    assert re.fullmatch(
        r"pruning\.structure=filters: needs a network that torch\.fx can trace: symbolically traced .* control flow, "
        r"at .*head_first\.py:10; allowed: unstructured, N:M, blocks:BxC",
        str(caught.value),
    )


@pytest.mark.parametrize(
    ("model", "keys", "refused"),
    [
        ("straight:Straight", {"structure": "filters"},
         "pruning.structure=filters: no channel can go: each is tied to the inputs or outputs; "
         "allowed: unstructured, N:M, blocks:BxC"),
        ("mlp", {"structure": "heads"},
         "pruning.structure=heads: no attention is known in it: linear layers, a softmax without masks, and a linear "
         "layer; allowed: unstructured, N:M, blocks:BxC"),
        ("mlp", {"structure": "filters", "schedule": "gradual", "when": "during"},
         "pruning.structure=filters: no channel can go: each is tied to the inputs or outputs; "
         "allowed: unstructured, N:M, blocks:BxC"),
        ("mlp", {"structure": "filters", "macs": 0.001, "sparsity": 0.999},
         "pruning.macs=0.001: the fewest channels that its layers keep take 0.029 of the multiply-adds; allowed: at "
         "least so many"),
    ],
)  # fmt: skip
def test_channels_that_cannot_go_are_refused(
    configuration: Configuration,
    dataset: Dataset,
    splits: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    keys: dict[str, object],
    refused: str,
) -> None:
    (tmp_path / "straight.py").write_text(STRAIGHT)
    monkeypatch.syspath_prepend(tmp_path)
    own = changed(configuration, "model", name=model)
    if when := keys.get("when"):
        own = changed(own, "search", when=when, granularity="group", groups=2)
    own = changed(own, "pruning", **{key: value for key, value in keys.items() if key != "when"})
    with pytest.raises(ConfigurationError) as caught:
        stages.check(own, dataset, splits)
    assert str(caught.value) == refused


STRAIGHT = """
from torch import nn

def Straight(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes), nn.ReLU())
"""


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has 0.9 MB left."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=900_000))


def batched(configuration: Configuration, section: str, batch_size: int) -> Configuration:
    hyperparameters = getattr(configuration, section).hyperparameters.model_copy(update={"batch_size": batch_size})
    return changed(configuration, section, hyperparameters=hyperparameters)


@pytest.mark.usefixtures("scarce")
@pytest.mark.parametrize("section", ["dense", "pruning"])
def test_a_batch_that_memory_cannot_hold_is_refused_with_both_sizes(
    configuration: Configuration, dataset: Dataset, section: str
) -> None:
    splits = stages.folds(configuration, dataset).search()
    assert len(splits.train) == 96
    with pytest.raises(ConfigurationError) as caught:
        stages.check(batched(configuration, section, 10**9), dataset, splits)
    assert str(caught.value) == (
        f"{section}.hyperparameters.batch_size=1000000000: a step of training with 96 images of 1x8x8 takes 1.0 MB, "
        "and 0.9 MB of memory are free"
    )
    stages.check(batched(configuration, section, 32), dataset, splits)


@pytest.mark.parametrize(("batch_size", "fits"), [(1, False), (2, True), (1000, True)])
def test_a_batch_of_one_image_is_refused_where_it_has_no_statistics(
    configuration: Configuration,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    fits: bool,
) -> None:
    (tmp_path / "normalised_of_a_user.py").write_text(
        "from torch import nn\ndef network():\n    return nn.Sequential(\n"
        "        nn.Flatten(), nn.Linear(64, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 10))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = changed(batched(configuration, "pruning", batch_size), "model", name="normalised_of_a_user:network")
    splits = stages.folds(run, dataset).search()
    if fits:
        assert stages.check(run, dataset, splits).sites
        return
    with pytest.raises(ConfigurationError) as caught:
        stages.check(run, dataset, splits)
    assert str(caught.value) == (
        "pruning.hyperparameters.batch_size=1: 96 and 128 training images leave a batch of a single one, on which "
        "this network fails, as batch normalisation does"
    )


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("model", {"name": "resnet50"}, "model.name=resnet50: allowed: lenet5"),
        ("search", {"operators": ("relu", "side_effect_of_a_user:f", "tan")}, "search.operators=tan: unknown operator"),
        ("tune", {"resources": ResourcesSection(cpu=1000)}, "tune.resources.cpu=1000: this process may use"),
    ],
)
def test_what_needs_no_images_is_refused_before_any_is_read_or_code_runs(
    configuration: Configuration,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    section: str,
    values: dict[str, object],
    told: str,
) -> None:
    (tmp_path / "side_effect_of_a_user.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = changed(changed(configuration, "data", source="side_effect_of_a_user:images"), section, **values)
    with pytest.raises(ConfigurationError) as caught:
        stages.load(run)
    assert str(caught.value).startswith(told)


def test_more_threads_than_cores_are_refused(configuration: Configuration, dataset: Dataset) -> None:
    resources = configuration.tune.resources.model_copy(update={"cpu": 4096})
    splits = stages.folds(configuration, dataset).search()
    with pytest.raises(ConfigurationError, match=r"tune\.resources\.cpu=4096: this process may use"):
        stages.check(changed(configuration, "tune", resources=resources), dataset, splits)
