"""The configurations that come with the package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from safs_ray import config
from safs_ray.models import ARCHITECTURES, Specification
from safs_ray.network import Network

FOLDER = Path(__file__).parent.parent / "tune_configs"
FILES = sorted(FOLDER.glob("*.yaml"))


def keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_all_are_here() -> None:
    names = {path.stem for path in FILES}
    assert names == {"best", "quickstart", "lenet5_mnist", "vgg16_cifar10", "resnet18_cifar10"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_valid_and_says_how_to_run_it(path: Path) -> None:
    configuration = config.load(path)
    assert configuration.run.name == path.stem
    assert configuration.model.name in ARCHITECTURES
    assert f"python -m safs_ray.tune tune_configs/{path.name}" in path.read_text()


@pytest.mark.parametrize(("path", "sites"), [("vgg16_cifar10", 15), ("resnet18_cifar10", 17), ("lenet5_mnist", 4)])
def test_each_builds_the_network_it_names(path: str, sites: int) -> None:
    model = config.load(FOLDER / f"{path}.yaml").model.name
    channels, size = (1, 28) if model == "lenet5" else (3, 32)
    nothing = (0.0,) * channels
    assert (
        len(Network.initial(Specification(model, (channels, size, size), 10, nothing, nothing), seed=0).sites) == sites
    )


def test_the_quickstart_is_the_manual_and_names_every_key() -> None:
    named = set(keys(yaml.safe_load((FOLDER / "quickstart.yaml").read_text())))
    known = set(keys(config.load(FOLDER / "quickstart.yaml").model_dump()))
    repeated = {f"pruning.hyperparameters.{key}" for key in ("momentum", "nesterov", "schedule")}  # as under dense
    assert known - repeated <= named
