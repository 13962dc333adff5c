from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safs_ray.activations import ChannelGroups, ScaledActivation, SitedNetwork, find_sites, input_shapes
from safs_ray.config import ConfigurationError
from safs_ray.models import Specification, build
from safs_ray.operators import OPERATORS, lookup

Steps = Callable[[Any, Tensor], Tensor]
"""A forward pass, as a function of the module and the input."""


class Net(nn.Module):
    """A linear layer, further submodules, and a forward pass."""

    def __init__(self, forward: Steps, **children: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.steps = forward
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(self, x)


class Untraceable(Net):
    """The same with control flow that depends on the data."""

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(self, x) if x.isfinite().all() else x


class Functional(nn.Module):
    """A linear layer and a functional activation."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.linear(x))


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> None:
    torch.manual_seed(0)


def example() -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def activation(name: str) -> Steps:
    """A forward pass: the linear layer, then the child of this name."""
    return lambda net, x: getattr(net, name)(net.linear(x))


def sites_of(module: nn.Module, x: Tensor | None = None) -> SitedNetwork:
    """The module's sites, once it is sure that the default operators compute what the module does, bit for bit."""
    x = example() if x is None else x
    module.eval()
    with torch.no_grad():
        expected = module(x.clone())
        sited = find_sites(module, x)
        installed = sited.install_defaults(module)
        assert torch.equal(installed(x.clone()), expected)
        assert torch.equal(module(x.clone()), expected)
    for site, name in zip(sited.sites, sited.defaults, strict=True):
        assert isinstance(found := installed.get_submodule(site), ScaledActivation)
        assert found.operator is lookup(name)
    return sited


KINDS = pytest.mark.parametrize("kind", [Net, Untraceable])


class TestModules:
    @pytest.mark.parametrize(
        ("module", "operator"),
        [
            (nn.ReLU(), "relu"),
            (nn.ReLU(inplace=True), "relu"),
            (nn.ReLU6(), "relu6"),
            (nn.Hardswish(), "hardswish"),
            (nn.SiLU(), "swish"),
            (nn.GELU(), "gelu"),
            (nn.ELU(), "elu"),
            (nn.Tanh(), "tanh"),
            (nn.Softplus(), "softplus"),
            (nn.LogSigmoid(), "logsigmoid"),
            (nn.SELU(), "selu"),
            (nn.Hardtanh(), "hardtanh"),
            (nn.Mish(), "mish"),
            (nn.GELU(approximate="tanh"), "gelu_tanh"),
            (nn.ELU(alpha=0.5), "elu(0.5)"),
            (nn.CELU(), "celu"),
            (nn.CELU(alpha=2), "celu(2)"),
            (nn.LeakyReLU(), "leaky_relu"),
            (nn.LeakyReLU(0.2, inplace=True), "leaky_relu(0.2)"),
            (nn.PReLU(), "prelu"),
            (nn.PReLU(4, init=0.125), "prelu(4)"),
            (nn.Softplus(beta=2), "softplus(2, 20)"),
            (nn.Softplus(threshold=5), "softplus(1, 5)"),
            (nn.Hardtanh(-2, 2), "hardtanh(-2, 2)"),
            (nn.Hardtanh(0, 1), "hardtanh(0, 1)"),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    @KINDS
    def test_a_module_that_equals_an_operator_is_a_site(
        self, kind: type[Net], module: nn.Module, operator: str
    ) -> None:
        sited = sites_of(kind(activation("act"), act=module))
        assert (sited.sites, sited.defaults) == (("act",), (operator,))

    @pytest.mark.parametrize(
        "module",
        [
            nn.Softmax(dim=1),
            nn.Softsign(),
            nn.Hardsigmoid(),
            nn.Threshold(0.1, 2),
            nn.Softshrink(),
            nn.Hardtanh(0, math.inf),
        ],
        ids=str,
    )
    @KINDS
    def test_a_module_that_equals_none_is_no_site(self, kind: type[Net], module: nn.Module) -> None:
        net = kind(lambda net, x: net.act(net.other(net.linear(x))), other=module, act=nn.ReLU())
        sited = sites_of(net)
        assert sited.sites == ("act",)
        assert sited.left == (f"other ({type(module).__name__.lower()})",)

    @KINDS
    def test_slopes_that_were_learned_stay_where_they_were_learned(self, kind: type[Net]) -> None:
        act = nn.PReLU(4)
        with torch.no_grad():
            act.weight.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
        net = kind(lambda net, x: net.act(net.linear(net.act(x))), act=act)
        installed = sites_of(net).module
        names = {name for name, _ in installed.named_parameters() if name.endswith("slope")}
        assert len(names) == 2
        assert all(torch.equal(installed.get_parameter(name), act.weight) for name in names)
        assert "act.weight" not in installed.state_dict()

    @KINDS
    def test_sigmoid_is_a_site_unless_it_is_a_gate_or_the_output(self, kind: type[Net]) -> None:
        def forward(net: Any, x: Tensor) -> Tensor:
            hidden = net.linear(net.act(net.linear(x)))
            gated = hidden * net.gate(net.linear(hidden)).view(3, 4)
            output: Tensor = torch.sigmoid(net.linear(gated))
            return output

        sited = sites_of(kind(forward, act=nn.Sigmoid(), gate=nn.Sigmoid()))
        assert (sited.sites, sited.defaults) == (("act",), ("sigmoid",))
        assert sited.left == ("gate (sigmoid)", "sigmoid")

    def test_sites_of_a_sequence_bear_the_paths_of_their_modules(self) -> None:
        inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        sited = sites_of(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), inner, nn.ELU(alpha=2), nn.SiLU()))
        assert sited.sites == ("1", "2.1", "3", "4")
        assert sited.defaults == ("relu", "tanh", "elu(2)", "swish")

    def test_sites_are_in_the_order_of_execution(self) -> None:
        net = Net(lambda net, x: net.a(net.linear(net.b(x))), a=nn.ReLU(), b=nn.Tanh())
        assert sites_of(net).sites == ("b", "a")

    def test_modules_that_are_not_applied_are_no_sites(self) -> None:
        assert sites_of(Net(activation("a"), a=nn.ReLU(), b=nn.ReLU())).sites == ("a",)

    def test_a_module_applied_several_times_is_several_sites(self) -> None:
        net = Net(lambda net, x: net.act(net.linear(net.act(net.linear(net.act(x))))), act=nn.ReLU())
        sited = sites_of(net)
        assert sited.sites == ("act", "act_2", "act_3")
        assert sited.defaults == ("relu",) * 3

    def test_one_module_under_two_names_is_two_sites(self) -> None:
        shared = nn.ReLU()
        net = Net(lambda net, x: net.b(net.linear(net.a(x))), a=shared, b=shared)
        assert len(sites_of(net).sites) == 2

    def test_a_block_applied_twice_has_the_sites_of_two(self) -> None:
        block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        assert sites_of(Net(lambda net, x: net.block(net.block(x)), block=block)).sites == ("block.1", "block.1_2")

    def test_a_name_that_is_taken_is_passed_over(self) -> None:
        net = Net(lambda net, x: net.act_2(net.act(net.linear(net.act(x)))), act=nn.ReLU(), act_2=nn.Linear(4, 4))
        assert sites_of(net).sites == ("act", "act_3")


CALLS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "F.relu": (F.relu, "relu"),
    "F.relu inplace": (lambda x: F.relu(x, inplace=True), "relu"),
    "F.relu inplace by place": (lambda x: F.relu(x, True), "relu"),
    "F.hardtanh by place": (lambda x: F.hardtanh(x, -1.0, 1.0, True), "hardtanh"),
    "F.relu by keyword": (lambda x: F.relu(input=x), "relu"),
    "torch.relu": (torch.relu, "relu"),
    "torch.relu_": (torch.relu_, "relu"),
    "relu()": (lambda x: x.relu(), "relu"),
    "relu_()": (lambda x: x.relu_(), "relu"),
    "F.relu6": (F.relu6, "relu6"),
    "F.hardswish": (F.hardswish, "hardswish"),
    "F.silu": (F.silu, "swish"),
    "F.silu inplace": (lambda x: F.silu(x, inplace=True), "swish"),
    "F.gelu": (F.gelu, "gelu"),
    "F.elu": (F.elu, "elu"),
    "F.tanh": (F.tanh, "tanh"),
    "torch.tanh": (torch.tanh, "tanh"),
    "tanh()": (lambda x: x.tanh(), "tanh"),
    "F.softplus": (F.softplus, "softplus"),
    "F.logsigmoid": (F.logsigmoid, "logsigmoid"),
    "F.selu": (F.selu, "selu"),
    "torch.selu_": (torch.selu_, "selu"),
    "F.hardtanh": (F.hardtanh, "hardtanh"),
    "F.mish": (F.mish, "mish"),
    "F.gelu by tanh": (lambda x: F.gelu(x, approximate="tanh"), "gelu_tanh"),
    "F.elu by place": (lambda x: F.elu(x, 2.0), "elu(2)"),
    "F.elu by keyword": (lambda x: F.elu(x, alpha=2.0, inplace=True), "elu(2)"),
    "F.celu": (F.celu, "celu"),
    "F.softplus by keyword": (lambda x: F.softplus(x, beta=2), "softplus(2, 20)"),
    "F.softplus by place": (lambda x: F.softplus(x, 2), "softplus(2, 20)"),
    "F.hardtanh by keyword": (lambda x: F.hardtanh(x, max_val=2.0), "hardtanh(-1, 2)"),
    "F.leaky_relu": (F.leaky_relu, "leaky_relu"),
    "F.leaky_relu in place": (lambda x: F.leaky_relu_(x, 0.2), "leaky_relu(0.2)"),
}


