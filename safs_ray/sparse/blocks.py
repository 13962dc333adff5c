"""Whole passes in one compiled call: a block of images goes through all layers, and back, while it is in the cache.

For networks whose steps form a chain, without batch normalisation. One array (rows, LANES) holds every neuron of a
block, step after step, and another their gradients. Candidates of one mask, with weights and operators of their own,
are computed one after the other for every block and share what is read of the images. Each gives the same bits as
alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types

from safs_ray.sparse.kernels import add_up, combine, correlate, gather, pool, unpool, unpool_apart
from safs_ray.sparse.lanes import LANES, Floats, Indices, compiled, load, operation, store, sum_of, times
from safs_ray.sparse.losses import Goal, lose
from safs_ray.sparse.operators import SCALES

Addresses = npt.NDArray[np.int64]
Step = npt.NDArray[np.int64]
Images = npt.NDArray[Any]
"""Bytes, or normalised numbers."""

AFFINE, FIXED, POOL, ACTIVATION = range(4)
"""What a step of a program does."""

KIND, SOURCE, SOURCES, OUT, OUTS, VALUES = range(6)
"""Columns of every step: what it does; the first row and the number of rows that it reads, and that it writes; the
first of its values, or the number of its site."""

ROWS, BACK_ROWS = 6, 9
"""Columns of an affine or fixed step, ahead and back, the first of three: where its lists of rows, of starts and of
nonzeros begin, for :func:`kernels.combine`."""

WEIGHTS, WEIGHT_COUNT, BANDS, PAIR_STARTS, PAIRS, BIAS_COUNT, BIAS_STARTS, BIAS_ROWS = range(12, 20)
"""Columns of an affine step, for :func:`kernels.correlate` and :func:`kernels.add_up`."""

WINDOWS, PLACES, APART = range(6, 9)
"""Columns of a pooling step: where its windows begin, how many places one has, and whether every row of the source is
in one of them, once."""

COLUMNS = 20


class Program(NamedTuple):
    """A chain of steps as plain arrays.

    Attributes:
        steps: (steps, COLUMNS).
        ones, twos, fours: the lists of all steps, by their numbers of columns.
        fixed: the weights of average poolings.
        levels, channels, pixels: of the live pixels, as :func:`kernels.gather` takes them.
    """

    steps: npt.NDArray[np.int64]
    ones: Indices
    twos: Indices
    fours: Indices
    fixed: Floats
    levels: Floats
    channels: Indices
    pixels: Indices

    @property
    def classes(self) -> int:
        """Rows of the last step."""
        return int(self.steps[-1, OUTS])

    @property
    def rows(self) -> int:
        """Rows of all steps."""
        return int(self.steps[-1, OUT]) + self.classes


class Candidates(NamedTuple):
    """What candidates differ in.

    Attributes:
        values: (candidates, values), the weights and biases that are left.
        parameters: (candidates, sites, most parameters): alpha, beta and the operator's own.
        ahead, both, back: (candidates, sites), addresses of the operators' code. ``both`` is 0 unless the gradient of
            what the site reads is wanted, and none of its parameters'.
    """

    values: Floats
    parameters: Floats
    ahead: Addresses
    both: Addresses
    back: Addresses


class Room(NamedTuple):
    """Where a block is worked on: its neurons and their gradients, (rows, LANES) each."""

    neurons: Floats
    gradients: Floats


class Gradients(NamedTuple):
    """What a pass adds up: losses, and gradients of all that is learned.

    All are zeros at first.

    Attributes:
        values: (candidates, values), gradients.
        scales: (candidates, sites, any number), gradients of alpha and beta.
        internal: (candidates, sites, most parameters - 2), those of the operators' own parameters.
        lanes: (candidates, sites, most parameters, LANES), those of the scales and these, by lane.
        losses: (candidates,), means over the batch.
    """

    values: Floats
    scales: Floats
    internal: Floats
    lanes: Floats
    losses: Floats


@operation
def call(_: Any, address: Any, arguments: Any) -> Any:  # noqa: ARG001
    """Call the code at an address with a tuple of integers."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
        whole = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [whole] * len(arguments))
        values = cgutils.unpack_tuple(builder, given[1])  # type: ignore[no-untyped-call]
        builder.call(builder.inttoptr(given[0], function.as_pointer()), values)
        return context.get_dummy_value()

    tuple_type = types.UniTuple(types.int64, len(arguments))  # type: ignore[no-untyped-call]
    return types.void(types.int64, tuple_type), generate


