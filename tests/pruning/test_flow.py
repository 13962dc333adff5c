from __future__ import annotations

import itertools
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from safs_ray.models import ARCHITECTURES, Specification
from safs_ray.network import Network
from safs_ray.pruning.flow import Survey, reach, survey
from safs_ray.pruning.linear import linearised


def chain(*sizes: int) -> nn.Sequential:
    """Linear layers fc1, fc2 … with tanh between them; the weights are of both signs, the biases not zero."""
    named: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
        named[f"fc{index}"] = nn.Linear(inputs, outputs)
        named[f"act{index}"] = nn.Tanh()
    named.popitem()
    return nn.Sequential(named)


def surveyed(masks: dict[str, list[list[int]]]) -> Survey:
    """Of a network of two inputs, two hidden neurons and three outputs."""
    return survey(chain(2, 2, 3), {name: torch.tensor(mask).bool() for name, mask in masks.items()}, torch.zeros(1, 2))


def test_a_path_by_hand() -> None:
    """Only hidden neuron 0 hears an input, and only output 2 hears it; output 0 hears neuron 1, which is deaf."""
    found = surveyed({"fc1.weight": [[0, 1], [0, 0]], "fc2.weight": [[0, 1], [0, 0], [1, 1]]})
    assert found == Survey(
        kept={"fc1.weight": 1, "fc2.weight": 3}, of={"fc1.weight": 4, "fc2.weight": 6}, reached=1, outputs=3
    )
    assert found.emptied == ()
    assert found.warning is None
    assert found.summary == (
        "4 of 10 weights are left, least in fc1.weight (1 of 4); 1 of 3 outputs can still be reached from the inputs"
    )


def test_the_channels_that_are_reached_by_hand() -> None:
    masks = {"fc1.weight": [[0, 1], [0, 0]], "fc2.weight": [[0, 1], [0, 0], [1, 1]]}
    found = reach(chain(2, 2, 3), {name: torch.tensor(mask).bool() for name, mask in masks.items()}, torch.zeros(1, 2))
    assert {name: channels.tolist() for name, channels in found.channels.items()} == {
        "fc1.weight": [True, False],
        "fc2.weight": [False, False, True],
    }
    assert found.outputs.tolist() == [False, False, True]


def test_channels_of_a_convolution_are_reached_whole() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(8, 2))
    first = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    first[1, 0, 0, 0] = True  # sees something only at the pixel below and right of another
    second = torch.zeros(2, 8, dtype=torch.bool)
    second[0, 4:7] = True  # but this output reads the three others
    found = reach(module, {"0.weight": first, "2.weight": second}, torch.zeros(1, 1, 2, 2))
    assert found.channels["0.weight"].tolist() == [False, True]
    assert found.outputs.tolist() == [False, False]


def test_an_emptied_layer_is_named_with_what_can_still_be_reached() -> None:
    found = surveyed({"fc1.weight": [[0, 0], [0, 0]], "fc2.weight": [[1, 1], [1, 1], [1, 1]]})
    assert found.emptied == ("fc1.weight",)
    assert found.warning == ("pruning has emptied fc1.weight; 0 of 3 outputs can still be reached from the inputs")


def test_an_emptied_layer_may_be_passed_by() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.last = nn.Linear(2, 2), nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.last(x + self.inside(x))
            return output

    found = survey(Residual(), {"inside.weight": torch.zeros(2, 2).bool()}, torch.zeros(1, 2))
    assert found.emptied == ("inside.weight",)
    assert found.reached == 3


def test_a_weight_counts_by_its_mask_whatever_its_value_and_signs_do_not_cancel() -> None:
    module = chain(2, 1, 1)
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1e-30, -1e-30]]))
        module[2].weight.fill_(-1e-30)
    assert survey(module, {}, torch.zeros(1, 2)).reached == 1
    with torch.no_grad():
        module[0].weight.zero_()  # as a weight that RigL has just grown
    assert survey(module, {}, torch.zeros(1, 2)).reached == 1


