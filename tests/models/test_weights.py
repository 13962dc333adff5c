"""State dicts in files, sound and broken."""

from __future__ import annotations

import json
import pickle
import random
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from safs_ray.config import ConfigurationError
from safs_ray.models.weights import Weights

SAVERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "w.safetensors": lambda state, path: safetensors.torch.save_file(state, path),
    "w.pt": lambda state, path: torch.save(state, path),
    "old.bin": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "lightning.ckpt": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "deit.pth": lambda state, path: torch.save({"model": state, "optimizer": {"lr": 0.1}}, path),
}


def net() -> nn.Sequential:
    """Two linear layers and a normalisation with buffers; its tensors are 0, 1, 2 … of their own."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.copy_(torch.arange(tensor.numel()).view_as(tensor))
    return module


def state() -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net().state_dict().items()}


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {"0.weight": module.state_dict()["0.weight"], "2.weight": module.state_dict()["2.weight"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(file: str) -> tuple[Weights, nn.Module]:
    """The weights in a file, and the network with them."""
    weights, module = Weights.read(file), net()
    weights.load_into(module)
    return weights, module


def masks_in(file: str) -> dict[str, Tensor]:
    weights, module = read(file)
    return weights.masks_of(weights_of(module))


def refused(file: str, use: Callable[[str], object] = read) -> str:
    """The message with which a file is refused; one line that names it."""
    with pytest.raises(ConfigurationError) as caught:
        use(file)
    text = str(caught.value)
    assert text.startswith(f"model.weights={file}: ")
    assert "\n" not in text
    return text.removeprefix(f"model.weights={file}: ")


@pytest.mark.parametrize("name", SAVERS)
def test_every_format_gives_the_weights_back(folder: Path, name: str) -> None:
    SAVERS[name](state(), folder / name)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for file in (name, str(folder / name)):
        weights = Weights.read(file)
        weights.load_into(module)
        assert not weights.masks
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, state()[key]), key


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_masks_of_torchs_pruning_are_understood(folder: Path, name: str) -> None:
    module = net()
    prune.l1_unstructured(module[0], "weight", amount=0.5)  # of 0 … 11, the six lowest
    pruned = module.state_dict()
    assert "0.weight" not in pruned
    with torch.no_grad():
        pruned["0.weight_orig"][3, 2] = 0  # a weight that is kept, and happens to be zero
    SAVERS[name](pruned, folder / name)
    weights, plain = read(name)
    assert plain.state_dict()["0.weight"].flatten().tolist() == [0, 0, 0, 0, 0, 0, 6, 7, 8, 9, 10, 0]
    masks = weights.masks_of(weights_of(plain))
    assert masks["0.weight"].flatten().tolist() == [False] * 6 + [True] * 6
    assert masks["2.weight"].flatten().tolist() == [False] + [True] * 7, "where no mask is, zeros are the mask"


def test_zeros_are_the_mask(folder: Path) -> None:
    SAVERS["w.pt"]({**state(), "2.weight": torch.tensor([[0.0, 1, -0.0, 2], [0, 0, 3, 1e-30]])}, folder / "w.pt")
    masks = masks_in("w.pt")
    assert masks["2.weight"].tolist() == [[False, True, False, True], [False, False, True, True]]
    assert masks["2.weight"].dtype == torch.bool


def test_a_network_without_zeros_is_not_pruned(folder: Path) -> None:
    torch.save({name: tensor + 1 for name, tensor in state().items()}, folder / "w.pt")
    assert refused("w.pt", masks_in) == "is not pruned: none of its 20 weights is zero; leave out model.pruned"


def test_a_pruned_bias_is_refused(folder: Path) -> None:
    module = net()
    prune.l1_unstructured(module[0], "bias", amount=0.5)
    torch.save(module.state_dict(), folder / "w.pt")
    assert refused("w.pt", masks_in).startswith("holds a mask of 0.bias; only weights of ")


@pytest.mark.parametrize(
    ("saved", "fault"),
    [
        ({**state(), "2.bias": None}, "must hold a state dict, tensors by name; 2.bias is of type NoneType"),
        ({name: tensor for name, tensor in state().items() if name != "2.bias"}, "lacks 2.bias; it holds 0.weight"),
        ({"0.weight": torch.ones(4, 3)}, "lacks 0.bias and 7 more; it holds 0.weight"),
        ({**state(), "3.weight": torch.ones(1)}, "holds 3.weight, which the network has not"),
        ({**state(), "2.weight": torch.ones(2, 5)}, "2.weight has shape (2, 5), must have (2, 4)"),
        ({**state(), "2.weight": torch.full((2, 4), torch.nan)}, "2.weight holds NaN, infinity or what torch.float32"),
        ({**state(), "1.running_var": torch.full((4,), torch.inf)}, "1.running_var holds NaN, infinity or what"),
        ({**state(), "2.bias": torch.tensor([1, 1e300]).double()}, "2.bias holds NaN, infinity or what torch.float32"),
        (
            {**state(), "2.bias": torch.tensor([1, torch.nan]).to(torch.float8_e5m2)},
            "2.bias holds NaN, infinity or what torch.float32 cannot hold",
        ),
        ({**state(), "2.bias": torch.ones(2, dtype=torch.int64)}, "2.bias is of torch.int64, must be of torch.float32"),
        ({**state(), "1.num_batches_tracked": torch.ones(())}, "1.num_batches_tracked is of torch.float32, must be of"),
        (
            {**state(), "2.bias": torch.ones(2, device="meta")},
            "2.bias is a torch.strided tensor of torch.float32 on meta",
        ),
        ({**state(), "2.bias": torch.ones(2, dtype=torch.complex64)}, "2.bias is a torch.strided tensor of torch.com"),
        (
            {**state(), "2.bias": torch.ones(1).expand(10**9, 10**9)},
            "2.bias has shape (1000000000, 1000000000), of more",
        ),
        (
            {f"0.weight_{kind}": torch.ones(1).expand(10**6, 10**6) for kind in ("orig", "mask")},
            "0.weight_orig has shape (1000000, 1000000), of more values than the file holds",
        ),
        (
            {"0.weight_orig": torch.ones(2), "0.weight_mask": torch.ones(2).to_sparse()},
            "0.weight_mask is a torch.sparse",
        ),
        (
            {"0.weight_orig": torch.ones(2), "0.weight_mask": torch.tensor([0.5, 1])},
            "0.weight_mask holds other numbers",
        ),
        (
            {"0.weight_orig": torch.ones(1), "0.weight_mask": torch.tensor([torch.nan])},
            "0.weight_mask holds other numb",
        ),
        ({**state(), "2.bias": torch.ones(2).to_sparse()}, "2.bias is a torch.sparse_coo tensor of torch.float32"),
        ({**state(), 7: torch.ones(1)}, "must hold a state dict, tensors by name; 7 is of type Tensor"),
        ([1, 2], "must hold a state dict; what it holds is of type list"),
        (torch.ones(3), "must hold a state dict; what it holds is of type Tensor"),
        ({}, "must hold a state dict; what it holds is empty"),
        ({"state_dict": {}}, "must hold a state dict; what it holds is empty"),
        ({"epoch": 3}, "must hold a state dict, tensors by name; epoch is of type int"),
        (
            {"0.weight_orig": torch.ones(4, 3), "0.weight_mask": torch.ones(3)},
            "0.weight_mask has shape (3,), must have (4, 3)",
        ),
    ],
)
def test_what_is_not_the_networks_is_told_by_name(folder: Path, saved: object, fault: str) -> None:
    torch.save(saved, folder / "w.pt")
    assert refused("w.pt").startswith(fault)


def test_half_precision_is_taken(folder: Path) -> None:
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state().items()}
    torch.save(halves, folder / "w")
    module = read("w")[1]
    assert module.state_dict()["0.weight"].dtype == torch.float32
    assert torch.equal(module.state_dict()["0.weight"], state()["0.weight"])


def test_a_file_that_runs_code_is_refused_and_runs_none(folder: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (folder / "harm",)

    (folder / "w.pt").write_bytes(pickle.dumps({"0.weight": Harm()}))
    torch.save({"0.weight": Harm()}, folder / "zip.pt")
    for name in ("w.pt", "zip.pt"):
        assert refused(name).startswith("is no file of tensors alone, or damaged (UnpicklingError); ")
    assert not (folder / "harm").exists()


def test_a_whole_module_is_refused_without_advice_to_trust_it(folder: Path) -> None:
    torch.save(net(), folder / "w.pt")
    text = refused("w.pt")
    assert text.startswith("is no file of tensors alone")
    assert "weights_only" not in text


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "old.bin"])
def test_a_file_cut_anywhere_is_told(folder: Path, name: str) -> None:
    SAVERS[name](state(), folder / name)
    whole, draws = (folder / name).read_bytes(), random.Random(0)
    for end in [0, 1, 8, len(whole) - 1, *draws.sample(range(len(whole)), 60)]:
        (folder / name).write_bytes(whole[:end])
        assert refused(name).startswith("is no "), end


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "old.bin"])
def test_a_file_changed_anywhere_is_read_or_told(folder: Path, name: str) -> None:
    SAVERS[name](state(), folder / name)
    whole, draws = (folder / name).read_bytes(), random.Random(0)
    for place in draws.sample(range(len(whole)), 150):
        changed = bytearray(whole)
        changed[place] = draws.randrange(256)
        (folder / name).write_bytes(changed)
        with suppress(ConfigurationError):
            assert all(tensor.isfinite().all() for tensor in read(name)[1].state_dict().values())


def header(length: int | None = None, content: bytes = b"", **entry: object) -> bytes:
    """The head of a safetensors file with one tensor "0.weight"."""
    text = json.dumps({"0.weight": entry}).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


@pytest.mark.parametrize(
    "content",
    [
        header(length=2**62),
        header(length=10**9),
        header(dtype="F32", shape=[10**9, 10**9], data_offsets=[0, 4], content=bytes(4)),
        header(dtype="F32", shape=[2**63, 2], data_offsets=[0, 4], content=bytes(4)),
        header(dtype="F32", shape=[-1], data_offsets=[0, 4], content=bytes(4)),
        header(dtype="F32", shape=[1], data_offsets=[0, 2**63], content=bytes(4)),
        header(dtype="F33", shape=[1], data_offsets=[0, 4], content=bytes(4)),
    ],
    ids=["header", "large header", "values", "overflow", "negative", "offsets", "type"],
)
def test_absurd_claims_of_a_header_are_told(folder: Path, content: bytes) -> None:
    (folder / "w.safetensors").write_bytes(content)
    assert refused("w.safetensors").startswith("is no safetensors file (")


def test_names_of_any_length_and_kind_are_told_in_one_short_line(folder: Path) -> None:
    safetensors.torch.save_file({"\x1b[2J\n" + "n" * 10**5: torch.ones(1)}, folder / "w.safetensors")
    assert len(refused("w.safetensors")) <= 1000


def test_a_file_larger_than_memory_is_not_read(folder: Path) -> None:
    """A file of a petabyte that takes no place on the disk."""
    with (folder / "w.pt").open("wb") as file:
        file.truncate(10**13)
    assert refused("w.pt").startswith("takes twice its 10,000.0 GB, and ")


def test_what_is_no_file_is_told(folder: Path) -> None:
    (folder / "there").mkdir()
    assert refused("nowhere/w.pt") == "there is no such file"
    assert refused("ftp2://host/w.pt").startswith("cannot be read (")
    for name in ("there", "/dev/zero"):
        assert refused(name).endswith(f"{name} is no regular file)")