class TestFunctions:
    @KINDS
    @pytest.mark.parametrize("call", CALLS)
    def test_a_call_that_equals_an_operator_is_a_site(self, call: str, kind: type[Net]) -> None:
        function, operator = CALLS[call]
        sited = sites_of(kind(lambda net, x: function(net.linear(x))))
        assert sited.defaults == (operator,)
        assert len(sited.sites) == 1

    @pytest.mark.parametrize(
        "function",
        [
            torch.sin,
            lambda x: F.softmax(x, 1),
            F.softsign,
            lambda x: F.prelu(x, torch.tensor(0.5)),
            lambda x: F.threshold(x, 0.1, 0.0),
        ],
    )
    @KINDS
    def test_a_call_that_equals_none_is_no_site(self, function: Callable[[Tensor], Tensor], kind: type[Net]) -> None:
        net = kind(lambda net, x: torch.tanh(function(net.linear(x))))
        assert sites_of(net).sites == ("tanh",)

    @KINDS
    def test_functions_of_parameters_are_no_sites(self, kind: type[Net]) -> None:
        scale = nn.Parameter(torch.ones(4))
        net = kind(lambda net, x: F.relu(net.linear(x)) * torch.tanh(net.s) + F.softplus(net.s), s=scale)
        sited = sites_of(net)
        assert sited.sites == ("relu",)
        assert sited.left == ()

    def test_sites_are_named_by_caller_and_function(self) -> None:
        net = Net(lambda net, x: torch.tanh(net.block(F.relu(F.relu(net.linear(x))))), block=Functional())
        sited = sites_of(net)
        assert sited.sites == ("relu", "relu_2", "block.relu", "tanh")
        assert sited.defaults == ("relu", "relu", "relu", "tanh")

    def test_a_block_that_calls_a_function_and_is_applied_twice_has_two_sites(self) -> None:
        sited = sites_of(Net(lambda net, x: net.block(net.block(x)), block=Functional()))
        assert sited.sites == ("block.relu", "block.relu_2")

    def test_a_module_that_has_the_functions_name_stays(self) -> None:
        net = Net(lambda net, x: net.relu(F.relu(net.linear(x))), relu=nn.Linear(4, 4))
        sited = sites_of(net)
        assert sited.sites == ("relu_2",)
        assert isinstance(sited.module.get_submodule("relu"), nn.Linear)

    def test_an_activation_that_has_the_functions_name_is_a_site_of_its_own(self) -> None:
        net = Net(lambda net, x: net.relu_2(net.relu(F.relu(x))), relu=nn.Linear(4, 4), relu_2=nn.Tanh())
        sited = sites_of(net)
        assert sited.sites == ("relu_3", "relu_2")
        assert sited.defaults == ("relu", "tanh")

    def test_a_parameter_that_has_the_functions_name_stays(self) -> None:
        net = Net(lambda net, x: F.relu(net.linear(x)) * net.relu, relu=nn.Parameter(torch.full((4,), 2.0)))
        assert len(sites_of(net).sites) == 1

    def test_a_block_of_functions_alone_has_sites(self) -> None:
        class Twice(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.tanh(x.relu())

        assert sites_of(Net(activation("block"), block=Twice())).sites == ("block.relu", "block.tanh")


class TestInPlace:
    def test_a_value_read_after_it_was_activated_in_place_is_the_activated_one(self) -> None:
        def forward(net: Any, x: Tensor) -> Tensor:
            y: Tensor = net.linear(x)
            activated: Tensor = net.act(y)
            return activated + y

        assert sites_of(Net(forward, act=nn.ReLU(inplace=True))).sites == ("act",)

    def test_an_activation_in_place_counts_where_its_result_is_not_used(self) -> None:
        def forward(net: Any, x: Tensor) -> Tensor:
            y: Tensor = net.linear(x)
            F.relu(y, inplace=True)
            return y

        assert sites_of(Net(forward)).sites == ("relu",)

    def test_a_module_applied_twice_in_place_means_its_output_both_times(self) -> None:
        def forward(net: Any, x: Tensor) -> Tensor:
            y: Tensor = net.linear(x)
            z = y - 0.5
            net.act(y)
            activated: Tensor = net.act(z)
            return activated + y + z

        assert sites_of(Net(forward, act=nn.ReLU(inplace=True))).sites == ("act", "act_2")


class TestUntraceable:
    def test_modules_are_sites_in_the_order_of_execution(self) -> None:
        net = Untraceable(lambda net, x: net.a(net.linear(net.b(x))), a=nn.ReLU(), b=nn.Tanh(), unused=nn.SiLU())
        sited = sites_of(net)
        assert isinstance(sited.module, Untraceable)
        assert (sited.sites, sited.defaults) == (("b", "a"), ("tanh", "relu"))

    def test_a_module_applied_twice_is_two_sites(self) -> None:
        net = Untraceable(lambda net, x: net.inner[1](net.inner(x)), inner=nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
        sited = sites_of(net)
        assert sited.sites == ("inner.1.1", "inner.1.2")
        installed = sited.install([OPERATORS["tanh"], OPERATORS["elu"]])
        with torch.no_grad():
            for _ in range(2):
                expected = F.elu(torch.tanh(net.inner[0](example())))  # type: ignore[index,operator]
                assert torch.equal(installed(example()), expected)

    def test_a_module_applied_by_its_other_name_is_a_site(self) -> None:
        shared = nn.ReLU()
        net = Untraceable(activation("b"), a=shared, b=shared)
        installed = sites_of(net).install([OPERATORS["tanh"]])
        assert torch.equal(installed(example()), torch.tanh(net.linear(example())))

    def test_functions_are_sites_and_are_told_why(self) -> None:
        net = Untraceable(lambda net, x: net.block(torch.tanh(F.relu(net.linear(x)))), block=Functional())
        sited = sites_of(net)
        assert sited.sites == ("relu", "tanh", "block.relu")
        assert sited.untraced is not None
        assert re.fullmatch(r"symbolically traced .* control flow, at .*test_activations\.py:\d+", sited.untraced)
        installed = sited.install([OPERATORS[name] for name in ("cos", "elu", "sin")])
        with torch.no_grad():
            expected = torch.sin(net.block.linear(F.elu(torch.cos(net.linear(example())))))  # type: ignore[operator,union-attr]
            assert torch.equal(installed(example()), expected)

    def test_a_function_applied_twice_in_a_block_that_is_applied_twice_is_four_sites(self) -> None:
        class Twice(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return F.relu(F.relu(x) - 1)

        net = Untraceable(lambda net, x: net.block(net.linear(net.block(x))), block=Twice())
        sited = sites_of(net)
        assert sited.sites == ("block.relu", "block.relu_2", "block.relu_3", "block.relu_4")
        copied = copy.deepcopy(sited.install([OPERATORS[name] for name in ("cos", "elu", "sin", "tanh")]))
        with torch.no_grad():
            hidden = net.linear(F.elu(torch.cos(example()) - 1))
            assert torch.equal(copied(example()), torch.tanh(torch.sin(hidden) - 1))

    def test_a_value_read_after_it_was_activated_in_place_is_the_activated_one(self) -> None:
        def forward(net: Any, x: Tensor) -> Tensor:
            y: Tensor = net.linear(x)
            net.act(y)
            z = net.linear(y)
            F.relu(z, inplace=True)
            return y + z

        net = Untraceable(forward, act=nn.ReLU(inplace=True))
        installed = sites_of(net).install([OPERATORS["tanh"], OPERATORS["cos"]])
        with torch.no_grad():
            first = torch.tanh(net.linear(example()))
            assert torch.equal(installed(example()), first + torch.cos(net.linear(first)))

    def test_an_application_that_comes_later_is_warned_of(self, caplog: pytest.LogCaptureFixture) -> None:
        net = Untraceable(lambda net, x: torch.tanh(F.relu(net.linear(x))) if (x > 9).any() else F.relu(net.linear(x)))
        installed = find_sites(net, example()).install([OPERATORS["cos"]])
        with torch.no_grad():
            for _ in range(2):
                assert torch.equal(installed(example() + 10), torch.tanh(torch.cos(net.linear(example() + 10))))
        assert [record.getMessage() for record in caplog.records] == [
            "tanh is applied in the network now and was not when the sites were found: it stays as it is"
        ]

    def test_a_network_that_differs_in_training_runs_its_own_code(self) -> None:
        net = Net(lambda net, x: net.act(net.linear(x)) * (2 if net.training else 1), act=nn.ReLU())
        sited = sites_of(net)
        assert isinstance(sited.module, Net)
        assert sited.untraced == "it does something else in training than in evaluation"
        installed = sited.install([OPERATORS["tanh"]])
        with torch.no_grad():
            assert torch.equal(installed.train()(example()), 2 * installed.eval()(example()))

    @KINDS
    def test_dropout_by_a_function_is_left_out(self, kind: type[Net]) -> None:
        net = kind(lambda net, x: F.dropout(net.act(net.linear(x)), training=net.training), act=nn.ReLU()).train()
        sited = find_sites(net, example())
        assert (sited.untraced is None) == (kind is Net)
        installed = sited.install([OPERATORS["relu"]])
        with torch.no_grad():
            assert torch.equal(installed.train()(example()), F.relu(net.linear(example())))

    def test_a_network_that_skips_gradients_runs_its_own_code(self) -> None:
        """Its graph would not, and train what is to stay."""

        def forward(net: Any, x: Tensor) -> Tensor:
            with torch.no_grad():
                y = torch.tanh(net.linear(x))
            output: Tensor = net.act(net.other(y))
            return output

        sited = find_sites(Net(forward, act=nn.ReLU(), other=nn.Linear(4, 4)), example())
        assert sited.sites == ("tanh", "act")
        assert "it switches gradients off and on, at " in str(sited.untraced)
        sited.install([OPERATORS["tanh"], OPERATORS["relu"]])(example()).sum().backward()
        assert sited.module.get_parameter("linear.weight").grad is None
        assert sited.module.get_parameter("other.weight").grad is not None

    def test_statistics_of_the_original_are_not_touched(self) -> None:
        net = Untraceable(lambda net, x: net.act(net.norm(x)), norm=nn.BatchNorm1d(4), act=nn.ReLU()).train()
        sited = find_sites(net, example())
        for module in (net, sited.module):
            assert module.get_buffer("norm.num_batches_tracked") == 0
            assert module.get_buffer("norm.running_mean").tolist() == [0] * 4


class TestSited:
    @KINDS
    def test_a_network_without_activation_is_refused(self, kind: type[Net]) -> None:
        with pytest.raises(ConfigurationError) as refused:
            find_sites(kind(lambda net, x: torch.sigmoid(net.linear(x))), example())
        assert str(refused.value) == f"model: {kind.__name__} applies no activation that can be searched"

    @pytest.mark.parametrize("training", [True, False])
    @KINDS
    def test_training_flag_stays_and_is_passed_on(self, kind: type[Net], training: bool) -> None:
        net = kind(activation("act"), act=nn.ReLU()).train(training)
        sited = find_sites(net, example())
        for module in (net, sited.module):
            assert module.training is training
            assert module.get_submodule("linear").training is training

    @KINDS
    def test_training_flags_of_submodules_stay(self, kind: type[Net]) -> None:
        net = kind(lambda net, x: net.act(net.norm(x)), norm=nn.BatchNorm1d(4), act=nn.ReLU()).train()
        net.get_submodule("norm").eval()
        find_sites(net, example())
        assert net.training
        assert not net.get_submodule("norm").training

    @KINDS
    def test_installed_operators_are_applied_at_their_sites(self, kind: type[Net]) -> None:
        net = kind(lambda net, x: net.b(net.linear(net.a(net.linear(x)))), a=nn.ReLU(), b=nn.ReLU())
        expected = F.gelu(net.linear(torch.tanh(net.linear(example()))))
        before = net(example())
        installed = find_sites(net, example()).install([OPERATORS["tanh"], OPERATORS["gelu"]])
        assert torch.equal(installed(example()), expected)
        assert torch.equal(net(example()), before)
        assert {name for name, _ in installed.named_parameters()} == {
            "linear.weight", "linear.bias", "a.alpha", "a.beta", "b.alpha", "b.beta",
        }  # fmt: skip

    @KINDS
    def test_operators_can_be_installed_again(self, kind: type[Net]) -> None:
        sited = find_sites(kind(activation("act"), act=nn.ReLU()), example())
        sited.install([OPERATORS["acon"]])
        installed = sited.install([OPERATORS["tanh"]])
        assert torch.equal(installed(example()), torch.tanh(installed.get_submodule("linear")(example())))
        assert {name for name in installed.state_dict() if name.startswith("act.")} == {"act.alpha", "act.beta"}

    def test_one_operator_for_each_site_is_needed(self) -> None:
        sited = find_sites(Net(activation("act"), act=nn.ReLU()), example())
        for operators in ([], [OPERATORS["relu"]] * 2):
            with pytest.raises(ValueError, match="argument 2 is"):
                sited.install(operators)

    @KINDS
    def test_weights_are_those_of_the_original_and_not_shared_with_it(self, kind: type[Net]) -> None:
        net = kind(activation("act"), act=nn.ReLU())
        found = find_sites(net, example()).module.get_parameter("linear.weight")
        assert torch.equal(found, net.linear.weight)
        assert found.data_ptr() != net.linear.weight.data_ptr()

    def test_weights_and_scales_are_learned(self) -> None:
        sited = find_sites(Net(activation("act"), act=nn.ReLU()), example())
        installed = sited.install([OPERATORS["srs"]])
        installed(example()).sum().backward()
        for name, parameter in installed.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


class TestChannelGroups:
    @pytest.mark.parametrize("shape", [(3, 5), (3, 5, 2, 4)])
    def test_each_block_of_channels_has_its_activation(self, shape: tuple[int, ...]) -> None:
        groups = ChannelGroups()
        for place, name in enumerate(("relu", "tanh")):
            groups.add_module(str(place), ScaledActivation(OPERATORS[name]))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        found = groups(x)
        assert torch.equal(found[:, :3], torch.relu(x[:, :3])), "five channels are blocks of three and two"
        torch.testing.assert_close(found[:, 3:], torch.tanh(x[:, 3:]))

    @KINDS
    def test_grouped_sites_lie_where_the_site_was(self, kind: type[Net]) -> None:
        net = kind(lambda net, x: net.b(net.linear(net.a(net.linear(x)))), a=nn.ReLU(), b=nn.Tanh())
        sited = find_sites(net, example()).grouped(2)
        assert sited.sites == ("a.0", "a.1", "b.0", "b.1")
        assert sited.defaults == ("relu", "relu", "tanh", "tanh")
        installed = sited.install([OPERATORS[name] for name in ("relu", "linear", "hardtanh", "relu")])
        inner = net.linear(example())
        outer = net.linear(torch.cat([inner[:, :2].relu(), inner[:, 2:]], 1))
        expected = torch.cat([F.hardtanh(outer[:, :2]), outer[:, 2:].relu()], 1)
        assert torch.equal(installed(example()), expected)
        scales = {name for name, _ in installed.named_parameters()} - {"linear.weight", "linear.bias"}
        assert scales == {f"{site}.{scale}" for site in sited.sites for scale in ("alpha", "beta")}


def test_shapes_of_what_sites_take() -> None:
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 7), nn.BatchNorm1d(7), nn.Tanh())
    shapes = input_shapes(module.train(), ["1", "5"], torch.zeros(2, 1, 4, 4))
    assert shapes == {"1": (2, 6, 2, 2), "5": (2, 7)}
    assert module.training
    assert module.get_buffer("4.num_batches_tracked") == 0
    assert not any(child._forward_pre_hooks for child in module)


class TestArchitectures:
    """The networks of the package, built for small images."""

    @staticmethod
    def built(model: str, size: int, channels: int = 1) -> tuple[nn.Module, Tensor]:
        specification = Specification(model, (channels, size, size), 10, (0.5,) * channels, (0.25,) * channels)
        images = torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(0))
        return build(specification, seed=0), images

    def test_lenet5_has_four_sites(self) -> None:
        sited = sites_of(*self.built("lenet5", 28))
        assert sited.sites == ("act1", "act2", "act3", "act4")
        assert sited.defaults == ("relu",) * 4

    def test_mlp_has_two_sites(self) -> None:
        assert sites_of(*self.built("mlp", 8)).sites == ("act1", "act2")

    def test_resnet18_has_seventeen_sites(self) -> None:
        sited = sites_of(*self.built("resnet18", 32, 3))
        blocks = [f"layer{layer}.{block}.relu" for layer in (1, 2, 3, 4) for block in (0, 1)]
        assert sited.sites == ("relu", *(f"{block}{suffix}" for block in blocks for suffix in ("", "_2")))
        assert sited.defaults == ("relu",) * 17

    def test_vgg16_has_fifteen_sites(self) -> None:
        module, images = self.built("vgg16", 32, 3)
        relus = tuple(path for path, child in module.named_modules() if isinstance(child, nn.ReLU))
        sited = sites_of(module, images)
        assert sited.sites == relus
        assert len(relus) == 15
        assert relus[:2] == ("features.2", "features.5")
        assert relus[-2:] == ("classifier.act1", "classifier.act2")

    @pytest.mark.parametrize(("model", "count"), [("vgg16", 15), ("resnet18", 17)])
    def test_networks_for_large_images_have_as_many_sites(self, model: str, count: int) -> None:
        with torch.device("meta"):
            module = build(Specification(model, (1, 64, 64), 10, (0.5,), (0.25,)), seed=0)
            assert len(find_sites(module, torch.zeros(1, 1, 64, 64)).sites) == count


