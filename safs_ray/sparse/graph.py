"""A network as a list of steps between planes of neurons, read from its torch.fx graph.

Every value is (channels, pixels) for one image; a flattened value has one pixel, and a signal planes of one row.
Convolutions, linear layers and poolings all are a table that says which pixels of the input's plane a pixel of the
output's plane sees; a linear layer is a convolution of planes of one pixel.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd

from safs_ray.activations import ScaledActivation
from safs_ray.activations.kinds import has_hooks, is_plain
from safs_ray.sparse.windows import Table, Window, adaptive_window, adaptive_windows, padding_of, window, windows


class UnsupportedError(Exception):
    """A network that only its own code can execute; the message says why."""


@dataclass(frozen=True)
class Images:
    """The input, normalised."""


@dataclass(frozen=True)
class Affine:
    """A convolution or linear layer: module ``owner`` with a weight (outputs, inputs / groups, places).

    Attributes:
        taken: the shape of what it reads, for one image.
        window: of a convolution.
    """

    owner: str
    table: Table
    groups: int
    bias: bool
    taken: tuple[int, ...]
    window: Window | None = None


@dataclass(frozen=True)
class MaxPool:
    """The largest of each window."""

    table: Table
    window: Window | None = None


@dataclass(frozen=True)
class Average:
    """The sum of each window times ``weight`` (pixels,).

    Attributes:
        window: where all windows are alike.
    """

    table: Table
    weight: npt.NDArray[np.float64]
    window: Window | None = None


@dataclass(frozen=True)
class Normalisation:
    """Batch normalisation by module ``owner``."""

    owner: str


@dataclass(frozen=True)
class Activation:
    """The :class:`ScaledActivation` at ``site``."""

    site: str


@dataclass(frozen=True)
class Sum:
    """The sum of two values."""


@dataclass(frozen=True)
class Same:
    """The input as it is, perhaps flattened."""


class Other:
    """What has no gradient here: networks that do it can be used, not trained."""


Operation = Images | Affine | MaxPool | Average | Normalisation | Activation | Sum | Same | Other


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        inputs: indices of the steps that it reads.
        channels, pixels: of its value.
        width: of its planes; 1 for a flattened value.
    """

    operation: Operation
    inputs: tuple[int, ...]
    channels: int
    pixels: int
    width: int = 1

    @property
    def height(self) -> int:
        return self.pixels // self.width

    @property
    def neurons(self) -> int:
        return self.channels * self.pixels


Shapes = dict[fx.Node, tuple[int, ...]]
"""Of every node whose value is a tensor, the shape for one image."""

Reader = Callable[[fx.Node, fx.GraphModule, Shapes], Operation]
"""What a node does.

Raises:
    UnsupportedError: it does what no step does.
"""


def read(module: nn.Module, example: Tensor) -> tuple[Step, ...]:
    """The steps of a network that can be trained so, the last of which gives the logits.

    Args:
        module: what :meth:`Network.build` made; it is left in evaluation mode.
        example: a batch (N, C, H, W) that it accepts.

    Raises:
        UnsupportedError: it cannot be traced or does what no step does.
    """
    if isinstance(module, fx.GraphModule):
        _check_shared(module)
    return steps_of(module, example, operation_of)


def steps_of(module: nn.Module, example: Tensor, reader: Reader) -> tuple[Step, ...]:
    """The steps of a network, each as a reader tells it; else as :func:`read`."""
    if not isinstance(module, fx.GraphModule):
        raise UnsupportedError("torch.fx has no graph of it")
    shapes = _shapes(module, example)
    places: dict[fx.Node, int] = {}
    steps: list[Step] = []
    for node in module.graph.nodes:
        if node.op == "output":
            return _ended(steps, places, node)
        if node in shapes:  # other values, such as the batch size, only serve to flatten
            inputs = [argument for argument in node.all_input_nodes if argument in places]
            operation = reader(node, module, shapes)
            places[node] = len(steps)
            steps.append(Step(operation, tuple(places[each] for each in inputs), *_planes(shapes[node], node)))
    raise UnsupportedError("it has no output")


def _check_shared(module: nn.Module) -> None:
    """Refuse tensors that several layers share: each would be trained as its own."""
    names: dict[int, str] = {}
    for tensors in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, tensor in tensors:
            if (other := names.setdefault(id(tensor), name)) != name:
                raise UnsupportedError(f"{other} and {name} are one tensor")


def _ended(steps: list[Step], places: dict[fx.Node, int], output: fx.Node) -> tuple[Step, ...]:
    value = output.args[0]
    if not isinstance(value, fx.Node) or steps[places[value]].pixels != 1:
        raise UnsupportedError("its output is not one tensor of logits")
    if sum(isinstance(step.operation, Images) for step in steps) != 1:
        raise UnsupportedError("it takes more than images")
    return tuple(steps[: places[value] + 1])


