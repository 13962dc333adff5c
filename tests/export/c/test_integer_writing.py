"""Networks in 8-bit integers as C, compiled by this machine's compiler: every bit is as the definition has it."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from safs_ray import export
from safs_ray.config import ConfigurationError
from safs_ray.export.c import integer_writing, writing
from safs_ray.export.int8 import reference
from safs_ray.export.int8.integers import IntegerProgram
from safs_ray.export.int8.quantisation import quantised
from safs_ray.network import Network
from safs_ray.pruning.allocation import ALLOCATIONS
from safs_ray.storage import Folder
from tests.engine.networks import drawn, exact, images_of, network_of
from tests.engine.test_module import LAYERS, Beside, Block, Dense, Excited, Mixed, Sloped, lazy
from tests.engine.test_properties import Drawn
from tests.export.c.test_writing import CROSS, STRICT, lenet5, library, run

pytestmark = pytest.mark.skipif(writing.compiler() is None, reason="needs a C compiler")


def program_of(network: Network) -> IntegerProgram:
    return quantised(writing.passes_of(network), network.specification, images_of(network, 8))


def assert_c_is_equal(network: Network, seed: int = 1) -> None:
    program, images = program_of(network), images_of(network, 3, seed)
    files = integer_writing.write(program, network.specification)
    expected = reference.run(program, images)
    assert torch.equal(writing.compiled(files, *STRICT)(images), expected * program.unit)
    assert expected.any(), "the network says nothing"


SOME = ("5x5 of stride 2", "dilated, of stride 2", "depthwise", "normalised first", "largest, padded",
        "mean without padding", "mean of uneven windows", "upsampled to a size")  # fmt: skip


@pytest.mark.parametrize("layers", [LAYERS[name] for name in SOME], ids=SOME)
def test_integers_in_c_are_equal_for_layers(layers: list[nn.Module]) -> None:
    assert_c_is_equal(network_of(lazy(*layers)))


@pytest.mark.parametrize("kind", [Block, Dense, Excited])
def test_integers_in_c_are_equal_for_networks_of_branches(kind: type[nn.Module]) -> None:
    assert_c_is_equal(network_of(kind))


def test_integers_in_c_are_equal_for_slopes_and_groups_of_channels() -> None:
    assert_c_is_equal(network_of(Sloped, exclude=("slopes",)))
    names = ["relu", "swish", "tanh", "cos", "selu", "relu6", "mish", "gelu", "srs"]
    assert_c_is_equal(drawn(network_of(Mixed).grouped(3).assign(names), 0.5))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), sparsity=st.sampled_from([0.0, 0.5, 0.8]))
def test_integers_in_c_are_equal_for_any_network(seed: int, sparsity: float) -> None:
    assert_c_is_equal(network_of(lambda: Drawn(seed), size=Drawn(seed).size, sparsity=sparsity, seed=seed), seed)


def written(network: Network, place: Path) -> Path:
    for name, content in integer_writing.write(program_of(network), network.specification).items():
        (place / name).write_bytes(content)
    return place / writing.SOURCE


def test_integers_in_c_check_themselves_without_undefined_behaviour(tmp_path: Path) -> None:
    uneven = lazy(*LAYERS["mean of uneven windows"])
    for number, make in enumerate((lenet5, lambda: network_of(Excited), lambda: network_of(uneven))):
        source, program = written(make(), tmp_path), tmp_path / f"check-{number}"
        flags = ("-std=c99", *STRICT, "-fsanitize=undefined,address", "-fno-sanitize-recover=all", "-DNETWORK_CHECK")
        run(writing.compiler(), *flags, source, "-o", program)
        assert run(program) == "the logits are the recorded ones\n"


def test_integers_in_c_that_were_changed_fail_their_check(tmp_path: Path) -> None:
    source = written(lenet5(), tmp_path)
    text = source.read_text()
    for kind in ("int8_t weights", "int32_t bias", "uint16_t factors"):
        last = re.findall(rf"{kind}_\d+\[\d+\] = {{\n    (-?\d+),", text)[-1]
        changed = re.sub(rf"({kind}_\d+\[\d+\] = {{\n    ){last},", rf"\g<1>{int(last) // 2},", text)
        source.write_text(changed)
        run(writing.compiler(), "-std=c99", "-DNETWORK_CHECK", source, "-o", tmp_path / "check")
        assert subprocess.run([tmp_path / "check"], check=False, capture_output=True).returncode == 1, kind


def test_integers_in_c_are_called_alike_and_refuse_other_sizes(tmp_path: Path) -> None:
    network = lenet5()
    files = integer_writing.write(program_of(network), network.specification)
    called = library(files, tmp_path)
    memory = torch.full((int(re.findall(rb"NETWORK_MEMORY = (\d+)", files[writing.HEADER])[0]),), 99, dtype=torch.int8)
    pixels, logits = images_of(network, 1), torch.zeros(2, 10, dtype=torch.int32)
    inputs, ten = ctypes.c_size_t(784), ctypes.c_size_t(10)
    room, image, first, second = (ctypes.c_void_p(each.data_ptr()) for each in (memory, pixels, *logits))
    assert called.network_run(image, inputs, first, ten) == 0
    assert called.network_run_in(room, image, inputs, second, ten) == 0
    assert torch.equal(logits[0], logits[1])
    assert logits[0].any()
    assert called.network_run(None, inputs, first, ten) == 1
    assert called.network_run_in(None, image, inputs, first, ten) == 1
    assert called.network_run(image, ctypes.c_size_t(783), first, ten) == 2
    assert called.network_run(image, inputs, first, ctypes.c_size_t(9)) == 2


def test_integers_in_c_hold_nonzeros_alone_and_no_floats() -> None:
    network = lenet5()
    text = integer_writing.write(program_of(network), network.specification)[writing.SOURCE].decode()
    counts = [int(each) for each in re.findall(r"int8_t weights_\d+\[(\d+)\]", text)]
    assert sum(counts) <= network.nonzero_weights
    assert len(re.findall(r"uint16_t places_\d+\[", text)) == len(counts) == 5
    assert not re.search(r"malloc|float|double|math\.h", text)


def test_write_int8_compares_and_tells_how_near_it_is(tmp_path: Path) -> None:
    network = lenet5()
    images = images_of(network, 40)
    done = export.write_int8(network, images, Folder.at(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.c", "network.h"]
    assert done.files == {name: (tmp_path / name).stat().st_size for name in ("network.c", "network.h")}
    files = {name: (tmp_path / name).read_bytes() for name in done.files}
    difference = (writing.compiled(files)(images) - exact(network, images)).abs().max().item()
    assert done.difference == pytest.approx(difference, rel=1e-3)
    assert 0 < done.difference < 0.1 * done.largest
    assert done.accuracies is None
    assert "quantised weights and activations to 8 bits, by the ranges that occur on 40 images" in done.notes


def test_write_int8_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    network = lenet5()
    for images, message in (
        (torch.zeros(0, 1, 28, 28).byte(), "images=: there must be at least one, to take ranges from"),
        (torch.zeros(2, 1, 28, 28), "images=(2, 1, 28, 28): images must be uint8 (N, 1, 28, 28), not torch.float32"),
        (torch.zeros(2, 3, 28, 28).byte(), "images=(2, 3, 28, 28): images must be uint8 (N, 1, 28, 28)"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            export.write_int8(network, images, Folder.at(tmp_path))
        assert str(refused.value).startswith(message)
    beside = network_of(Beside)
    with pytest.raises(ConfigurationError, match=r"^format=c: cannot express what this under test does: norm \("):
        export.write_int8(beside, images_of(beside), Folder.at(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("target", CROSS)
def test_integers_in_c_have_the_same_bits_on_other_processors(target: str, tmp_path: Path) -> None:
    compiler, emulator, root = CROSS[target]
    if not all(map(shutil.which, (compiler, emulator))):
        pytest.skip(f"needs {compiler} and {emulator}")
    for number, make in enumerate((lenet5, lambda: network_of(Excited), lambda: network_of(Block))):
        source, program = written(make(), tmp_path), tmp_path / f"check-{number}"
        run(compiler, "-std=c99", "-O3", *STRICT[1:], "-DNETWORK_CHECK", source, "-o", program)
        assert run(emulator, "-L", root, program) == "the logits are the recorded ones\n"


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["cortex-m4", "cortex-m0"])
def test_integers_of_a_small_network_fit_a_microcontroller(processor: str, tmp_path: Path) -> None:
    """``apt-get install gcc-arm-none-eabi``: LeNet-5 with 442 weights in 4 kB of code and constants, 6 kB of RAM."""
    if not shutil.which("arm-none-eabi-gcc"):
        pytest.skip("needs arm-none-eabi-gcc")
    network = lenet5()
    draws = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(each.shape, generator=draws).abs() for name, each in network.prunable().items()}
    network = network.masked(ALLOCATIONS["layer"](scores, 0.99))
    assert network.nonzero_weights <= 442
    source, made = written(network, tmp_path), tmp_path / "network.o"
    run("arm-none-eabi-gcc", "-std=c99", "-Os", *STRICT[1:], f"-mcpu={processor}", "-mthumb", "-c", source, "-o", made)
    flash, data, zeros = map(int, run("arm-none-eabi-size", made).splitlines()[1].split()[:3])
    assert flash + data < 4_000
    assert data + zeros < 6_000
