"""A user's own networks, from a module that lies in no package."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from safs_ray.config import ConfigurationError
from safs_ray.models import Specification, build, check, check_extremes
from safs_ray.network import Network
from safs_ray.references import lend

MODULE = """
import random as random_of_python

import numpy
import torch
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torchvision.ops import StochasticDepth, stochastic_depth


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
        return super().forward(x) + torch.rand(1)

class Scaled(Net):
    def forward(self, x):
        return super().forward(x) * (1 - self.drop.p)

class RandomByPython(Net):
    def forward(self, x):
        return super().forward(x) * (1 + (random_of_python.random() < 0.5))

class RandomByNumpy(Net):
    def forward(self, x):
        return super().forward(x) * (1 + (numpy.random.rand() < 0.5))

class RandomByItsOwn(Net):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.draws = numpy.random.default_rng(0)

    def forward(self, x):
        return super().forward(x) * self.draws.random()

class DroppingEverywhere(Net):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.attention = nn.MultiheadAttention(6, 2, dropout=0.5)
        self.lstm = nn.LSTM(6, 6, 2, dropout=0.5)
        self.depth = StochasticDepth(0.5, "row")

    def forward(self, x):
        x = F.relu(self.fc1(self.flatten(x)))[:, None]
        x = x + self.depth(self.attention(x, x, x, need_weights=False)[0])
        x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)
        return self.fc2(F.dropout(self.lstm(x)[0][:, 0], 0.5, self.training))

class DroppingByFunctions(Net):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.norm = nn.BatchNorm1d(6)
        self.leaky = nn.RReLU()

    def forward(self, x):
        x = F.relu(self.norm(self.fc1(self.flatten(x))))
        x = x + stochastic_depth(self.leaky(x), 0.5, "row", self.training)
        if self.training:  # as older copies of timm's drop_path do
            x = x.div(0.5) * (0.5 + torch.rand(len(x), 1)).floor_()
        return self.fc2(x)


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

def traced(classes):
    return symbolic_trace(Net(16, classes))

def traced_with_hooks_of_layers(classes):
    net = traced(classes)
    net.fc2.register_forward_hook(lambda module, inputs, output: output + 1)
    return net

def traced_with_hooks(classes):
    net = traced(classes)
    net.register_forward_hook(lambda module, inputs, output: output + 1)
    return net

def traced_within(classes):
    return nn.Sequential(nn.Identity(), traced_with_hooks(classes))

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

def scaled(classes):
    return Scaled(16, classes)

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

def random_by_python(classes):
    return RandomByPython(16, classes)

def random_by_numpy(classes):
    return RandomByNumpy(16, classes)

def random_by_its_own(classes):
    return RandomByItsOwn(16, classes)

def dropping_by_functions(classes):
    return DroppingByFunctions(16, classes)

def dropping(classes):
    return DroppingEverywhere(16, classes)

def normed(classes):
    net = Net(16, classes)
    weight_norm(net.fc1)
    return net

def normed_by_spectrum(classes):
    net = Net(16, classes)
    spectral_norm(net.fc2)
    return net

def scripted(classes):
    net = Net(16, classes)
    net.fc1 = torch.jit.script(net.fc1)
    return net

def hooked(classes):
    net = Net(16, classes)
    net.fc1.weight.register_hook(lambda gradient: gradient * 0)
    return net

def with_state(classes):
    class Counting(nn.Linear):
        def get_extra_state(self):
            return 3
    net = Net(16, classes)
    net.fc2 = Counting(6, classes)
    return net

def standardised(classes):
    class Standardised(nn.Linear):
        def forward(self, x):
            weight = self.weight - self.weight.mean(1, keepdim=True)
            return F.linear(x, weight / weight.norm(dim=1, keepdim=True), self.bias)
    net = Net(16, classes)
    net.fc1 = Standardised(16, 6)
    return net

def padded(classes):
    class Padded(nn.Linear):
        def forward(self, x):
            return F.linear(F.pad(x, (0, 1)), self.weight, self.bias)
    net = Net(16, classes)
    net.fc1 = Padded(17, 6)
    return net

def squeezing(classes):
    class Squeezing(Net):
        def forward(self, x):
            return super().forward(x).squeeze()
    return Squeezing(16, classes)

def of_two(classes):
    class OfTwo(Net):
        def forward(self, x):
            return super().forward(x.reshape(-1, 16)[:2])
    return OfTwo(16, classes)

CACHED = Net(16, 10)

