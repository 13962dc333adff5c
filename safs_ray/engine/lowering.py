"""The passes of a network, from its steps.

A step whose value is a sum of terms stays one, a *form*, until something needs it as planes: so a normalisation is
folded into the weights and biases before it, the two sides of a sum are added up in one pass, and an activation is
applied by the pass that it reads. Flattening, concatenation and channels that reach no output cost nothing: what reads
a value knows where each channel lies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from safs_ray.engine import forms, passes
from safs_ray.engine.forms import Form, View
from safs_ray.engine.passes import Function, Numbers, Pass, Passes, Places, Value, Weights
from safs_ray.engine.reading import Concat, Foreign, Groups, PlainActivation, Product
from safs_ray.network import Network
from safs_ray.operators import Operator, lookup
from safs_ray.sparse.graph import Activation, Affine, Average, Images, MaxPool, Normalisation, Same, Step, Sum
from safs_ray.sparse.removal import Channels, WeightMasks, kept_weights, mark_needed, needed_channels
from safs_ray.sparse.windows import Pair, Table, Window


def lower(network: Network, module: nn.Module, steps: Sequence[Step]) -> Passes:
    """The passes of a network in evaluation mode.

    Args:
        module: what the network builds, for the epsilons of its normalisations.
        steps: as :func:`safs_ray.engine.reading.read` gives them.
    """
    return _Lowering(network, module, steps).lowered()


def _mark(step: Step, own: Channels, sources: Sequence[Channels], kept: WeightMasks) -> None:
    """Mark the channels of its sources that a step's own needed channels read."""
    match step.operation:
        case Concat():
            ends = np.cumsum([len(source) for source in sources])
            for source, part in zip(sources, np.split(own, ends[:-1]), strict=True):
                source |= part
        case Foreign():
            for source in sources:
                source[:] = True
        case _:
            mark_needed(step, own, sources, kept)