@compiled
def rows(neurons: Floats, first: int, count: int) -> Floats:
    """Rows of a block's array as an array (1, rows, LANES)."""
    return neurons[first : first + count].reshape(1, count, LANES)


@compiled
def place(array: Floats) -> int:
    """The address of an array."""
    return int(array.ctypes.data)


@compiled
def ahead(program: Program, candidates: Candidates, k: int, room: Room) -> None:
    """Take a block through all steps of candidate k: from its pixels to its logits.

    An operator's slope costs little beside its value. It is left where the gradient of what the site reads will be.
    """
    neurons, gradients = room
    for i in range(len(program.steps)):
        step = program.steps[i]
        source, out = rows(neurons, step[SOURCE], step[SOURCES]), rows(neurons, step[OUT], step[OUTS])
        if step[KIND] == ACTIVATION:
            site = step[VALUES]
            parameters = place(candidates.parameters[k, site])
            if candidates.both[k, site]:
                slopes = rows(gradients, step[SOURCE], step[SOURCES])
                arguments = place(out), place(slopes), place(source), parameters, step[OUTS]
                call(candidates.both[k, site], arguments)
            else:
                call(candidates.ahead[k, site], (place(out), place(source), parameters, step[OUTS]))
        elif step[KIND] == POOL:
            pool(0, out.shape[1], out, source, windows(program, step))
        else:
            add_weighted(program, candidates, k, step, ROWS, out, source)


@compiled
def add_weighted(
    program: Program, candidates: Candidates, k: int, step: Step, lists: int, out: Floats, source: Floats
) -> None:
    """Write the weighted sums of an affine or fixed step, ahead or back.

    Args:
        lists: the first of the three columns with their lists, ROWS or BACK_ROWS.
    """
    values = candidates.values[k] if step[KIND] == AFFINE else program.fixed
    fours, starts, nonzeros = program.fours[step[lists] :], step[lists + 1], step[lists + 2]
    own = values[step[VALUES] :]
    combine(0, out.shape[1], out, source, own, fours, program.ones[starts:], program.twos[nonzeros:])


@compiled
def windows(program: Program, step: Step) -> Indices:
    """The windows (rows, places) of a pooling step."""
    count, places = step[OUTS], step[PLACES]
    return program.ones[step[WINDOWS] : step[WINDOWS] + count * places].reshape(count, places)


@compiled
def back(program: Program, candidates: Candidates, k: int, room: Room, found: Gradients) -> None:
    """Take the gradients of a block's logits back through all steps of candidate k, and add to what was found.

    Args:
        room: the neurons as :func:`ahead` left them, and the gradients of the logits; the others are written.
    """
    neurons, gradients = room
    for i in range(len(program.steps) - 1, -1, -1):
        step = program.steps[i]
        source, out = rows(neurons, step[SOURCE], step[SOURCES]), rows(neurons, step[OUT], step[OUTS])
        given, gradient = rows(gradients, step[SOURCE], step[SOURCES]), rows(gradients, step[OUT], step[OUTS])
        if step[KIND] == ACTIVATION:
            site = step[VALUES]
            if candidates.both[k, site]:
                multiply(given, gradient)
                continue
            parameters, own = place(candidates.parameters[k, site]), place(found.lanes[k, site])
            arguments = place(given), place(gradient), place(source), parameters, own, step[OUTS]
            call(candidates.back[k, site], arguments)
        elif step[KIND] == POOL:
            if step[APART]:
                unpool_apart(0, out.shape[1], given, gradient, out, source, windows(program, step))
            else:
                given[:] = 0
                unpool(given, gradient, out, source, windows(program, step))
        else:
            if step[KIND] == AFFINE:
                add_gradients(program, step, source, gradient, found.values[k, step[VALUES] :])
            if i > 0:
                add_weighted(program, candidates, k, step, BACK_ROWS, given, gradient)