class TestExclusion:
    @KINDS
    def test_what_matches_a_pattern_stays_as_it_is(self, kind: type[Net]) -> None:
        net = kind(lambda net, x: net.b(net.linear(net.a(x))), a=nn.Tanh(), b=nn.ReLU())
        sited = find_sites(net, example(), ["a*"])
        assert (sited.sites, sited.defaults, sited.excluded) == (("b",), ("relu",), ("a",))
        installed = sited.install([OPERATORS["tanh"]])
        assert isinstance(installed.get_submodule("a"), nn.Tanh)
        with torch.no_grad():
            assert torch.equal(installed(example()), torch.tanh(net.linear(torch.tanh(example()))))

    @pytest.mark.parametrize(("pattern", "kept"), [("act", ("act_2", "act_3")), ("act_2", ("act", "act_3"))])
    def test_each_application_of_a_module_is_named_alone(self, pattern: str, kept: tuple[str, ...]) -> None:
        net = Net(lambda net, x: net.act(net.linear(net.act(net.linear(net.act(x))))), act=nn.ReLU())
        sited = find_sites(net, example(), [pattern])
        assert (sited.sites, sited.excluded) == (kept, (pattern,))
        installed = sited.install([OPERATORS["tanh"]] * 2)

        def apply(name: str, x: Tensor) -> Tensor:
            return torch.relu(x) if name == pattern else torch.tanh(x)

        with torch.no_grad():
            x = net.linear(apply("act", example()))
            x = net.linear(apply("act_2", x))
            assert torch.equal(installed(example()), apply("act_3", x))
            assert torch.equal(net(example()), F.relu(net.linear(F.relu(net.linear(F.relu(example()))))))

    def test_functions_are_excluded_by_their_names(self) -> None:
        net = Net(lambda net, x: torch.tanh(F.relu(net.linear(F.relu(x)))))
        sited = find_sites(net, example(), ["relu_2", "tanh"])
        assert (sited.sites, sited.excluded) == (("relu",), ("relu_2", "tanh"))
        with torch.no_grad():
            expected = net(example())
            assert torch.equal(sited.install([OPERATORS["relu"]])(example()), expected)

    @KINDS
    def test_a_pattern_that_matches_nothing_is_refused_with_the_sites(self, kind: type[Net]) -> None:
        net = kind(lambda net, x: net.b(net.linear(net.a(x))), a=nn.Tanh(), b=nn.ReLU())
        with pytest.raises(ConfigurationError) as refused:
            find_sites(net, example(), ["a", "gate*"])
        assert str(refused.value) == "model.exclude=gate*: matches nothing; the sites are b"

    @KINDS
    def test_to_exclude_all_is_refused(self, kind: type[Net]) -> None:
        with pytest.raises(ConfigurationError, match="applies no activation that can be searched"):
            find_sites(kind(activation("act"), act=nn.ReLU()), example(), ["*"])


