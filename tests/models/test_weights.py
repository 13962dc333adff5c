"""State dicts in files, sound and broken."""

from __future__ import annotations

import argparse
import json
import pickle
import random
import struct
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.ao.pruning import WeightNormSparsifier
from torch.nn.utils import parametrizations, parametrize, prune

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
    module = net()
    weights = Weights.read(file, module)
    module.load_state_dict(dict(weights.state))
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
        weights = Weights.read(file, module)
        module.load_state_dict(dict(weights.state))
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
    instead = "leave out model.pruned to prune it, or give pruning.sparsity=0 in its place to search it as it is"
    assert refused("w.pt", masks_in) == f"is not pruned: none of its 20 weights is zero; {instead}"


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


def trained() -> tuple[nn.Module, dict[str, Any]]:
    """The network after a step of training, and what scripts save beside it."""
    module = net()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=3)
    module.eval()(torch.ones(2, 3)).sum().backward()
    optimizer.zero_grad()
    optimizer.step()
    beside = {
        "epoch": 3,
        "best_acc": np.float64(0.93),
        "best_loss": np.float32(0.1),
        "step": np.int64(7),
        "improved": np.bool_(True),
        "confusion": np.eye(2),
        "args": argparse.Namespace(lr=0.1, out=Path("out"), since=datetime.now(UTC), took=timedelta(1)),
        "config": SimpleNamespace(seeds=frozenset({1}), steps=range(3), rate=Decimal("0.1")),
        "history": defaultdict(list, loss=[np.float64(1.0)]),
        "last": deque([1, 2], maxlen=2),
        "optimizer": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
        "scaler": torch.amp.GradScaler("cpu").state_dict(),
        "rng": (torch.get_rng_state(), np.random.get_state(), random.getstate()),  # noqa: NPY002
        "torch": torch.__version__,
    }
    return module, beside


def averaged() -> nn.Module:
    """The average of a network of other values, which is none of the networks that the tests expect."""
    other = net()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    return torch.optim.swa_utils.AveragedModel(other)


class Lightning(nn.Module):
    """How a LightningModule holds a network."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.compile(net())


def in_part_compiled() -> nn.Module:
    module = net()
    module[0] = torch.compile(module[0])
    return module


def without_counters(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("num_batches_tracked")}


def by_prune(module: nn.Module) -> nn.Module:
    """The network with an empty row pruned away and everything else kept, zeros too."""
    mask = torch.tensor([[False] * 3, *[[True] * 3] * 3])
    prune.custom_from_mask(module[0], "weight", mask)
    return module


CHECKPOINTS: dict[str, Callable[[], Any]] = {
    "plain": lambda: net().state_dict(),
    "parameters with gradients": lambda: dict(net().state_dict(keep_vars=True)),
    "half": lambda: net().half().state_dict(),
    "bfloat16": lambda: net().bfloat16().state_dict(),
    "double": lambda: net().double().state_dict(),
    "DataParallel": lambda: nn.DataParallel(net()).state_dict(),
    "torch.compile": lambda: torch.compile(net()).state_dict(),
    "torch.compile of DataParallel": lambda: torch.compile(nn.DataParallel(net())).state_dict(),
    "DataParallel of torch.compile": lambda: nn.DataParallel(torch.compile(net())).state_dict(),
    "torch.compile of a part": lambda: in_part_compiled().state_dict(),
    "an attribute of another name": lambda: nn.ModuleDict({"backbone": net()}).state_dict(),
    "Lightning": lambda: {"state_dict": Lightning().state_dict(), "hyper_parameters": {"lr": np.float64(0.1)}},
    "old batch normalisation": lambda: without_counters(net()),
    "old batch normalisation of DataParallel": lambda: {"net": without_counters(nn.DataParallel(net())), "acc": 9.5},
    "model_state_dict": lambda: {"model_state_dict": net().state_dict(), "loss": torch.tensor(0.5)},
    "model in params": lambda: {"params": {"model": net().state_dict()}},
    "a configuration of that name": lambda: {"model": {"depth": 18}, "state_dict": net().state_dict()},
    "net beside its average": lambda: {"model_ema": averaged().state_dict(), "net": net().state_dict()},
    "the average alone": lambda: {"ema": torch.optim.swa_utils.AveragedModel(net()).state_dict()},
    "ema_state_dict": lambda: {"ema_state_dict": {"module": net().state_dict()}},
    "torch.nn.utils.prune": lambda: by_prune(net()).state_dict(),
    "torch.nn.utils.prune of DataParallel": lambda: {"model": nn.DataParallel(by_prune(net())).state_dict()},
    "all that a script saves": lambda: {"net": trained()[0].state_dict(), **trained()[1]},
}
"""Whatever of the network with values 0, 1, 2 … real scripts save."""


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_real_scripts_save_is_the_network(folder: Path, name: str) -> None:
    torch.save(CHECKPOINTS[name](), folder / "best.pth.tar")
    torch.save(CHECKPOINTS[name](), folder / "old.pth.tar", _use_new_zipfile_serialization=False)
    for file in ("best.pth.tar", "old.pth.tar"):
        weights, module = read(file)
        expected = state()
        if weights.masks:
            expected["0.weight"][0] = 0
            assert weights.masks["0.weight"].tolist() == [[False] * 3, *[[True] * 3] * 3]
        if "old batch" in name:
            expected["1.num_batches_tracked"] = torch.tensor(0)
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, expected[key]), key


def test_of_several_state_dicts_one_line_says_which_is_taken(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"ema": {"state_dict": state()}, "params": state(), "model": {"net": state()}}, folder / "w.pt")
    with caplog.at_level("WARNING", "safs_ray"):
        read("w.pt")
    assert caplog.messages == ["model.weights=w.pt: holds model.net, params, ema.state_dict; model.net is taken"]


def test_a_prefix_that_not_all_names_carry_stays(folder: Path) -> None:
    torch.save({**nn.DataParallel(net()).state_dict(), "loss.weight": torch.ones(1)}, folder / "w.pt")
    assert refused("w.pt") == "lacks 0.weight and 8 more; it holds module.0.weight and 9 more"


def test_a_prefix_of_the_networks_own_stays(folder: Path) -> None:
    inner = nn.ModuleDict({"module": nn.ModuleDict({"model": nn.Linear(2, 1)})})
    torch.save(inner.state_dict(), folder / "w.pt")
    assert list(Weights.read("w.pt", inner).state) == ["module.model.weight", "module.model.bias"]
    torch.save(nn.DataParallel(inner).state_dict(), folder / "w.pt")
    assert list(Weights.read("w.pt", inner).state) == ["module.model.weight", "module.model.bias"]


def test_a_lone_counter_of_averages_is_no_network(folder: Path) -> None:
    torch.save({"n_averaged": torch.tensor(3)}, folder / "w.pt")
    assert refused("w.pt") == "lacks 0.weight and 8 more; it holds n_averaged"


class Tied(nn.Module):
    """A decoder that is the encoder's weight again."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(3, 3), nn.Linear(3, 3)
        self.decoder.weight = self.encoder.weight


