from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import nn

from safs_ray.export import sparse_file
from safs_ray.models import ARCHITECTURES, Architecture, Specification
from safs_ray.network import Network
from safs_ray.pruning.allocation import layer
from safs_ray.storage import DamagedError


@pytest.fixture(scope="module")
def network() -> Network:
    dense = Network.initial(Specification("lenet5", (1, 28, 28), 10, (0.1,), (0.3,)), seed=0)
    masks = layer({name: weight.abs() for name, weight in dense.prunable().items()}, 0.99)
    return dense.masked(masks).assign(["acon", "srs", "tanh", "relu"])


def test_gaps_by_hand() -> None:
    gaps = sparse_file.shortest_gaps(np.array([0, 3, 300, 556]))
    assert gaps.dtype == np.uint8
    assert gaps.tolist() == [0, 2, 255, 41, 255, 0]
    far = sparse_file.shortest_gaps(np.array([2_000, 70_000]))
    assert far.dtype == np.uint16
    assert far.tolist() == [2_000, 65_535, 70_000 - 2_001 - 65_535]


@given(st.sets(st.integers(0, 300_000) | st.integers(0, 600), max_size=60))
def test_gaps_there_and_back(chosen: set[int]) -> None:
    ascending = np.array(sorted(chosen), np.int64)
    assert sparse_file.places(sparse_file.shortest_gaps(ascending)).tolist() == ascending.tolist()


def test_a_network_comes_back_bit_for_bit(network: Network) -> None:
    state = dict(network.state)
    place = network.masks["fc1.weight"].nonzero()[0]
    state["fc1.weight"] = state["fc1.weight"].clone()
    state["fc1.weight"][tuple(place)] = 0  # kept, though it is zero
    odd = replace(network, state=state)
    assert sparse_file.read(sparse_file.write(odd, {})).fingerprint == odd.fingerprint
    for other in (Network.initial(network.specification, 1), network.grouped(2)):
        assert sparse_file.read(sparse_file.write(other, {})).fingerprint == other.fingerprint


def test_tensors_that_lie_in_columns_come_back_as_they_are(network: Network) -> None:
    dense = Network.initial(network.specification, 1)
    for one in (network, dense):
        columns = {name: one.state[name].T.contiguous().T for name in ("fc1.weight", "fc2.weight")}
        masks = {name: mask.T.contiguous().T for name, mask in one.masks.items() if name in columns}
        turned = replace(one, state={**one.state, **columns}, masks={**one.masks, **masks})
        assert not turned.state["fc1.weight"].is_contiguous()
        assert sparse_file.write(turned, {}) == sparse_file.write(one, {})
        assert sparse_file.read(sparse_file.write(turned, {})).fingerprint == one.fingerprint


def test_batch_normalisation_comes_back_with_its_scalars(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_: Specification) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2))

    monkeypatch.setitem(ARCHITECTURES, "normalised", Architecture(build))
    network = Network.initial(Specification("normalised", (1, 4, 4), 2, (0.1,), (0.3,)), seed=0)
    content = sparse_file.write(network, {})
    assert sparse_file.read(content).fingerprint == network.fingerprint
    assert sparse_file.read(content).state["2.num_batches_tracked"].shape == ()
    assert "values:2.running_mean" in safetensors.torch.load(content), "all zeros, though no mask says so"


def test_equal_networks_are_equal_files(network: Network) -> None:
    turned = replace(network, state=dict(reversed(network.state.items())), masks=dict(reversed(network.masks.items())))
    assert sparse_file.write(turned, {"input": "images"}) == sparse_file.write(network, {"input": "images"})


def test_is_about_as_small_as_its_nonzeros(network: Network) -> None:
    content = sparse_file.write(network, {"input": "images"})
    biases = 4 * (6 + 16 + 120 + 84 + 10)
    header = 8 + int.from_bytes(content[:8], "little")
    assert len(content) - header <= 442 * (4 + 1.25) + biases + 4 * (8 + 5)
    assert header < 4_000


def test_the_header_tells_all_else(network: Network) -> None:
    content = sparse_file.write(network, {"input": "images"})
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    description = json.loads(metadata["safs_ray"])
    assert description["input"] == "images"
    assert description["shapes"]["fc1.weight"] == [120, 256]
    assert description["specification"]["model"] == "lenet5"
    values = safetensors.torch.load(content)["values:fc1.weight"]
    assert torch.equal(values, network.state["fc1.weight"][network.masks["fc1.weight"]])


def test_another_safetensors_file_is_refused() -> None:
    with pytest.raises(ValueError, match="does not describe a network"):
        sparse_file.read(safetensors.torch.save({"a": torch.zeros(1)}))


def test_a_small_file_that_says_it_is_large_takes_no_memory(network: Network) -> None:
    content = sparse_file.write(network, {})
    shape = json.dumps(list(network.state["fc1.weight"].shape))
    assert content.count(shape.encode()) == 1
    large = shape.replace("120", "9" * 18)
    length = int.from_bytes(content[:8], "little") + len(large) - len(shape)
    changed = length.to_bytes(8, "little") + content[8:].replace(shape.encode(), large.encode())
    with pytest.raises(MemoryError, match=r"^fc1\.weight of shape \[9{18}, 256\] takes "):
        sparse_file.read(changed)


def test_a_file_that_was_changed_or_cut_off_is_refused(network: Network) -> None:
    content = sparse_file.write(network, {})
    value = network.state["fc2.weight"][network.masks["fc2.weight"]][:1].numpy().tobytes()
    assert content.count(value) == 1
    changed = content.replace(value, np.float32(0.25).tobytes())
    with pytest.raises(DamagedError, match="its fingerprint differs"):
        sparse_file.read(changed)
    header = content.replace(b'\\"deviation\\": [0.3]', b'\\"deviation\\": [0.4]')
    assert header != content
    with pytest.raises(DamagedError, match="its fingerprint differs"):
        sparse_file.read(header)
    with pytest.raises(SafetensorError):
        sparse_file.read(content[:-1])


def test_a_file_without_a_fingerprint_is_read_where_it_is_of_before_there_were_any(network: Network) -> None:
    content = sparse_file.write(network, {})
    length = int.from_bytes(content[:8], "little")
    without = re.sub(rb', \\"digest\\": \\"[0-9a-f]{64}\\"', b"", content[8 : 8 + length])
    assert len(without) < length
    with pytest.raises(DamagedError, match="it has lost its fingerprint"):
        sparse_file.read(len(without).to_bytes(8, "little") + without + content[8 + length :])
    without = without.replace(b', \\"version\\": 2', b"")
    read = sparse_file.read(len(without).to_bytes(8, "little") + without + content[8 + length :])
    assert read.fingerprint == network.fingerprint