def cached():
    return CACHED

def compiled(classes):
    net = Net(16, classes)
    net.fc1 = torch.compile(net.fc1)
    net.fc2.compile()
    return torch.compile(net)

def ending(classes):
    return nn.Sequential(Net(16, classes), nn.Softmax(1))

def masking(classes):
    class Masking(Net):
        def forward(self, x, mask=None):
            return super().forward(x if mask is None else x * mask)
    return Masking(16, classes)
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net_of_a_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def specification(function: str, classes: int = 10) -> Specification:
    return Specification(f"net_of_a_user:{function}", (1, 4, 4), classes, (0.5,), (0.25,))


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


@pytest.mark.parametrize("function", ["traced", "traced_with_hooks_of_layers"])
def test_a_traced_network_is_the_same_as_the_one_that_was_traced(function: str) -> None:
    wanted = specification(function)
    check(wanted)
    network, plain = Network.initial(wanted, seed=0), Network.initial(specification("network"), seed=0)
    assert (network.sites, network.prunable_count) == (("relu",), plain.prunable_count)
    shift = 0 if function == "traced" else 1
    images = torch.randint(256, (3, 1, 4, 4), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(
            network.build().eval()(wanted.normalised(images)),
            plain.build().eval()(wanted.normalised(images)) + shift,
        )


def test_its_activations_are_sites() -> None:
    network = Network.initial(specification("network"), seed=0)
    assert (network.sites, network.assignment) == (("relu",), ("relu",))
    assert network.prunable_count == 16 * 6 + 6 * 10


def test_inputs_that_an_embedding_has_no_row_for_are_refused_by_their_row() -> None:
    model = lend(lambda: nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(12, 2), nn.ReLU()), "embedding")
    specification = Specification(model, (3,), 2, (), (), kind="int64", indices=20)
    inputs = torch.arange(12).reshape(4, 3)
    check_extremes(specification, {"training": inputs, "test": inputs})
    inputs[2, 1] = 25
    with pytest.raises(ConfigurationError, match=r"fails on row 2 of the test inputs, of numbers from 6 to 25 \(Index"):
        check_extremes(specification, {"training": inputs[:2], "test": inputs})