@pytest.mark.parametrize("lacking", ["encoder.weight", "decoder.weight"])
def test_a_tied_tensor_may_be_there_once(folder: Path, lacking: str) -> None:
    network = Tied()
    torch.save({name: tensor for name, tensor in network.state_dict().items() if name != lacking}, folder / "w.pt")
    found = Weights.read("w.pt", network).state
    assert torch.equal(found[lacking], network.encoder.weight)
    assert torch.equal(found["decoder.bias"], network.decoder.bias)


def test_what_safetensors_save_model_writes_is_the_tied_network(folder: Path) -> None:
    network = Tied()
    safetensors.torch.save_model(network, str(folder / "w.safetensors"))
    assert len(safetensors.torch.load_file(folder / "w.safetensors")) == 3
    found = Weights.read("w.safetensors", network).state
    assert torch.equal(found["encoder.weight"], network.encoder.weight)
    assert torch.equal(found["decoder.weight"], network.encoder.weight)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_tied_tensor_has_one_mask_and_both_names_its_zeros(folder: Path, name: str) -> None:
    network = Tied()
    mask = torch.tensor([[1.0, 1, 1], [0, 1, 1], [1, 1, 0]])
    names = {f"{name}.weight_orig": torch.ones(3, 3), f"{name}.weight_mask": mask}
    torch.save({**names, "encoder.bias": torch.ones(3), "decoder.bias": torch.ones(3)}, folder / "w.pt")
    weights = Weights.read("w.pt", network)
    assert list(weights.masks) == ["encoder.weight"]
    assert torch.equal(weights.masks["encoder.weight"], mask.bool())
    assert torch.equal(weights.state["encoder.weight"], mask)
    assert torch.equal(weights.state["decoder.weight"], mask)


def test_tied_tensors_that_differ_are_refused_by_name(folder: Path) -> None:
    network = Tied()
    torch.save({**network.state_dict(), "decoder.weight": torch.ones(3, 3)}, folder / "w.pt")
    with pytest.raises(ConfigurationError, match=r"holds other values in decoder\.weight than in encoder\.weight"):
        Weights.read("w.pt", network)