def _shapes(module: fx.GraphModule, example: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    """The shape of every node's value for one image.

    Raises:
        UnsupportedError: a node gives other numbers than real ones, such as indices.
    """
    shapes: dict[fx.Node, tuple[int, ...]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                if not value.is_floating_point() and n.op != "placeholder":
                    raise UnsupportedError(f"{n.name} gives {value.dtype}")
                shapes[n] = tuple(value.shape[1:])
            return value

    recorder = Recorder(module.eval())
    recorder.extra_traceback = False  # else it adds lines of its own to what is raised
    with torch.no_grad():
        recorder.run(example)
    return shapes


def _planes(shape: tuple[int, ...], node: fx.Node) -> tuple[int, int, int]:
    """Channels, pixels and width."""
    if len(shape) not in (1, 2, 3):
        raise UnsupportedError(f"{node.name} gives a tensor of {len(shape) + 1} dimensions")
    channels, height, width = plane_shape(shape)
    return channels, height * width, width


def plane_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(channels, height, width) of a value for one image: a signal is one row, a flattened value one pixel."""
    return (shape[0], *(1 for _ in range(3 - len(shape))), *shape[1:])  # type: ignore[return-value]


def operation_of(node: fx.Node, owner: fx.GraphModule, shapes: Shapes) -> Operation:
    """What a node of a network that can be trained does; see :data:`Reader`."""
    if node.op == "placeholder":
        return Images()
    target = str(node.target)
    if node.op == "call_module":
        child = owner.get_submodule(target)
        if has_hooks(child):
            raise UnsupportedError(f"{target} has hooks")
        if len(node.args) == 1 and not node.kwargs:
            return _of_module(child, target, shapes[_argument(node)], shapes[node])
    if node.op == "call_function":
        return _of_function(node, shapes)
    if node.op == "call_method" and target in ("flatten", "view", "reshape"):
        return _flattened(shapes[_argument(node)], shapes[node], node.name)
    raise UnsupportedError(f"{node.name} is no step of a sparse network")


def _argument(node: fx.Node) -> fx.Node:
    argument = node.args[0] if node.args else node.kwargs.get("input")
    if not isinstance(argument, fx.Node):
        raise UnsupportedError(f"{node.name} takes no tensor")
    return argument


def _of_module(child: nn.Module, path: str, taken: tuple[int, ...], given: tuple[int, ...]) -> Operation:
    match child:
        case ScaledActivation() if child.operator.channels is None:
            return Activation(path)
        case nn.Identity():
            return Same()
        case _DropoutNd() if child.p == 0:
            return Same()
        case nn.Flatten():
            return _flattened(taken, given, path)
        case nn.Linear() if len(taken) == 1 and is_plain(child, nn.Linear):
            return Affine(path, np.zeros((1, 1), np.int64), 1, child.bias is not None, taken)
        case nn.Conv1d() | nn.Conv2d() if _slides(child, taken):
            own = _window(child, taken)
            return Affine(path, _windows(taken, given, own), child.groups, child.bias is not None, taken, own)
        case nn.BatchNorm1d() | nn.BatchNorm2d() if _normalises(child):
            return Normalisation(path)
        case nn.MaxPool1d() | nn.MaxPool2d() if not child.return_indices and _is_plain_for(taken, child, MAX_POOLS):
            own = _window(child, taken)
            return MaxPool(_windows(taken, given, own), own)
        case nn.AvgPool1d() | nn.AvgPool2d() if _is_plain_for(taken, child, AVERAGE_POOLS):
            return _average(child, taken, given)
        case nn.AdaptiveAvgPool1d() | nn.AdaptiveAvgPool2d() if _is_plain_for(taken, child, ADAPTIVE_POOLS):
            table = adaptive_windows(plane_shape(taken), plane_shape(given))
            return Average(table, 1 / (table >= 0).sum(1), adaptive_window(plane_shape(taken), plane_shape(given)))
    unusual = [
        f"{name}={child.__dict__[name]}" for name, usual in USUAL.items() if child.__dict__.get(name, usual) != usual
    ]
    kind = f"{type(child).__name__}{' with ' if unusual else ''}{', '.join(unusual)}"
    raise UnsupportedError(f"{path} is a {kind}, which no step of a sparse network does")


USUAL = {"padding_mode": "zeros", "ceil_mode": False, "return_indices": False}
"""Settings that layers have where a step does them."""

Kinds = tuple[type[nn.Module], type[nn.Module]]
"""A layer of signals, (C, length), and its sibling of images, (C, H, W)."""

CONVOLUTIONS: Kinds = (nn.Conv1d, nn.Conv2d)
MAX_POOLS: Kinds = (nn.MaxPool1d, nn.MaxPool2d)
AVERAGE_POOLS: Kinds = (nn.AvgPool1d, nn.AvgPool2d)
ADAPTIVE_POOLS: Kinds = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)


def _is_plain_for(taken: tuple[int, ...], layer: nn.Module, kinds: Kinds) -> bool:
    """Whether a layer is torch's own for inputs of so many dimensions: with one fewer, torch sees no batch."""
    return len(taken) in (2, 3) and is_plain(layer, kinds[len(taken) - 2])


def _slides(layer: nn.Conv1d | nn.Conv2d, taken: tuple[int, ...]) -> bool:
    """Whether a convolution's kernel slides over an input that is filled up with zeros, by torch's own code."""
    return layer.padding_mode == "zeros" and _is_plain_for(taken, layer, CONVOLUTIONS)


def _window(layer: Any, taken: tuple[int, ...]) -> Window:
    """The window of a convolution or pooling; of one over signals it is one row high."""
    dilation = getattr(layer, "dilation", 1)
    own = window(layer.kernel_size, layer.stride, padding_of(layer.padding, layer.kernel_size, dilation), dilation)
    if len(taken) == 3:
        return own
    return Window(*((high, columns) for high, (_, columns) in zip((1, 1, 0, 1), own, strict=True)))


def _windows(taken: tuple[int, ...], given: tuple[int, ...], own: Window) -> Table:
    return windows(plane_shape(taken), plane_shape(given), own)


def _normalises(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> bool:
    """Whether a layer has learned scales and running statistics, and is torch's own."""
    plain = is_plain(layer, nn.BatchNorm2d) or is_plain(layer, nn.BatchNorm1d)
    return bool(plain and layer.affine and layer.track_running_stats and layer.momentum)


FUNCTIONS: dict[Callable[..., Any], type[nn.Module]] = {
    F.max_pool1d: nn.MaxPool1d,
    torch.max_pool1d: nn.MaxPool1d,
    F.avg_pool1d: nn.AvgPool1d,
    F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    F.max_pool2d: nn.MaxPool2d,
    torch.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}
"""Functions that take what the constructor of a module takes, after the tensor."""


def _of_function(node: fx.Node, shapes: Shapes) -> Operation:
    target = cast(Callable[..., Any], node.target)
    if target in (operator.add, operator.iadd, torch.add):
        return _sum(node, shapes)
    if target is torch.flatten:
        return _flattened(shapes[_argument(node)], shapes[node], node.name)
    if target in FUNCTIONS and len(node.args) <= 4:  # beyond, the orders differ
        settings = {key: value for key, value in node.kwargs.items() if key != "input"}
        module = FUNCTIONS[target](*node.args[1:], **settings)
        return _of_module(module, node.name, shapes[_argument(node)], shapes[node])
    raise UnsupportedError(f"{node.name} is no step of a sparse network")


def _sum(node: fx.Node, shapes: Shapes) -> Operation:
    tensors = [argument for argument in node.args if isinstance(argument, fx.Node) and argument in shapes]
    if len(tensors) != 2 or len(node.args) != 2 or node.kwargs or shapes[tensors[0]] != shapes[tensors[1]]:
        raise UnsupportedError(f"{node.name} adds other things than two tensors of one shape")
    if tensors[0] is tensors[1] or (node.target is operator.iadd and len(tensors[0].users) > 1):
        raise UnsupportedError(f"{node.name} changes a tensor that is used again")
    return Sum()


def _flattened(taken: tuple[int, ...], given: tuple[int, ...], name: str) -> Operation:
    if taken != given and given != (int(np.prod(taken)),):
        raise UnsupportedError(f"{name} gives a tensor an unknown shape")
    return Same()


def _average(child: nn.AvgPool1d | nn.AvgPool2d, taken: tuple[int, ...], given: tuple[int, ...]) -> Operation:
    own = _window(child, taken)
    table = _windows(taken, given, own)
    if divisor := getattr(child, "divisor_override", None):
        counts = np.full(len(table), divisor)
    elif child.count_include_pad:
        rows, columns = (
            np.minimum(np.arange(out) * step - pad + size, before + pad) - (np.arange(out) * step - pad)
            for out, before, size, step, pad in zip(
                plane_shape(given)[1:], plane_shape(taken)[1:], own.kernel, own.stride, own.padding, strict=True
            )
        )
        counts = np.multiply.outer(rows, columns).ravel()
    else:
        counts = (table >= 0).sum(1)
    return Average(table, 1 / counts, own)
