"""Networks as C, compiled by this machine's compiler, against the masked dense network in double precision."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from safs_ray import export
from safs_ray.config import ConfigurationError
from safs_ray.export import formats
from safs_ray.export.c import writing
from safs_ray.export.c.kernels import pieces
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.operators import OPERATORS
from safs_ray.pruning.allocation import ALLOCATIONS
from safs_ray.storage import Folder
from tests.engine.networks import assert_exact, drawn, images_of, network_of
from tests.engine.test_module import LAYERS, Beside, Block, Dense, Excited, Mixed, Sloped, lazy

STRICT = ("-O1", "-Wall", "-Wextra", "-pedantic", "-Werror")

pytestmark = pytest.mark.skipif(writing.compiler() is None, reason="needs a C compiler")


def assert_c_computes(network: Network, images: int = 3) -> None:
    assert_exact(
        writing.compiled(writing.write(network), *STRICT)(images_of(network, images)),
        network,
        images_of(network, images),
    )


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_c_computes_layers(layers: list[nn.Module]) -> None:
    assert_c_computes(network_of(lazy(*layers)))


@pytest.mark.parametrize("kind", [Block, Dense, Excited])
def test_c_computes_networks_of_branches(kind: type[nn.Module]) -> None:
    assert_c_computes(network_of(kind))


def test_c_computes_slopes_and_groups_of_channels() -> None:
    assert_c_computes(network_of(Sloped, exclude=("slopes",)))
    names = ["relu", "swish", "tanh", "cos", "selu", "relu6", "mish", "gelu", "srs"]
    assert_c_computes(drawn(network_of(Mixed).grouped(3).assign(names), 0.5))


def test_c_computes_every_operator() -> None:
    """Three at a time, of their own definitions."""
    names = [*OPERATORS, "leaky_relu(0.2)", "gelu_tanh", "prelu", f"{__name__}:squared"]
    for first in range(0, len(names), 3):
        own = (names[first:] + names)[:3]
        assert_c_computes(drawn(network_of(Mixed).assign(own), 0.5))


def squared(z: torch.Tensor, shift: float = 0.5) -> torch.Tensor:
    """A user's operator with a parameter."""
    return (z - shift) ** 2 * torch.where(z > 0, 1.0, 0.125)


def lenet5() -> Network:
    network = Network.initial(Specification("lenet5", (1, 28, 28), 10, (0.3,), (0.4,)), 0)
    draws = torch.Generator().manual_seed(0)
    masks = {name: torch.rand(each.shape, generator=draws) < 0.05 for name, each in network.prunable().items()}
    return network.masked(masks)


def written(network: Network, place: Path) -> Path:
    for name, content in writing.write(network).items():
        (place / name).write_bytes(content)
    return place / writing.SOURCE


def run(*words: object) -> str:
    return subprocess.run([*map(str, words)], check=True, capture_output=True, text=True).stdout


def test_c_checks_itself_without_undefined_behaviour(tmp_path: Path) -> None:
    uneven = lazy(*LAYERS["mean of uneven windows"])
    for number, make in enumerate((lenet5, lambda: network_of(Excited), lambda: network_of(uneven))):
        source, program = written(make(), tmp_path), tmp_path / f"check-{number}"
        flags = ("-std=c99", *STRICT, "-fsanitize=undefined,address", "-fno-sanitize-recover=all", "-DNETWORK_CHECK")
        run(writing.compiler(), *flags, source, "-o", program, "-lm")
        assert "the logits differ by at most " in run(program)


def test_c_that_was_changed_fails_its_check(tmp_path: Path) -> None:
    source = written(lenet5(), tmp_path)
    text = source.read_text()
    first = re.search(r"float bias_\d+\[\d+\] = {\n    (\S+),", text)
    assert first
    source.write_text(text.replace(first[0], first[0].replace(first[1], "9.0f"), 1))
    run(writing.compiler(), "-std=c99", "-DNETWORK_CHECK", source, "-o", tmp_path / "check", "-lm")
    assert subprocess.run([tmp_path / "check"], check=False, capture_output=True).returncode == 1


def library(files: Mapping[str, bytes], place: Path) -> ctypes.CDLL:
    for name, content in files.items():
        (place / name).write_bytes(content)
    run(writing.compiler(), "-std=c99", "-shared", "-fPIC", place / writing.SOURCE, "-o", place / "it.so", "-lm")
    return ctypes.CDLL(str(place / "it.so"))


