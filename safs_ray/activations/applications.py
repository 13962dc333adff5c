"""The activations that a network applies, seen as it runs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from safs_ray.activations.calls import Calls, Place
from safs_ray.activations.kinds import FUNCTIONS, GATES, operator_of, operator_of_call
from safs_ray.randomness import generator

_FACTORS = ("mul", "imul", "rmul")
_DATA = Tensor.data.__get__  # type: ignore[attr-defined]


@dataclass
class Application:
    """A place where a network applies an activation.

    Attributes:
        operator: that it equals; None for one that is left as it is.
        of_module: whether an activation module of torch.nn applies it, which lies at ``place.path``.
        in_place: whether the input becomes the output.
    """

    place: Place
    operator: str | None
    of_module: bool
    in_place: bool

    @property
    def words(self) -> str:
        """Where it is, and what."""
        path = self.place.path
        return f"{path} ({self.place.function})" if path else self.place.function


@dataclass(frozen=True)
class Recording:
    """What a network did with a batch in training, and with the same batch in evaluation.

    Attributes:
        inputs: the batch.
        applications: the activations of what depends on the input, in the order of execution; those of training first.
        outputs: of training and of evaluation.
        buffers: by name, as they were at the end.
    """

    inputs: Tensor
    applications: tuple[Application, ...]
    outputs: tuple[Any, Any]
    buffers: Mapping[str, Tensor]


def record(module: nn.Module, example: Tensor) -> Recording:
    """Run a copy of a module, without dropout, on random numbers, and write down what it does.

    Args:
        example: of the shape of a batch (N, C, H, W) that the network accepts.
    """
    indices = torch.randint(2, example.shape, generator=generator(0, "noise")).to(example)
    if not example.is_floating_point():
        return _recorded(module, example, indices)
    normal = torch.randn(example.shape, generator=generator(0, "noise"), device="cpu").to(example)
    try:
        return _recorded(module, example, normal)
    except Exception:  # a user's network may take some of the numbers for indices
        return _recorded(module, example, indices)


def _recorded(module: nn.Module, example: Tensor, inputs: Tensor) -> Recording:
    network = copy.deepcopy(module).requires_grad_(False)
    seen: dict[Place, Application] = {}
    training = _outputs(network.train(), inputs, seen)
    evaluation = _outputs(network.eval(), inputs, seen)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    _outputs(network, example, seen)  # on which a network may do something else
    return Recording(inputs, tuple(seen.values()), (training, evaluation), buffers)


def _outputs(network: nn.Module, inputs: Tensor, seen: dict[Place, Application]) -> Any:
    """What the network gives for a batch; adds the activations that it applies and that were not seen yet."""
    with torch.enable_grad(), _Recorder(network) as recorder:
        batch = inputs.detach()
        batch = (batch.requires_grad_() if batch.is_floating_point() else batch).clone()  # it may be changed in place
        recorder.follow(batch)
        outputs = network(batch)
    recorder.is_gate(outputs)  # what the network ends with is none of its activations
    for application in recorder.applications:
        seen.setdefault(application.place, application)
    return outputs


class _Recorder(Calls):
    """Writes down every application to what has a gradient, as all has that depends on the input.

    Indices have none. So it remembers those that depend on the input, and gives one to what is chosen by them.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.applications: list[Application] = []
        self._gates: dict[int, tuple[Tensor, Application]] = {}
        self._indices: dict[int, Tensor] = {}

    def activation(
        self,
        place: Place,
        value: Tensor,
        in_place: bool,
        function: Any,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
    ) -> Any:
        depends = value.requires_grad
        output = super().activation(place, value, in_place, function, arguments, named)
        if depends:
            self._record(place, in_place, arguments[1:], named, output)
        return output

    def _record(
        self, place: Place, in_place: bool, settings: tuple[Any, ...], named: Mapping[str, Any], output: Tensor
    ) -> None:
        module = self.running
        of_module = operator_of(module)
        called = operator_of_call(place.function, settings, named) if place.function in FUNCTIONS else None
        self.applications.append(Application(place, of_module or called, of_module is not None, in_place))
        if place.function in GATES:
            self._gates[id(output)] = output, self.applications[-1]

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), named: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "").strip("_")
        if name in _FACTORS:
            for factor in arguments:
                self.is_gate(factor)
        if name == "set_grad_enabled":  # what has no gradient there depends on the input all the same
            return None
        if name == "detach" or function == _DATA:
            return arguments[0]
        result = super().__torch_function__(function, types, arguments, named)
        given = list(_tensors((arguments, named or {})))
        chosen = any(id(each) in self._indices for each in given)
        if (chosen or any(each.requires_grad for each in given)) and not _makes_new(name):
            for tensor in _tensors(result):
                self.follow(tensor)
        if not chosen or not isinstance(result, Tensor) or not result.is_floating_point() or result.requires_grad:
            return result
        in_place = any(result is each for each in given)  # what may be the network's own
        return result if in_place else result.requires_grad_().clone()  # which may be changed in place

    def follow(self, tensor: Tensor) -> None:
        """Remember indices that depend on the input."""
        if not tensor.is_floating_point():
            self._indices[id(tensor)] = tensor

    def is_gate(self, value: Any) -> None:
        """Leave the activation alone that gave this value, if it may be a gate and one did."""
        base = value._base if isinstance(value, Tensor) and value._base is not None else value
        for each in (value, base):
            if id(each) in self._gates:
                self._gates[id(each)][1].operator = None


def _makes_new(name: str) -> bool:
    """Whether a function takes the shape of a tensor alone."""
    return name.startswith("new_") or name.endswith("_like")


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors among the arguments or the results of a function."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
