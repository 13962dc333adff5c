from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from safs_ray import export
from safs_ray.config import ConfigurationError
from safs_ray.engine.module import CheckingModule, FastestModule
from safs_ray.export.loading import load
from safs_ray.network import Network
from safs_ray.storage import Folder


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.arange(4 * 64).remainder(251).to(torch.uint8).reshape(4, 1, 8, 8)


@pytest.fixture(scope="module")
def network(run_folder: Path) -> Network:
    return Network.load(Folder.at(run_folder / "networks" / "best"))


@pytest.fixture(scope="module")
def exported(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported")
    export.write(network, "safetensors", Folder.at(path))
    return path


def test_every_place_of_a_network_gives_the_same(
    run_folder: Path, exported: Path, network: Network, images: Tensor
) -> None:
    expected = network.build().eval()(network.specification.normalised(images))
    for path in (run_folder, run_folder / "networks" / "best", exported, str(exported / "network.safetensors")):
        for execution, kind in (("dense", CheckingModule), ("sparse", FastestModule), ("auto", FastestModule)):
            module = load(path, execution)  # type: ignore[arg-type]
            assert isinstance(module, kind)
            assert not module.training
            torch.testing.assert_close(module(images), expected)


def test_a_tilde_is_home(exported: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(exported.parent))
    for path in (f"~/{exported.name}", Path("~", exported.name, "network.safetensors")):
        torch.testing.assert_close(load(path)(images), load(exported)(images))
    with pytest.raises(ConfigurationError, match=r"^path=~nobody-of-this-name: .*there is no user"):
        load("~nobody-of-this-name")


def test_needs_no_ray(run_folder: Path, exported: Path, images: Tensor, tmp_path: Path) -> None:
    code = """
import sys
sys.modules["ray"] = None
import safs_ray, torch
images = torch.load("images.pt")
with torch.inference_mode():
    torch.save([safs_ray.load(path)(images) for path in sys.argv[1:]], "logits.pt")
"""
    torch.save(images, tmp_path / "images.pt")
    command = [sys.executable, "-c", code, str(run_folder), str(exported)]
    root = str(Path(__file__).parent.parent.parent)
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120, env={"PYTHONPATH": root, "OMP_NUM_THREADS": "1"})
    for logits in torch.load(tmp_path / "logits.pt"):
        torch.testing.assert_close(logits, load(run_folder)(images).detach())


def test_what_cannot_be_loaded_is_told_in_one_line(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^path=\S*: holds no network; allowed: a finished run, a folder"):
        load(tmp_path)
    with pytest.raises(ConfigurationError, match=r"no\.safetensors: cannot be read \(FileNotFoundError: "):
        load(tmp_path / "no.safetensors")
    with pytest.raises(ConfigurationError, match=r"does not describe a network; only exported files do"):
        load(run_folder / "networks" / "best" / "network.safetensors")
    description = json.loads((run_folder / "networks" / "best" / "network.json").read_text())
    (tmp_path / "network.json").write_text(json.dumps(description))
    (tmp_path / "network.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match=r"cannot be read \(DamagedError: "):
        load(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^execution=fast: allowed: auto, dense, sparse$"):
        load(run_folder, "fast")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"^threads=0: must be a whole number, 1 or more$"):
        load(run_folder, threads=0)
    with pytest.raises(ConfigurationError, match=r"^threads=1.5: must be a whole number, 1 or more$"):
        load(run_folder, threads=1.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"^device=gpu: torch knows no such device"):
        load(run_folder, device="gpu")