def test_c_functions_agree_and_refuse_other_sizes(tmp_path: Path) -> None:
    network = lenet5()
    files = writing.write(network)
    called = library(files, tmp_path)
    memory = torch.full((int(re.findall(rb"NETWORK_MEMORY = (\d+)", files[writing.HEADER])[0]),), torch.nan)
    pixels = images_of(network, 1).flatten()
    floats, logits = pixels.float(), torch.zeros(4, 10)
    sizes = [ctypes.c_size_t(784), *(ctypes.c_void_p(each.data_ptr()) for each in logits)]
    where = [ctypes.c_void_p(each.data_ptr()) for each in (memory, pixels, floats)]
    inputs, outs, ten = sizes[0], sizes[1:], ctypes.c_size_t(10)
    assert called.network_run(where[1], inputs, outs[0], ten) == 0
    assert called.network_run_in(where[0], where[1], inputs, outs[1], ten) == 0
    assert called.network_run_floats(where[2], inputs, outs[2], ten) == 0
    assert called.network_run_floats_in(where[0], where[2], inputs, outs[3], ten) == 0
    assert all(torch.equal(each, logits[0]) for each in logits)
    assert logits[0].abs().max() > 0
    assert called.network_run(None, inputs, outs[0], ten) == 1
    assert called.network_run_in(None, where[1], inputs, outs[0], ten) == 1
    assert called.network_run(where[1], ctypes.c_size_t(783), outs[0], ten) == 2
    assert called.network_run(where[1], inputs, outs[0], ctypes.c_size_t(9)) == 2


def test_c_holds_nonzeros_alone() -> None:
    network = lenet5()
    text = writing.write(network)[writing.SOURCE].decode()
    counts = [int(each) for each in re.findall(r"float weights_\d+\[(\d+)\]", text)]
    assert sum(counts) <= network.nonzero_weights
    assert len(re.findall(r"uint16_t places_\d+\[", text)) == len(counts) == 5
    assert "malloc" not in text


def test_pieces_of_small_planes() -> None:
    assert [pieces(length) for length in (1, 5, 9, 16, 19, 71, 96)] == [
        [4], [8], [16], [16], [16, 4], [64, 8], [64, 32],
    ]  # fmt: skip


def test_c_names_what_it_cannot_express(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        export.write(network_of(Beside), "c", Folder.at(tmp_path))
    assert str(refused.value).startswith("format=c: cannot express what this under test does: norm (")
    assert str(refused.value).endswith("; allowed: onnx, torch")
    assert not list(tmp_path.iterdir())


def test_c_is_written_with_its_header_and_compared(tmp_path: Path) -> None:
    done = export.write(lenet5(), "c", Folder.at(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.c", "network.h"]
    assert done.files == {name: (tmp_path / name).stat().st_size for name in ("network.c", "network.h")}
    assert done.trials[0].runtime == "cc"
    assert done.difference <= 1e-5 * done.largest


def test_c_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"^format=c: is run to check it, which needs cc$"):
        formats.find("c")


CROSS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64", "/usr/aarch64-linux-gnu"),
    "armhf": ("arm-linux-gnueabihf-gcc", "qemu-arm", "/usr/arm-linux-gnueabihf"),
    "riscv64": ("riscv64-linux-gnu-gcc", "qemu-riscv64", "/usr/riscv64-linux-gnu"),
}
"""apt-get install gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf gcc-riscv64-linux-gnu qemu-user"""


@pytest.mark.slow
@pytest.mark.parametrize("target", CROSS)
def test_c_runs_on_other_processors(target: str, tmp_path: Path) -> None:
    compiler, emulator, root = CROSS[target]
    if not all(map(shutil.which, (compiler, emulator))):
        pytest.skip(f"needs {compiler} and {emulator}")
    mixed = lambda: drawn(network_of(Mixed).assign(["mish"] * 3), 0.5)  # noqa: E731
    for number, make in enumerate((lenet5, lambda: network_of(Excited), mixed)):
        source, program = written(make(), tmp_path), tmp_path / f"check-{number}"
        run(compiler, *writing.FLAGS, *STRICT[1:], "-DNETWORK_CHECK", source, "-o", program, "-lm")
        difference, allowed = map(float, re.findall(r"[\d.]+e[-+]\d+|\d+\.?\d*", run(emulator, "-L", root, program)))
        assert difference <= 0.1 * allowed  # 1e-5 of the largest logit


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["cortex-m4", "cortex-m0"])
def test_c_of_a_small_network_fits_a_microcontroller(processor: str, tmp_path: Path) -> None:
    """``apt-get install gcc-arm-none-eabi``: LeNet-5 with 442 weights in 8 kB of code and constants, 32 kB of RAM."""
    if not shutil.which("arm-none-eabi-gcc"):
        pytest.skip("needs arm-none-eabi-gcc")
    network = Network.initial(Specification("lenet5", (1, 28, 28), 10, (0.5,), (0.25,)), 0)
    draws = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(each.shape, generator=draws).abs() for name, each in network.prunable().items()}
    network = network.masked(ALLOCATIONS["layer"](scores, 0.99))
    assert network.nonzero_weights == 442
    source, made = written(network, tmp_path), tmp_path / "network.o"
    run("arm-none-eabi-gcc", "-std=c99", "-Os", *STRICT[1:], f"-mcpu={processor}", "-mthumb", "-c", source, "-o", made)
    flash, data, zeros = map(int, run("arm-none-eabi-size", made).splitlines()[1].split()[:3])
    assert flash + data < 8_000
    assert data + zeros < 32_000