class OwnNorm(nn.Module):
    """Batch normalisation by hand, whose code changes its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(4, 4), nn.ReLU()
        self.register_buffer("mean", torch.ones(4))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        self.get_buffer("mean").mul_(0.9).add_(0.1 * x.detach().mean(0))
        self.get_buffer("seen").add_(1)
        output: Tensor = self.act(x - self.get_buffer("mean"))
        return output


class TestBuffers:
    def test_those_of_the_original_stay_and_those_of_the_copy_follow_what_it_sees(self) -> None:
        net = OwnNorm()
        sited = find_sites(net, example())
        assert net.get_buffer("mean").tolist() == [1.0] * 4
        assert net.get_buffer("seen") == 0
        installed = sited.install([OPERATORS["relu"]])
        assert installed.get_buffer("seen") == 0
        with torch.no_grad():
            for _ in range(3):
                assert torch.equal(installed(example()), net(example()))
        assert torch.equal(installed.get_buffer("mean"), net.get_buffer("mean"))
        assert installed.get_buffer("seen") == net.get_buffer("seen") == 3


class TestComparison:
    def test_a_graph_that_computes_something_else_is_not_taken(self) -> None:
        """torch.fx does not see that the code counts."""

        def forward(net: Any, x: Tensor) -> Tensor:
            net.calls += 1
            output: Tensor = net.act(net.linear(x)) + net.calls
            return output

        net = Net(forward, act=nn.ReLU())
        net.calls = 0  # type: ignore[assignment]
        sited = find_sites(net, example())
        assert sited.untraced is not None
        assert net.calls == 0

    def test_a_network_that_computes_something_else_by_its_own_code_is_refused(self) -> None:
        def forward(net: Any, x: Tensor) -> Tensor:
            activated: Tensor = net.act(net.linear(x))
            return activated if isinstance(net.act, nn.ReLU) else 2 * activated

        with pytest.raises(ConfigurationError) as refused:
            find_sites(Untraceable(forward, act=nn.ReLU()), example())
        assert str(refused.value).startswith(
            "model: Untraceable computes something else once its activations are replaced by themselves: "
            "outputs in training differ by "
        )

    def test_activations_within_a_layer_are_not_overlooked(self) -> None:
        class Activated(nn.BatchNorm1d):
            def __init__(self) -> None:
                super().__init__(4)
                self.act = nn.ReLU()

            def forward(self, x: Tensor) -> Tensor:
                output: Tensor = self.act(super().forward(x))
                return output

        class Hidden(nn.Linear):
            def forward(self, x: Tensor) -> Tensor:
                return F.relu(super().forward(x))

        sited = sites_of(nn.Sequential(Hidden(4, 4), Activated(), nn.Tanh()))
        assert sited.sites == ("0.relu", "1.act", "2")
        assert sited.untraced is not None


class Categories(nn.Module):
    """Of three numbers the first is one of four categories; places have embeddings, too, whatever the numbers are."""

    def __init__(self) -> None:
        super().__init__()
        self.category, self.place = nn.Embedding(4, 5), nn.Embedding(2, 5)
        self.of_category, self.of_place, self.together = nn.Tanh(), nn.ReLU(), nn.SiLU()
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.of_category(self.category(x[:, 0].long())) + self.of_place(self.place(torch.arange(2))).sum(0)
        logits: Tensor = self.head(self.together(rows * x[:, 1:].sum(1, keepdim=True)))
        return logits


class Signs(nn.Module):
    """Nothing but whether its numbers are positive counts, by an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.sign, self.act, self.head = nn.Embedding(2, 5), nn.ReLU(), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.act(self.sign((x > 0).long())).sum(1))
        return logits