class ByCategory(nn.Module):
    """The last of three columns is the number of a category."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(4, 4), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([x[:, :2], self.embedding(x[:, 2].long())], 1).relu())


def test_numbers_that_a_network_has_no_category_for_are_refused_by_their_row() -> None:
    specification = Specification(lend(ByCategory, "categories"), (3,), 2, (0, 0, 0), (1, 1, 1), kind="float32")
    inputs = torch.tensor([[0.5, 9.0, 3.0], [0.1, -9.0, 0.0]])
    check_extremes(specification, {"training": inputs})
    inputs[1, 2] = 9
    with pytest.raises(ConfigurationError, match=r"fails on row 1 of the training inputs, of numbers from -9 to 9"):
        check_extremes(specification, {"training": inputs})


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


def test_dropout_in_every_form_is_taken_out_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    wanted = specification("dropping")
    with caplog.at_level(logging.WARNING, logger="safs_ray"):
        check(wanted)
    assert [record.getMessage() for record in caplog.records] == [
        "model.name=net_of_a_user:dropping: used without dropout (drop, attention, lstm, depth, "
        "scaled_dot_product_attention, dropout)"
    ]
    network = Network.initial(wanted, seed=0)
    module, images = network.build().train(), torch.rand(5, 1, 4, 4)
    assert torch.equal(module(images), module(images))
    assert network.sites == ("relu",)


def test_modules_that_draw_random_numbers_in_training_do_as_in_evaluation(caplog: pytest.LogCaptureFixture) -> None:
    wanted = specification("dropping_by_functions")
    with caplog.at_level(logging.WARNING, logger="safs_ray"):
        check(wanted)
    assert [record.getMessage() for record in caplog.records] == [
        "model.name=net_of_a_user:dropping_by_functions: used without dropout (drop)",
        "model.name=net_of_a_user:dropping_by_functions: as in evaluation, without its random numbers: the network "
        "itself, leaky",
    ]
    network = Network.initial(wanted, seed=0)
    module, images = network.build().train(), torch.rand(5, 1, 4, 4)
    assert torch.equal(module(images), module(images))
    assert module.get_submodule("norm").num_batches_tracked == 2, "normalisation trains"
    assert (network.sites, network.sited.left) == (("relu",), ("leaky (rrelu)",))


@pytest.mark.parametrize("function", ["padded", "masking", "compiled"])
def test_what_looks_unusual_and_works_is_taken(function: str, caplog: pytest.LogCaptureFixture) -> None:
    wanted = specification(function)
    check(wanted, batches=(1, 2, 7))
    assert len(caplog.records) == 1, "its dropout"
    network, images = Network.initial(wanted, seed=0), torch.rand(3, 1, 4, 4)
    assert network.sites == ("relu",)
    with torch.no_grad():
        assert torch.equal(network.build().eval()(images), build(wanted, seed=0).eval()(images))


def test_a_compiled_network_is_used_as_it_was_before() -> None:
    module = build(specification("compiled"), seed=0)
    assert list(module.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert type(module).__name__ == "Net"


def test_every_build_is_a_copy_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    wanted = specification("cached")
    check(wanted)
    shared = "returns the same tensors every time; every network gets a copy, all with the same initial weights"
    assert f"model.name=net_of_a_user:cached: {shared}" in [record.getMessage() for record in caplog.records]
    first, second = build(wanted, seed=0), build(wanted, seed=0)
    with torch.no_grad():
        first.get_parameter("fc1.weight").zero_()
    assert second.get_parameter("fc1.weight").any()
    assert build(wanted, seed=0).get_parameter("fc1.weight").any()


def test_a_softmax_at_the_end_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    check(specification("ending"))
    softmax = "returns probabilities, which add up to 1; the loss takes logits: leave the softmax out"
    assert f"model.name=net_of_a_user:ending: {softmax}" in [record.getMessage() for record in caplog.records]


def test_it_is_built_for_training() -> None:
    assert build(specification("evaluating"), seed=0).training


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("number", "must return a torch.nn.Module, returns int"),
        ("traced_with_hooks", "has a hook on itself, which is traced, so that no copy of it keeps the hook"),
        ("traced_within", "has a hook on 1, which is traced, so that no copy of it keeps the hook"),
        ("failing", "fails (ValueError: no such thing)"),
        ("leaving", "fails (SystemExit: usage: network.py FILE)"),
        ("backward", "fails on 2 images of 1x4x4 (RuntimeError: one of the variables needed for gradient"),
        ("Net", "fails (TypeError: "),
        ("missing", "net_of_a_user has no function missing"),
        ("unfit", "fails on 2 images of 1x4x4 (RuntimeError: "),
        ("of_list", "must return outputs (N, 10), returns list"),
        ("not_finite", "returns outputs that are NaN or infinite"),
        ("scaled", "computes something else in evaluation when its dropout is switched off; leave the dropout out"),
        ("random", "draws random numbers; turn that off, for no run could be repeated"),
        ("random_by_python", "draws random numbers; turn that off, for no run could be repeated"),
        ("random_by_numpy", "draws random numbers; turn that off, for no run could be repeated"),
        ("random_by_its_own", "computes something else when it is given the same images again"),
        ("normed", "computes fc1.weight from other parameters, as torch.nn.utils.weight_norm and spectral_norm do"),
        ("normed_by_spectrum", "computes fc2.weight from other parameters, as torch.nn.utils.weight_norm"),
        ("scripted", "has fc1 as TorchScript, which hides its weights; give the Python module"),
        ("hooked", "has a hook on the gradient of fc1.weight, which no copy of it keeps"),
        ("with_state", "has fc2 with get_extra_state, which is no tensor"),
        ("standardised", "has fc1, a Standardised, that computes with a weight made from its own: zeros would not"),
        ("squeezing", "must return outputs (1, 10) for 1 image of 1x4x4, returns (10,)"),
        ("of_two", "must return outputs (5, 10) for 5 images of 1x4x4, returns (2, 10)"),
        ("lazy", "has lazy layers"),
        ("pruned", "computes weights from other parameters; return the plain network"),
        ("frozen", "freezes fc1.weight; let it be trained, for every weight is, or make it a buffer"),
        ("parametrized", "computes weights from other parameters; return the plain network"),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_in_one_line(function: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check(specification(function), batches=(2, 1, 5))
    text = str(refused.value)
    assert text.startswith(f"model.name=net_of_a_user:{function}: {reason}")
    assert "\n" not in text


def test_logits_of_other_classes_are_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        check(specification("of_nothing", classes=7))
    assert str(refused.value) == (
        "model.name=net_of_a_user:of_nothing: must return outputs (2, 7) for 2 images of 1x4x4, returns (2, 10)"
    )