def test_depth_neither_overflows_nor_underflows() -> None:
    assert survey(chain(*[40] * 250, 3), {}, torch.zeros(1, 40)).reached == 3
    masks = {f"fc{index}.weight": torch.eye(40).bool() for index in range(1, 250)}
    assert survey(chain(*[40] * 250, 3), masks, torch.zeros(1, 40)).reached == 3


def test_the_module_is_left_as_it_is() -> None:
    module = chain(2, 2, 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    survey(module, {"fc1.weight": torch.zeros(2, 2).bool()}, torch.zeros(1, 2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module.training
    assert not module[0]._forward_hooks


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.05, 0.6))
def test_reached_are_the_outputs_with_a_path_in_the_graph(seed: int, density: float) -> None:
    draws = torch.Generator().manual_seed(seed)
    sizes = [3, 4, 4, 5]
    masks = {
        f"fc{index}.weight": torch.rand((outputs, inputs), generator=draws) < density
        for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1)
    }
    reached = set(range(3))
    for mask in masks.values():
        reached = {row for row in range(len(mask)) if any(mask[row, column] for column in reached)}
    assert survey(chain(*sizes), masks, torch.zeros(1, 3)).reached == len(reached)


def test_a_linearised_module_only_adds() -> None:
    module = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.LayerNorm(2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[-3.0], [4.0]]))
        module[3].running_var.fill_(1 - module[3].eps)  # type: ignore[union-attr,operator]
        module[3].running_mean.fill_(50)  # type: ignore[union-attr,operator]
        module[4].weight.copy_(torch.tensor([[2.0, -1.0]]))
    linear = linearised(module, sites=("1",))
    assert linear(torch.ones(1, 1, dtype=torch.float64)).item() == pytest.approx(10, rel=1e-7)
    assert linear(2 * torch.ones(1, 1, dtype=torch.float64)).item() == pytest.approx(20, rel=1e-7)


def test_buffers_that_are_no_weights_are_left_alone() -> None:
    class Masked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 3)
            self.register_buffer("visible", torch.tensor([True, False, True]))
            self.register_buffer("places", torch.tensor([-1, 2]))

    linear = linearised(Masked(), sites=())
    assert linear.module.get_buffer("visible").tolist() == [True, False, True]
    assert linear.module.get_buffer("places").tolist() == [-1, 2]
    assert survey(Masked(), {}, torch.zeros(1, 2)).reached == 3


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_output_of_every_dense_network_can_be_reached(name: str) -> None:
    channels, size = (1, 28) if name == "lenet5" else (3, 32)
    network = Network.initial(
        Specification(name, (channels, size, size), 10, (0.5,) * channels, (0.5,) * channels), seed=0
    )
    assert network.survey.reached == network.survey.outputs == 10