@compiled
def multiply(out: Floats, other: Floats) -> None:
    """out *= other, row by row."""
    for row in range(out.shape[1]):
        store(out, row, times(load(out, row), load(other, row)))


@compiled
def add_gradients(program: Program, step: Step, source: Floats, gradient: Floats, found: Floats) -> None:
    """Add the gradients of an affine step's weights and biases."""
    count = step[WEIGHT_COUNT]
    starts, pairs = program.ones[step[PAIR_STARTS] :], program.twos[step[PAIRS] :]
    correlate(0, count, found, gradient, source, program.fours[step[WEIGHTS] :], step[BANDS], 1, starts, pairs)
    biases = found[count : count + step[BIAS_COUNT]]
    add_up(0, len(biases), biases, gradient, program.ones[step[BIAS_STARTS] :], program.ones[step[BIAS_ROWS] :])


@compiled
def read(program: Program, images: Images, first: int, room: Room) -> int:
    """Take the next LANES images (N, C * H * W), or those that are left; returns where the block ends."""
    last = min(first + LANES, len(images))
    pixels = rows(room.neurons, 0, len(program.pixels))
    gather(pixels, images[first:last], program.levels, program.channels, program.pixels)
    return last


@compiled
def add_lanes(found: Gradients) -> None:
    """Add up the lanes of the gradients of scales and operators' own parameters."""
    candidates, sites, parameters, _ = found.lanes.shape
    for k in range(candidates):
        for site in range(sites):
            first = (k * sites + site) * parameters
            for i in range(len(SCALES)):
                found.scales[k, site, i] = sum_of(load(found.lanes, first + i))
            for i in range(len(SCALES), parameters):
                found.internal[k, site, i - len(SCALES)] = sum_of(load(found.lanes, first + i))


@compiled
def learn(
    program: Program,
    candidates: Candidates,
    images: Images,
    goal: Goal,
    room: Room,
    found: Gradients,
) -> None:
    """The losses of a batch and their gradients."""
    logits = program.steps[-1, OUT]
    first = 0
    while first < len(images):
        last = read(program, images, first, room)
        for k in range(len(found.losses)):
            ahead(program, candidates, k, room)
            loss = lose(goal, first, last, room.gradients[logits:], room.neurons[logits:], len(images))
            found.losses[k] += loss / len(images)
            back(program, candidates, k, room, found)
        first = last
    add_lanes(found)


@compiled
def pull(program: Program, candidates: Candidates, images: Images, given: Floats, room: Room, found: Gradients) -> None:
    """The gradients of a batch, given those of its logits (candidates, N, classes)."""
    logits = program.steps[-1, OUT]
    first = 0
    while first < len(images):
        last = read(program, images, first, room)
        for k in range(len(given)):
            ahead(program, candidates, k, room)
            room.gradients[logits:] = 0
            room.gradients[logits:, : last - first] = given[k, first:last].T
            back(program, candidates, k, room, found)
        first = last
    add_lanes(found)


@compiled
def infer(program: Program, candidates: Candidates, images: Images, room: Room, logits: Floats) -> None:
    """Write the logits (candidates, N, classes) of images (N, C * H * W)."""
    last_rows = room.neurons[program.steps[-1, OUT] :]
    first = 0
    while first < len(images):
        last = read(program, images, first, room)
        for k in range(len(logits)):
            ahead(program, candidates, k, room)
            logits[k, first:last] = last_rows.T[: last - first]
        first = last
