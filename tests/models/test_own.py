"""A user's own networks, from a module that lies in no package."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from safs_ray.config import ConfigurationError
from safs_ray.models import Specification, build, check
from safs_ray.network import Network

MODULE = """
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune


class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(inputs, 6)
        self.drop = nn.Dropout(0.5)
        self.fc2 = nn.Linear(6, classes)

    def forward(self, x):
        return self.fc2(self.drop(F.relu(self.fc1(self.flatten(x)))))


class Random(Net):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, self.training)


def network(channels, size, classes):
    return Net(channels * size**2, classes)

def of_all(**images):
    assert set(images) == {"channels", "size", "classes"}
    return network(**images)

def of_classes(classes):
    return Net(16, classes)

def of_nothing():
    return Net(16, 10)

def evaluating(classes):
    return Net(16, classes).eval()

def number():
    return 3

def failing(classes):
    raise ValueError("no such\\nthing")

def leaving(classes):
    raise SystemExit("usage: network.py FILE")

def backward(classes):
    class Rounding(Net):
        def forward(self, x):
            return super().forward(torch.relu_(self.fc1.weight[:1, :1] * 0 + x.relu_()).sigmoid().add_(1).sqrt_())
    return Rounding(16, classes)

def unfit():
    return Net(7, 10)

def of_list(classes):
    class Listing(Net):
        def forward(self, x):
            return [super().forward(x)]
    return Listing(16, classes)

def not_finite(classes):
    net = Net(16, classes)
    nn.init.constant_(net.fc2.bias, float("nan"))
    return net

def random(classes):
    return Random(16, classes)

def lazy(classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))

def pruned(classes):
    net = Net(16, classes)
    prune.l1_unstructured(net.fc1, "weight", 0.5)
    return net

def frozen(classes):
    net = Net(16, classes)
    net.fc1.requires_grad_(False)
    return net

def parametrized(classes):
    net = Net(16, classes)
    parametrizations.weight_norm(net.fc1)
    return net
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net_of_a_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def specification(function: str, classes: int = 10) -> Specification:
    return Specification(f"net_of_a_user:{function}", 1, 4, classes, (0.5,), (0.25,))


@pytest.mark.parametrize("function", ["network", "of_all", "of_classes", "of_nothing"])
def test_the_function_is_called_with_what_it_takes(function: str) -> None:
    wanted = specification(function)
    check(wanted)
    assert build(wanted, seed=0)(wanted.example(3)).shape == (3, 10)


def test_its_weights_follow_from_the_seed_and_no_global_generator() -> None:
    before = torch.get_rng_state()
    first, again, other = (build(specification("network"), seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(first["fc1.weight"], again["fc1.weight"])
    assert not torch.equal(first["fc1.weight"], other["fc1.weight"])
    check(specification("network"))
    assert torch.equal(torch.get_rng_state(), before)


def test_its_activations_are_sites() -> None:
    network = Network.initial(specification("network"), seed=0)
    assert (network.sites, network.assignment) == (("relu",), ("relu",))
    assert network.prunable_count == 16 * 6 + 6 * 10


def test_dropout_is_taken_out_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    wanted = specification("network")
    with caplog.at_level(logging.WARNING, logger="safs_ray"):
        check(wanted)
        module = build(wanted, seed=0)
    assert [record.getMessage() for record in caplog.records] == [
        "model.name=net_of_a_user:network: used without dropout (drop)"
    ]
    images = torch.rand(5, 1, 4, 4)
    assert module.training
    assert torch.equal(module(images), module(images))
    assert isinstance(module.get_submodule("drop"), nn.Dropout), "the state dict and the sites stay as they are"


def test_it_is_built_for_training() -> None:
    assert build(specification("evaluating"), seed=0).training


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("number", "must return a torch.nn.Module, returns int"),
        ("failing", "fails (ValueError: no such thing)"),
        ("leaving", "fails (SystemExit: usage: network.py FILE)"),
        ("backward", "fails on 2 images of 1x4x4 (RuntimeError: one of the variables needed for gradient"),
        ("Net", "fails (TypeError: "),
        ("missing", "net_of_a_user has no function missing"),
        ("unfit", "fails on 2 images of 1x4x4 (RuntimeError: "),
        ("of_list", "must return logits (N, classes), returns list"),
        ("not_finite", "returns logits that are NaN or infinite"),
        ("random", "draws random numbers in training"),
        ("lazy", "has lazy layers"),
        ("pruned", "computes weights from other parameters; return the plain network"),
        ("frozen", "freezes fc1.weight; let it be trained, for every weight is, or make it a buffer"),
        ("parametrized", "computes weights from other parameters; return the plain network"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_in_one_line(function: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check(specification(function))
    text = str(refused.value)
    assert text.startswith(f"model.name=net_of_a_user:{function}: {reason}")
    assert "\n" not in text


def test_logits_of_other_classes_are_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        check(specification("of_nothing", classes=7))
    assert str(refused.value) == (
        "model.name=net_of_a_user:of_nothing: must return logits (2, 7) for 2 images of 1x4x4, returns (2, 10)"
    )
