"""The files for `ray up`, as Ray's own launcher reads them; nothing is started and no network is needed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(params=["gpu.yaml", "onprem.yaml"])
def text(request: pytest.FixtureRequest) -> str:
    return (CLUSTER / request.param).read_text()


@pytest.fixture
def launched(text: str) -> dict[str, Any]:
    return prepared(text)


def prepared(text: str) -> dict[str, Any]:
    values: dict[str, Any] = prepare_config(yaml.safe_load(text))
    return values


def test_ray_accepts_the_file(launched: dict[str, Any]) -> None:
    validate_config(launched)


@pytest.mark.parametrize("mistake", [{"nodes": 3}, {"setup_commands": "ls"}, {"provider": {"region": "here"}}])
def test_ray_would_reject_a_mistake(launched: dict[str, Any], mistake: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=next(iter(mistake))):
        validate_config({**launched, **mistake})


def test_spot_workers_are_launched_before_others_once_they_are_uncommented() -> None:
    text = (CLUSTER / "gpu.yaml").read_text()
    begin, end = text.index("  # spot_worker:"), text.index("\nhead_node_type:")
    launched = prepared(text[:begin] + re.sub("^  # ", "  ", text[begin:end], flags=re.MULTILINE) + text[end:])
    validate_config(launched)
    kinds = launched["available_node_types"]
    assert kinds["spot_worker"]["priority"] > kinds["worker"].get("priority", 0)
    spot = dict(kinds["spot_worker"]["node_config"])
    assert spot.pop("InstanceMarketOptions") == {"MarketType": "spot"}
    assert spot == kinds["worker"]["node_config"]
    assert kinds["spot_worker"]["resources"] == kinds["worker"]["resources"]


def test_no_dashboard_for_others_and_no_statistics(launched: dict[str, Any]) -> None:
    starts = {place: launched[f"{place}_start_ray_commands"] for place in ("head", "worker")}
    assert "--dashboard-host=127.0.0.1" in starts["head"][-1]
    for commands in starts.values():
        assert "RAY_USAGE_STATS_ENABLED=0 ray start" in commands[-1]
        assert commands[0] == "ray stop"


def test_every_node_asks_for_the_token_that_no_other_user_of_it_can_read(launched: dict[str, Any]) -> None:
    assert launched["file_mounts"]["~/.ray/auth_token"].endswith("/.ray/auth_token")
    setup = launched["setup_commands"]
    assert setup[0] == "chmod 600 ~/.ray/auth_token"
    assert "export RAY_AUTH_MODE=token' >> ~/.bashrc" in setup[-1]


def test_the_checkout_is_copied_without_what_is_not_code(launched: dict[str, Any]) -> None:
    assert launched["file_mounts"]["~/safs_ray"] == "."
    assert set(launched["rsync_exclude"]) == {"/.git", "/.venv", "/runs", "/data"}
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().split()
    assert set(ignored) == set(launched["rsync_exclude"])


def test_what_must_be_edited_is_marked(text: str) -> None:
    for line in text.partition("cluster_name")[2].splitlines():
        if re.search(r"ami-|sg-|safs-ray-|192\.0\.2|ssh_user: safs|region:", line.partition("#")[0]):
            assert "# EDIT" in line, line


PINNED = [CLUSTER / name for name in ("gpu.yaml", "onprem.yaml", "kuberay.yaml", "Dockerfile")]


@pytest.mark.parametrize("path", PINNED, ids=lambda path: path.name)
def test_the_same_versions_everywhere_and_such_as_the_project_asks_for(path: Path) -> None:
    asked = {
        requirement.name: requirement.specifier
        for requirement in map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cluster"]])
    }
    text = path.read_text()
    pins = list(re.findall(r"(ray|torch)==([\d.]+)", text))
    pins += [("ray", version) for version in re.findall(r"(?:rayVersion: |rayproject/ray:)([\d.]+)", text)]
    assert pins
    for name, version in pins:
        assert version in asked[name], (name, version)
    pythons = re.findall(r"--python (3[\d.]+)", text) + re.findall(r"-py3(\d+)", text)
    for python in pythons:
        assert (python if "." in python else f"3.{python}") in SpecifierSet(PROJECT["requires-python"])


def test_all_files_pin_the_same_versions() -> None:
    text = "\n".join(path.read_text() for path in PINNED)
    assert len(set(re.findall(r"(?:ray==|rayVersion: |rayproject/ray:)([\d.]+)", text))) == 1
    assert len(set(re.findall(r"torch==([\d.]+)", text))) == 1
    assert {version.replace(".", "") for version in re.findall(r"(?:--python |-py)(3[\d.]+)", text)} == {"311"}
    assert len(set(re.findall(r"astral.sh/uv/([\d.]+)", text))) == 1