def test_torch_ao_pruning_before_squash_mask_is_refused_and_after_it_pruned(folder: Path) -> None:
    module, sparsifier = net(), WeightNormSparsifier(0.5, sparse_block_shape=(1, 1), zeros_per_block=1)
    sparsifier.prepare(module, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    torch.save(nn.DataParallel(module).state_dict(), folder / "early.pt")
    text = refused("early.pt")
    held = "holds module.0.parametrizations.weight.original in place of module.0.weight; the mask of torch.ao.pruning"
    assert text.startswith(f"{held} is not in the file, and squash_mask() belongs before saving")
    sparsifier.squash_mask()
    torch.save(module.state_dict(), folder / "w.pt")
    assert masks_in("w.pt")["0.weight"].flatten().tolist() == [False] * 6 + [True] * 6


PARAMETRIZATIONS: dict[str, tuple[Callable[[nn.Linear], nn.Module], str]] = {
    "weight_norm": (parametrizations.weight_norm, "0.parametrizations.weight.original0"),
    "spectral_norm": (parametrizations.spectral_norm, "0.parametrizations.weight.original"),
    "orthogonal": (parametrizations.orthogonal, "0.parametrizations.weight.original"),
}


@pytest.mark.parametrize("kind", PARAMETRIZATIONS)
def test_a_parametrization_is_refused_by_its_name(folder: Path, kind: str) -> None:
    module = net()
    parametrize_layer, first = PARAMETRIZATIONS[kind]
    parametrize_layer(module[0])
    torch.save(module.state_dict(), folder / "w.pt")
    done = "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') belongs before saving"
    assert refused("w.pt") == f"holds {first} in place of 0.weight, which {kind} computes; {done}"
    parametrize.remove_parametrizations(module[0], "weight")
    torch.save(module.state_dict(), folder / "w.pt")
    read("w.pt")


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize(("kind", "end"), [("weight_norm", "_g"), ("spectral_norm", "_u")])
def test_a_normalisation_of_older_torch_is_refused_by_its_name(folder: Path, kind: str, end: str) -> None:
    module = net()
    getattr(nn.utils, kind)(module[0])
    torch.save(module.state_dict(), folder / "w.pt")
    done = f"torch.nn.utils.remove_{kind}(layer) belongs before saving"
    assert refused("w.pt") == f"holds 0.weight{end} in place of 0.weight, which {kind} computes; {done}"


def test_a_smaller_network_is_told_with_what_to_do(folder: Path) -> None:
    smaller = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 2))
    torch.save(smaller.state_dict(), folder / "w.pt")
    text = refused("w.pt")
    cut = "holds a smaller network, as Torch-Pruning and the like cut it: 0.weight has shape (2, 3), not (4, 3), and "
    assert text == f"{cut}6 more are smaller; name a function as model.name that builds it so small"


def test_fewer_classes_are_no_smaller_network(folder: Path) -> None:
    torch.save({**state(), "2.weight": torch.ones(1, 4), "2.bias": torch.ones(1)}, folder / "w.pt")
    assert refused("w.pt") == "2.weight has shape (1, 4), must have (2, 4)"


def test_numpy_arrays_in_place_of_tensors_are_told(folder: Path) -> None:
    torch.save({**state(), "2.bias": np.zeros(2)}, folder / "w.pt")
    assert refused("w.pt") == "must hold a state dict, tensors by name; 2.bias is of type numpy.ndarray"


def test_a_holder_within_itself_is_told(folder: Path) -> None:
    held: dict[str, Any] = {"epoch": 1}
    held["model"] = held
    torch.save(held, folder / "w.pt")
    assert refused("w.pt") == "must hold a state dict, tensors by name; epoch is of type int"


def test_a_file_of_older_numpy_and_newer_python_is_read(folder: Path) -> None:
    beside = {"acc": np.float64(0.9), "out": Path("out"), "curve": np.arange(3)}
    torch.save({"net": state(), **beside}, folder / "w.pt", _use_new_zipfile_serialization=False)
    content = (folder / "w.pt").read_bytes()
    assert content.count(b"cnumpy._core.multiarray\n") == 2
    assert content.count(b"cpathlib\n") == 1
    other = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (folder / "w.pt").write_bytes(other.replace(b"cpathlib\n", b"cpathlib._local\n"))
    assert torch.equal(read("w.pt")[1].state_dict()["0.weight"], state()["0.weight"])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_says_how_to_save_its_state_dict(folder: Path, zipped: bool) -> None:
    torch.save(net(), folder / "w.pt", _use_new_zipfile_serialization=zipped)
    how = "torch.save(network.state_dict(), FILE) makes what can be read"
    told = "is no file of tensors alone: it holds a whole module, whose code is not run"
    assert refused("w.pt") == f"{told}; {how}"
    torch.jit.script(net()).save(folder / "w.pt")
    assert refused("w.pt").startswith(
        "is no file of tensors alone: it holds a program of TorchScript, which is not run"
    )


def test_code_that_a_file_names_is_told_and_not_run(folder: Path) -> None:
    torch.save({"state_dict": state(), "rate": Fraction(1, 3)}, folder / "w.pt")
    text = refused("w.pt")
    assert text.startswith("is no file of tensors alone, or damaged (UnpicklingError); it names fractions.Fraction, ")


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
