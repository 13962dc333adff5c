"""The activations that a network applies, seen as it runs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
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
        return _recorded(module, example, indices, 1 - indices)
    normal = torch.randn(example.shape, generator=generator(0, "noise"), device="cpu").to(example)
    try:
        return _recorded(module, example, normal, -normal)
    except (IndexError, RuntimeError):  # it may take some of the numbers for indices
        return _recorded(module, example, indices, 1 - indices)


def _recorded(module: nn.Module, example: Tensor, inputs: Tensor, others: Tensor) -> Recording:
    network = copy.deepcopy(module).requires_grad_(False)
    for child in _reading_by_input(network, inputs, others):  # what they give has a gradient in place of the indices
        child.requires_grad_(True)
    seen: dict[Place, Application] = {}
    training = _outputs(network.train(), inputs, seen)
    evaluation = _outputs(network.eval(), inputs, seen)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    _outputs(network, example, seen)  # on which a network may do something else
    return Recording(inputs, tuple(seen.values()), (training, evaluation), buffers)


def _reading_by_input(network: nn.Module, inputs: Tensor, others: Tensor) -> list[nn.Module]:
    """The embeddings that give other rows for other inputs; of a network of indices all."""
    embeddings: list[nn.Module] = [
        child for child in network.modules() if isinstance(child, nn.Embedding | nn.EmbeddingBag)
    ]
    if not embeddings or not inputs.is_floating_point():
        return embeddings
    read: list[dict[nn.Module, list[Tensor]]] = []
    for batch in (inputs, others):
        rows: dict[nn.Module, list[Tensor]] = {child: [] for child in embeddings}
        hooks = [
            child.register_forward_pre_hook(lambda layer, given, rows=rows: rows[layer].append(given[0].clone()))
            for child in embeddings
        ]
        with torch.no_grad():
            network.eval()(batch.clone())
        for hook in hooks:
            hook.remove()
        read.append(rows)
    first, second = read
    return [child for child in embeddings if not _alike(first[child], second[child])]


def _alike(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def _outputs(network: nn.Module, inputs: Tensor, seen: dict[Place, Application]) -> Any:
    """What the network gives for a batch; adds the activations that it applies and that were not seen yet."""
    with torch.enable_grad(), _Recorder(network) as recorder:
        batch = inputs.detach()
        batch = (batch.requires_grad_() if batch.is_floating_point() else batch).clone()  # it may be changed in place
        outputs = network(batch)
    recorder.is_gate(outputs)  # what the network ends with is none of its activations
    for application in recorder.applications:
        seen.setdefault(application.place, application)
    return outputs


class _Recorder(Calls):
    """Writes down every application to what has a gradient, as all has that depends on the input."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.applications: list[Application] = []
        self._gates: dict[int, tuple[Tensor, Application]] = {}

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
        return super().__torch_function__(function, types, arguments, named)

    def is_gate(self, value: Any) -> None:
        """Leave the activation alone that gave this value, if it may be a gate and one did."""
        base = value._base if isinstance(value, Tensor) and value._base is not None else value
        for each in (value, base):
            if id(each) in self._gates:
                self._gates[id(each)][1].operator = None
