from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from safs_ray import config, stages
from safs_ray.config import Configuration, ConfigurationError
from safs_ray.data import Examples, Splits
from safs_ray.network import Network
from safs_ray.report import measurement
from safs_ray.report.measurement import IMAGES, Layer, gradient_norms, layers, site_inputs, validation_images
from tests.stages.altered import changed


def test_the_images_are_those_that_the_search_validates_on(configuration: Configuration, splits: Splits) -> None:
    found = validation_images(configuration)
    assert found.inputs.equal(splits.validation.inputs[:IMAGES])
    assert found.labels.equal(splits.validation.labels[:IMAGES])


def test_what_loading_says_of_images_is_not_said_again(
    configuration: Configuration, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(9):
                Image.new("L", (8, 8)).save(tmp_path / part / name / f"{number}.png")
    run = changed(configuration, "data", source=f"imagefolder:{tmp_path}", limit=None)
    assert len(validation_images(run)) == 3
    assert caplog.messages == []
    stages.load(run)
    assert "the same, pixel for pixel" in caplog.messages[0]


def test_nothing_is_downloaded() -> None:
    run = config.validate({"data": {"source": "mnist", "folder": "no/such/folder"}})
    with pytest.raises(ConfigurationError, match=r"^data\.folder=no/such/folder: no such folder here"):
        validation_images(run)


def test_inputs_of_a_site_are_what_it_takes_of_the_neurons_that_vary(pruned: stages.Result, splits: Splits) -> None:
    masks = {name: mask.clone() for name, mask in pruned.network.masks.items()}
    for mask in masks.values():
        mask[0] = False  # a neuron of every layer that takes nothing
    network, images = pruned.network.masked(masks), splits.validation.inputs
    module = network.build().eval()
    with torch.no_grad():
        first = module.fc1(network.specification.normalised(images).flatten(1))
        second = module.fc2(module.act1(first))
    inputs = site_inputs(network, images)
    for site, expected in (("act1", first), ("act2", second)):
        varying = [neuron for neuron in expected.unbind(1) if len(neuron.unique()) > 1]
        assert len(varying) < expected.shape[1]
        expected_values = torch.stack(varying, 1).flatten()
        assert torch.allclose(torch.from_numpy(inputs[site]).sort()[0], expected_values.sort()[0], atol=1e-6)


def test_of_a_wide_site_some_neurons_are_looked_at(
    pruned: stages.Result, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = splits.validation.inputs[:8]
    whole = site_inputs(pruned.network, images)["act1"]
    monkeypatch.setattr(measurement, "VALUES", 100 * IMAGES)
    part = site_inputs(pruned.network, images)["act1"]
    assert 0 < len(part) < len(whole)
    assert set(part) <= set(whole)


def test_gradients_are_those_of_the_mean_loss_over_kept_weights(pruned: stages.Result, splits: Splits) -> None:
    network, examples = pruned.network, splits.validation
    assert len(examples) != measurement.BATCH
    module = network.build()
    loss = cross_entropy(module(network.specification.normalised(examples.inputs)), examples.labels)
    loss.backward()
    norms = gradient_norms(network, examples)
    assert list(norms) == list(network.masks)
    for name, mask in network.masks.items():
        gradient = module.get_parameter(name).grad
        assert gradient is not None
        assert norms[name] == pytest.approx(gradient[mask].norm().item(), rel=1e-4)


NORMALISED = """
from torch import nn

def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 10))
"""


def test_no_batch_is_of_one_image(
    dense: stages.Result, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one vector batch normalisation has no statistics."""
    (tmp_path / "normalised_network.py").write_text(NORMALISED)
    monkeypatch.syspath_prepend(tmp_path)
    specification = replace(dense.network.specification, model="normalised_network:network")
    norms = gradient_norms(Network.initial(specification, seed=0), splits.train[: measurement.BATCH + 1])
    assert len(norms) == 2
    assert all(norm > 0 for norm in norms.values())


def test_a_dead_network_has_no_gradient(pruned: stages.Result, splits: Splits) -> None:
    state = {name: torch.zeros_like(weight) for name, weight in pruned.network.state.items()}
    norms = gradient_norms(replace(pruned.network, state=state), splits.validation)
    assert set(norms.values()) == {0.0}


def test_layers_by_hand(pruned: stages.Result) -> None:
    """One path of one neuron in each layer, and beside it a neuron that nothing hears and one that hears nothing."""
    network = pruned.network
    masks = {name: torch.zeros_like(mask) for name, mask in network.masks.items()}
    masks["fc1.weight"][3, 5] = masks["fc1.weight"][4, 6] = True
    masks["fc2.weight"][7, 3] = masks["fc2.weight"][8, 9] = True
    masks["fc3.weight"][1, 7] = masks["fc3.weight"][2, 8] = True
    found = layers(network.masked(masks))
    assert found == {
        "fc1.weight": Layer(kept=2, of=64 * 300, live=1, channels=300),
        "fc2.weight": Layer(kept=2, of=30_000, live=1, channels=100),
        "fc3.weight": Layer(kept=2, of=1000, live=1, channels=10),
    }
    assert math.isclose(found["fc3.weight"].sparsity, 0.998)
    assert layers(network.masked(masks).grouped(3)) == found


GATED = """
from torch import nn

class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10)

    def forward(self, x):
        x = self.first(x.flatten(1))
        return self.last(x * self.act(x))
"""


def test_live_channels_are_unknown_where_the_graph_cannot_be_read(
    dense: stages.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gated_network.py").write_text(GATED)
    monkeypatch.syspath_prepend(tmp_path)
    specification = replace(dense.network.specification, model="gated_network:Gated")
    found = layers(Network.initial(specification, seed=0))
    assert found == {"first.weight": Layer(256, 256, None, 4), "last.weight": Layer(40, 40, None, 10)}


def test_examples_are_left_as_they_were(pruned: stages.Result, splits: Splits) -> None:
    before = Examples(splits.validation.inputs.clone(), splits.validation.labels.clone())
    gradient_norms(pruned.network, splits.validation)
    site_inputs(pruned.network, splits.validation.inputs)
    assert splits.validation.inputs.equal(before.inputs)