CHOOSING: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "embedding": lambda net, index: net.rows(index),
    "by keyword": lambda net, index: net.rows(input=index),
    "function": lambda net, index: F.embedding(index, net.rows.weight),
    "index": lambda net, index: net.rows.weight[index],
    "index_select": lambda net, index: net.rows.weight.index_select(0, index),
    "gather": lambda net, index: net.rows.weight.gather(0, index[:, None].expand(-1, 5)),
    "one_hot": lambda net, index: F.one_hot(index, 4).float() @ net.rows.weight,
    "comparison": lambda net, index: (index[:, None] == torch.arange(4)).float() @ net.rows.weight,
}
"""Ways to choose rows of five numbers by indices from 0 to 3."""


@pytest.mark.parametrize("way", CHOOSING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
@pytest.mark.parametrize(("columns", "column"), [(3, 1), (3, 2), (5, 0), (8, 4)])
def test_find_sites_sees_what_is_chosen_by_numbers_of_the_input(
    way: str, dtype: torch.dtype, columns: int, column: int
) -> None:
    def forward(net: Any, x: Tensor) -> Tensor:
        chosen = net.first(CHOOSING[way](net, x[:, column].long()))
        logits: Tensor = net.head(net.second(chosen + x.float().sum(1, keepdim=True)))
        return logits

    layers = {"rows": nn.Embedding(4, 5), "first": nn.Tanh(), "second": nn.ReLU(), "head": nn.Linear(5, 2)}
    assert find_sites(Net(forward, **layers), torch.zeros(2, columns, dtype=dtype)).sites == ("first", "second")


def test_find_sites_leaves_alone_what_depends_on_places_alone() -> None:
    assert find_sites(Categories(), torch.zeros(2, 3)).sites == ("of_category", "together")
    assert find_sites(Signs(), torch.zeros(2, 3)).sites == ("act",)


def test_find_sites_leaves_counters_as_they_are() -> None:
    """A buffer that is changed in place by what depends on the input must not become part of a graph."""

    def forward(net: Any, x: Tensor) -> Tensor:
        net.counts.index_add_(0, (x[:, 0] > 0).long(), torch.ones(len(x)))
        logits: Tensor = net.head(net.act(x))
        return logits

    net = Net(forward, act=nn.ReLU(), head=nn.Linear(4, 2))
    net.register_buffer("counts", torch.zeros(2))
    assert find_sites(net, torch.zeros(2, 4)).sites == ("act",)
    assert net.get_buffer("counts").tolist() == [0, 0]