class HandWritten(nn.Module):
    """Normalises by the mean and deviation of each image's own values."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt()


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


NORMALISING: dict[str, Callable[[], nn.Module]] = {
    "layer norm": lambda: nn.LayerNorm(4),
    "functional layer norm": lambda: Called(lambda x: F.layer_norm(x, (4,))),
    "layer norm by hand": HandWritten,
    "rms norm": lambda: nn.RMSNorm(4),
    "batch norm without statistics": lambda: nn.BatchNorm1d(4, track_running_stats=False),
    "batch norm": lambda: nn.BatchNorm1d(4),
    "scale of 1e-6": lambda: Called(lambda x: 1e-6 * x),
}
ENDING: dict[str, Callable[[], nn.Module]] = {
    "logits": nn.Identity,
    "softmax": lambda: nn.Softmax(1),
    "functional softmax": lambda: Called(lambda x: F.softmax(x, -1)),
    "log_softmax": lambda: nn.LogSoftmax(1),
    "softmax as a method": lambda: Called(lambda x: x.softmax(1)),
}


@pytest.mark.parametrize("ending", ENDING)
@pytest.mark.parametrize("normalising", NORMALISING)
def test_outputs_are_reached_through_normalisations_and_before_a_softmax(normalising: str, ending: str) -> None:
    network = nn.Sequential(nn.Linear(3, 4), NORMALISING[normalising](), nn.ReLU(), nn.Linear(4, 5), ENDING[ending]())
    assert survey(network, {}, torch.zeros(2, 3)).reached == 5
    read = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]).bool()
    assert survey(network, {"3.weight": read}, torch.zeros(2, 3)).reached == 3
    heard = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]).bool()
    mixing = "layer norm" in normalising or normalising == "rms norm"  # where one value changes, all do
    assert survey(network, {"0.weight": heard, "3.weight": read}, torch.zeros(2, 3)).reached == (3 if mixing else 2)
    nothing = torch.zeros(4, 3).bool()
    assert survey(network, {"0.weight": nothing}, torch.zeros(2, 3)).reached == 0


def test_outputs_are_reached_through_gates_and_poolings() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gate, self.head = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(2, 2), nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.max_pool2d(self.conv(x).relu(), 2)
            gate = torch.sigmoid(self.gate(x.mean((2, 3))))
            logits: Tensor = self.head((x * gate[:, :, None, None]).amax((2, 3)))
            return logits

    def reached(**masks: Tensor) -> int | None:
        return survey(Gated(), {f"{name}.weight": mask.bool() for name, mask in masks.items()}, zeros).reached

    zeros, first = torch.zeros(1, 1, 4, 4), torch.zeros(2, 1, 3, 3)
    first[0, 0, 1, 1] = 1
    rows = torch.tensor([[1, 0], [0, 1], [0, 1]])
    assert reached() == 3
    assert reached(gate=torch.zeros(2, 2)) == 3, "an emptied gate is half open"
    assert reached(conv=first, head=rows, gate=torch.zeros(2, 2)) == 1
    assert reached(conv=first, head=rows) == 3, "the gate of the other channel hears the first"


def test_what_is_reached_is_not_known_where_nothing_has_a_derivative() -> None:
    network = nn.Sequential(nn.Linear(3, 4), Called(torch.sign), nn.Linear(4, 5))
    found = survey(network, {"0.weight": torch.ones(4, 3).bool()}, torch.zeros(2, 3))
    assert found.reached is None
    assert found.outputs == 5
    assert found.summary.endswith("; how many of the 5 outputs can still be reached from the inputs is not known")


def test_what_is_reached_is_not_known_where_not_even_all_weights_reach_an_output() -> None:
    constant = Called(lambda x: torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1))
    network = nn.Sequential(nn.Linear(3, 4), constant)
    assert survey(network, {}, torch.zeros(2, 3)).reached is None


def test_a_network_that_makes_tensors_of_its_own_type_is_known() -> None:
    network = nn.Sequential(nn.Linear(3, 4), Called(lambda x: x @ torch.ones(4, 5)))
    assert survey(network, {}, torch.zeros(2, 3)).reached == 5


def test_a_network_whose_operation_has_no_derivative_is_not_known() -> None:
    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
            return 2 * x

    network = nn.Sequential(nn.Linear(3, 4), Called(lambda x: Doubled.apply(x)))
    assert survey(network, {}, torch.zeros(2, 3)).reached is None


def test_the_environment_stays() -> None:
    before = dict(os.environ)
    survey(chain(2, 2, 3), {}, torch.zeros(1, 2))
    assert dict(os.environ) == before


class Reading(nn.Module):
    """Reads the biases of its layers outside of their calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu() + self.first.bias
        logits: Tensor = nn.functional.linear(hidden, self.second.weight) + self.second.bias
        return logits + self.second(hidden) if self.second.bias is not None else logits


def test_reach_leaves_biases_to_those_who_read_them() -> None:
    module = Reading()
    masks = {"first.weight": torch.ones(5, 6, dtype=torch.bool), "second.weight": torch.ones(3, 5, dtype=torch.bool)}
    masks["second.weight"][1] = False
    found = reach(module, masks, torch.zeros(2, 6))
    assert found.outputs is not None
    assert found.outputs.tolist() == [True, False, True]
    assert module.first.bias is not None
