"""Losses in the compiled pass: of a block of images, while it is in the cache."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from safs_ray.losses import CompiledLoss, Targets
from safs_ray.sparse.lanes import (
    LANES,
    Doubles,
    Floats,
    compiled,
    exponential,
    larger,
    load,
    logarithm,
    minus,
    over,
    plus,
    spread,
    store,
    times,
)

Classes = npt.NDArray[np.int64]

WEIGHTS = 3
"""Where the weights of classes begin among the settings of cross-entropy."""

CROSS_ENTROPY, MEAN_SQUARED_ERROR, BINARY_CROSS_ENTROPY = range(3)
KINDS = {
    "cross entropy": CROSS_ENTROPY,
    "mean squared error": MEAN_SQUARED_ERROR,
    "binary cross entropy": BINARY_CROSS_ENTROPY,
}
"""The kernel of each loss, by its name."""


class Goal(NamedTuple):
    """A loss, and what it wants of a batch of N images.

    Attributes:
        classes: (N,), or empty.
        values: (N, any number), or empty.
    """

    kind: int
    settings: Doubles
    classes: Classes
    values: Floats


def goal_of(loss: CompiledLoss, targets: Targets, dtype: np.dtype[np.floating]) -> Goal:
    """A loss of a batch as plain arrays, values in the type of the network."""
    classes, values = (tensor.numpy() for tensor in loss.prepared(targets))
    return Goal(KINDS[loss.name], np.array(loss.settings), classes, np.ascontiguousarray(values, dtype))


@compiled
def lose(goal: Goal, first: int, last: int, gradients: Floats, outputs: Floats, count: int) -> float:
    """The sum of the losses of a block's images, and the gradients of their mean over ``count`` images.

    Args:
        first, last: the block's images in the batch are those from the first on, before the last.
        gradients: (outputs, LANES), written; 0 in the lanes behind the last image.
        outputs: (outputs, LANES).
    """
    gradients[:] = 0
    classes, values = goal.classes[first:last], goal.values[first:last]
    if goal.kind == CROSS_ENTROPY:
        return cross_entropy(gradients, outputs, classes, values, goal.settings, count)
    if goal.kind == MEAN_SQUARED_ERROR:
        return mean_squared_error(gradients, outputs, values, count)
    if goal.kind == BINARY_CROSS_ENTROPY:
        return binary_cross_entropy(gradients, outputs, values, goal.settings, count)
    raise ValueError


@compiled
def cross_entropy(
    gradients: Floats, logits: Floats, classes: Classes, soft: Floats, settings: Doubles, count: int
) -> float:
    """See :class:`safs_ray.losses.CrossEntropy`.

    With p = softmax(z) and q = softmax(z / T) the gradient is
    (1 - w) (p - (1 - s) y - s / K) + w T (q - softmax(teacher / T)), the first part times the weight of the class.

    Args:
        soft: the teacher's probabilities.
        settings: smoothing s, share w and temperature T, then the weights of the classes, if there are any.
    """
    smoothing, share, temperature = settings[0], settings[1], settings[2]
    of_lanes = np.zeros((3, LANES), logits.dtype)
    hard, losses, largest = of_lanes  # of each image: the weight of its class, its loss, its largest logit
    most = load(logits, 0)
    for row in range(1, len(logits)):
        most = larger(most, load(logits, row))
    store(of_lanes, 2, most)
    for lane in range(len(classes)):
        hard[lane] = 1 - share
        if len(settings) > WEIGHTS:
            hard[lane] *= settings[WEIGHTS + classes[lane]]
        losses[lane] = (1 - smoothing) * (largest[lane] - logits[classes[lane], lane])
    even, norm = spread(logits.dtype.type(smoothing / len(logits))), spread(logits.dtype.type(0))
    for row in range(len(logits)):
        distance = minus(load(logits, row), most)  # from the largest, so that no digits are lost to what all share
        power = exponential(distance)
        store(gradients, row, power)
        norm = plus(norm, power)
        if smoothing:
            store(of_lanes, 1, minus(load(of_lanes, 1), times(even, distance)))
    store(of_lanes, 1, plus(load(of_lanes, 1), logarithm(norm)))
    for row in range(len(logits)):
        store(gradients, row, minus(over(load(gradients, row), norm), even))
    for lane in range(len(classes)):
        gradients[classes[lane], lane] -= 1 - smoothing  # before the scale, so that of a certain class 0 is left
    scale = times(load(of_lanes, 0), spread(logits.dtype.type(1 / count)))
    for row in range(len(logits)):
        store(gradients, row, times(scale, load(gradients, row)))
    gradients[:, len(classes) :] = 0  # whatever the logits are there
    total = 0.0
    for lane in range(len(classes)):
        total += hard[lane] * losses[lane]
        if share:
            total += share * temperature * add_soft(gradients, logits, lane, largest[lane], soft[lane], settings, count)
    return total


@compiled
def add_soft(
    gradients: Floats, logits: Floats, lane: int, largest: float, soft: Floats, settings: Doubles, count: int
) -> float:
    """T times the cross-entropy of an image at the temperature T; adds the gradient of its part of the loss.

    Args:
        largest: of the image's logits.
        soft: the teacher's probabilities of the image.
    """
    share, temperature = settings[1], settings[2]
    norm, reached = 0.0, 0.0
    for row in range(len(logits)):
        norm += math.exp((logits[row, lane] - largest) / temperature)
        reached += soft[row] * logits[row, lane]
    for row in range(len(logits)):
        own = math.exp((logits[row, lane] - largest) / temperature) / norm
        gradients[row, lane] += share * temperature * (own - soft[row]) / count
    return float(temperature * math.log(norm) + largest - reached)


@compiled
def mean_squared_error(gradients: Floats, outputs: Floats, values: Floats, count: int) -> float:
    """See :class:`safs_ray.losses.MeanSquaredError`; the gradient of a mean over K outputs is 2 (z - y) / K.

    Args:
        values: (images, outputs).
    """
    total = 0.0
    for lane in range(len(values)):
        for row in range(len(outputs)):
            difference = outputs[row, lane] - values[lane, row]
            total += difference * difference / len(outputs)
            gradients[row, lane] = 2 * difference / len(outputs) / count
    return total


@compiled
def binary_cross_entropy(gradients: Floats, outputs: Floats, values: Floats, weights: Doubles, count: int) -> float:
    """See :class:`safs_ray.losses.BinaryCrossEntropy`.

    With s = sigmoid(z), y whether the label applies and w its weight the loss is w y softplus(-z) + (1 - y) softplus(z)
    and its gradient (1 - y) s - w y (1 - s), each divided by the number of labels. Neither overflows: both are written
    by exp(-|z|).

    Args:
        values: (images, labels), from 0 to 1.
        weights: of the labels, or empty.
    """
    total = 0.0
    for lane in range(len(values)):
        for row in range(len(outputs)):
            z, applies = outputs[row, lane], values[lane, row]
            weighted = applies * weights[row] if len(weights) else applies
            decay = math.exp(-abs(z))
            rest = math.log1p(decay)  # softplus(z) = max(z, 0) + rest
            total += (weighted * (max(-z, 0.0) + rest) + (1 - applies) * (max(z, 0.0) + rest)) / len(outputs)
            above = (1.0 if z >= 0 else decay) / (1 + decay)
            gradients[row, lane] = ((1 - applies) * above - weighted * (1 - above)) / len(outputs) / count
    return total