class _Lowering:
    def __init__(self, network: Network, module: nn.Module, steps: Sequence[Step]) -> None:
        self._network, self._module, self._steps = network, module, steps
        self._operators = {site: lookup(name) for site, name in zip(network.sites, network.assignment, strict=True)}
        needed = needed_channels(steps, kept_weights(steps, network), _mark)
        for step, own in zip(steps, needed, strict=True):
            own |= isinstance(step.operation, Images | Foreign)
        self._rows = [np.flatnonzero(own) for own in needed]
        self._readers = Counter(index for step in steps for index in step.inputs)
        self._values: list[Value] = []
        self._passes: list[Pass] = []
        self._views: dict[int, View] = {}
        self._forms: dict[int, Form] = {}
        self._phases: dict[tuple[int, Pair, Pair], int] = {}

    def lowered(self) -> Passes:
        for index, step in enumerate(self._steps):
            found = self._done(index, step)
            if isinstance(found, Form):
                self._forms[index] = found
            else:
                self._views[index] = found
        return Passes(self._values, self._passes, self._whole(len(self._steps) - 1))

    def _done(self, index: int, step: Step) -> Form | View:
        """A step's value; what it needs before it is written."""
        rows = self._rows[index]
        match step.operation:
            case Images():
                return self._written(index, passes.Read(self._new(step.channels, step)))
            case Affine() as affine:
                return self._affine(affine, step, rows)
            case Normalisation(owner):
                return self._normalised(owner, self._form(step.inputs[0], rows), rows)
            case Sum():
                return forms.added(*(self._strided(self._form(each, rows)) for each in step.inputs))
            case Activation() | PlainActivation() | Groups():
                return self._weighed(index, self._form(step.inputs[0], rows), self._functions(step, rows))
            case MaxPool(table, window):
                return self._pooled(index, step, table, window, None)
            case Average(table, weight, window):
                return self._averaged(index, step, table, weight, window)
            case Same():
                return self._same(step)
            case Concat():
                return forms.joined([self._view(each) for each in step.inputs])
            case Product(gate):
                return self._product(index, step, gate)
            case Foreign() as foreign:
                return self._foreign(index, step, foreign)
        raise TypeError(f"{type(step.operation).__name__} is no step that the engine knows")

    def _affine(self, affine: Affine, step: Step, rows: Numbers) -> Form:
        state, owner = self._network.state, affine.owner
        weight = state[f"{owner}.weight"]
        bias = state[f"{owner}.bias"].double().numpy() if affine.bias else np.zeros(len(weight))
        view = self._view(step.inputs[0])
        shaped = weight.reshape(*weight.shape[:2], -1).numpy()
        return forms.affine(affine, shaped, bias, view, (step.height, step.width), rows)

    def _normalised(self, owner: str, form: Form, rows: Numbers) -> Form:
        names = ("weight", "bias", "running_mean", "running_var")
        scale, shift, mean, variance = (self._network.state[f"{owner}.{name}"].double().numpy()[rows] for name in names)
        factor = scale / np.sqrt(variance + self._module.get_submodule(owner).eps)
        return forms.rescaled(form, factor, shift - mean * factor)

    def _functions(self, step: Step, rows: Numbers) -> list[Function]:
        """The functions of an activation's channels, counted as its rows are."""
        match step.operation:
            case Activation(site):
                return [self._function(site, rows, 0, len(rows))]
            case Groups(sites):
                blocks = np.array_split(np.arange(step.channels), len(sites))
                ends = [0, *(int(np.searchsorted(rows, block[-1], "right")) for block in blocks)]
                return [self._function(site, rows, *ends[i : i + 2]) for i, site in enumerate(sites)]
            case PlainActivation(operator, names):
                tensors = [self._network.state[name] for name in names]
                return [_function(operator, tensors, rows, 0, len(rows))]
        raise TypeError(f"{type(step.operation).__name__} is no activation")

    def _function(self, site: str, rows: Numbers, first: int, end: int) -> Function:
        operator = self._operators[site]
        names = ("alpha", "beta", *(f"internal.{name}" for name in operator.parameters))
        return _function(operator, [self._network.state[f"{site}.{name}"] for name in names], rows, first, end)

    def _pooled(self, index: int, step: Step, table: Table, window: Window | None, weight: Weights | None) -> View:
        view, rows = self._view(step.inputs[0]), self._rows[index]
        out, planes = self._new(len(rows), step), view.places[rows]
        if window is None:
            return self._written(index, passes.Collect(out, planes, table, view.width, weight))
        return self._written(index, passes.Slide(out, planes, window, weight))

    def _averaged(self, index: int, step: Step, table: Table, weight: Weights, window: Window | None) -> Form | View:
        if step.pixels == 1:
            if table.size == 1 and weight == 1:
                return self._same(step)
            return forms.averaged(self._view(step.inputs[0]), table, float(weight[0]), self._rows[index])
        return self._pooled(index, step, table, window, weight)

    def _same(self, step: Step) -> Form | View:
        (source,) = step.inputs
        if self._steps[source].channels != step.channels:
            return forms.flattened(self._view(source))
        return self._forms.pop(source) if self._is_free(source) else self._view(source)

    def _product(self, index: int, step: Step, gate: int) -> View:
        rows = self._rows[index]
        planes = self._view(step.inputs[1 - gate]).places[rows]
        source = step.inputs[gate]
        # Nothing else may read the numbers, as planes: they lie side by side.
        numbers = (self._contiguous if self._is_read_once(source) else self._copied)(source, rows)
        return self._written(index, passes.Scale(self._new(len(rows), step), planes, numbers))

    def _is_read_once(self, index: int) -> bool:
        """Whether one step alone reads a value, under whatever name: what flattens it, or does nothing, is the same."""
        step = self._steps[index]
        own = self._readers[index] == 1
        return own and (not isinstance(step.operation, Same | Concat) or all(map(self._is_read_once, step.inputs)))

    def _foreign(self, index: int, step: Step, foreign: Foreign) -> View:
        views = [self._view(each) for each in step.inputs]
        out = self._new(step.channels, step)
        inputs = [view.places for view in views]
        done = passes.Foreign(out, inputs, foreign.shapes, foreign.run, foreign.name, foreign.reason)
        return self._written(index, done)

    def _form(self, index: int, rows: Numbers) -> Form:
        """Channels of a step as terms: its own where nothing else reads it."""
        return self._forms.pop(index) if self._is_free(index) else forms.identity(self._view(index), rows)

    def _is_free(self, index: int) -> bool:
        return index in self._forms and self._readers[index] == 1

    def _view(self, index: int) -> View:
        """A step's value as planes."""
        if index not in self._views:
            self._views[index] = self._weighed(index, self._forms.pop(index), None)
        return self._views[index]

    def _weighed(self, index: int, form: Form, functions: Sequence[Function] | None) -> View:
        return self._written(index, self._weigh(form, functions))

    def _weigh(self, form: Form, functions: Sequence[Function] | None) -> passes.Weigh:
        form = self._strided(form)
        count = len(form.bias)
        applied = functions or [_function(lookup("linear"), [], np.arange(count), 0, count)]
        out = self._next(Value(count, form.height, form.width))
        return passes.Weigh(out, form.starts, form.terms, form.weights, form.bias, applied)

    def _whole(self, index: int) -> int:
        """The value that holds all of a step's channels, in order, and no other."""
        return self._contiguous(index, np.arange(self._steps[index].channels))

    def _contiguous(self, index: int, rows: Numbers) -> int:
        """The value whose first channels are these of a step."""
        read = self._view(index).places[rows]
        if len(rows) and read == passes.planes_of(int(read.value[0]), len(rows)):
            return int(read.value[0])
        return self._copied(index, rows)

    def _copied(self, index: int, rows: Numbers) -> int:
        """A value of these channels of a step."""
        one = self._weigh(forms.identity(self._view(index), rows), None)
        self._passes.append(one)
        return one.out

    def _strided(self, form: Form) -> Form:
        """A form of stride 1: each plane is taken apart into those of its rows and columns that are read together."""
        if form.stride == (1, 1):
            return form
        (row, own_row), (column, own_column) = (
            np.divmod(shift, step) for shift, step in zip((form.terms.row, form.terms.column), form.stride, strict=True)
        )
        keys, which = np.unique(np.stack([form.terms.value, own_row, own_column]), axis=1, return_inverse=True)
        phases = np.array([self._phase(int(value), form.stride, (int(a), int(b))) for value, a, b in keys.T], np.int64)
        terms = Places(phases[which.ravel()], form.terms.channel, row, column)
        return replace(form, terms=terms, stride=(1, 1))

    def _phase(self, value: int, stride: Pair, first: Pair) -> int:
        """The value of every so many rows and columns of another."""
        if (value, stride, first) not in self._phases:
            source = self._values[value]
            rows, columns = (
                -(-(size - own) // step)
                for size, own, step in zip((source.height, source.width), first, stride, strict=True)
            )
            out = self._next(Value(source.channels, rows, columns))
            planes = passes.planes_of(value, source.channels)
            begun = replace(planes, row=planes.row + first[0], column=planes.column + first[1])
            self._passes.append(passes.Slide(out, begun, Window((1, 1), stride, (0, 0), (1, 1)), None))
            self._phases[value, stride, first] = out
        return self._phases[value, stride, first]

    def _new(self, channels: int, step: Step) -> int:
        return self._next(Value(channels, step.height, step.width))

    def _next(self, value: Value) -> int:
        self._values.append(value)
        return len(self._values) - 1

    def _written(self, index: int, one: Pass) -> View:
        """Add a pass that writes the channels of a step that are needed, in their order."""
        self._passes.append(one)
        step, rows = self._steps[index], self._rows[index]
        places = Places(*(np.zeros(step.channels, np.int64) for _ in range(4)))
        places.value[:] = -1
        places.value[rows], places.channel[rows] = one.out, np.arange(len(rows))
        return View(places, step.height, step.width)


def _function(operator: Operator, tensors: Sequence[Tensor], rows: Numbers, first: int, end: int) -> Function:
    """A function of rows ``first`` to ``end``; without scales among its tensors these are 1."""
    scales = [] if len(tensors) > len(operator.parameters) else [torch.ones(())] * 2
    values = [tensor.detach().float() for tensor in (*scales, *tensors)]
    if operator.channels is None:
        return Function(operator, torch.stack([value.reshape(()) for value in values]).numpy(), first, end)
    chosen = torch.from_numpy(rows[first:end])
    own = [value.expand(operator.channels)[chosen] for value in values]
    return Function(lookup("prelu"), torch.stack(own, 1).numpy(), first, end)  # which alone has one for each channel
