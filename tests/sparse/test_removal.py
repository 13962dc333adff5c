from __future__ import annotations

import numpy as np
import pytest

from safs_ray.sparse.graph import (
    Activation,
    Affine,
    Images,
    MaxPool,
    Normalisation,
    Operation,
    Same,
    Step,
    Sum,
)
from safs_ray.sparse.removal import connections, live_neurons, needed_channels
from safs_ray.sparse.windows import window, windows

ONE = np.zeros((1, 1), np.int64)


def linear(owner: str) -> Affine:
    return Affine(owner, ONE, groups=1, bias=True, taken=())


def rows(*lists: list[int]) -> np.ndarray:
    """A weight (outputs, inputs, 1) from rows of 0 and 1."""
    return np.array(lists, bool)[:, :, None]


def steps(*layers: tuple[Operation, tuple[int, ...], int, int]) -> list[Step]:
    return [Step(operation, inputs, channels, pixels) for operation, inputs, channels, pixels in layers]


def test_neurons_that_reach_no_output_go_and_those_without_input_stay() -> None:
    network = steps(
        (Images(), (), 3, 1), (linear("a"), (0,), 3, 1), (Activation("s"), (1,), 3, 1), (linear("b"), (2,), 2, 1)
    )
    # Neuron 0 is read, neuron 1 is not, neuron 2 is read but sees no image.
    kept = {"a": rows([1, 0, 0], [0, 1, 1], [0, 0, 0]), "b": rows([1, 0, 0], [0, 0, 1])}
    images, hidden, activated, logits = live_neurons(network, kept, whole_channels=False)
    assert hidden.ravel().tolist() == activated.ravel().tolist() == [True, False, True]
    assert images.ravel().tolist() == [True, False, False]
    assert logits.all()


def test_pixels_follow_windows() -> None:
    table = windows((1, 4, 4), (1, 3, 3), window(2, 1, 0))
    pool = windows((1, 3, 3), (1, 1, 1), window(2, 2, 0))
    network = steps(
        (Images(), (), 1, 16),
        (Affine("conv", table, 1, bias=True, taken=()), (0,), 1, 9),
        (MaxPool(pool), (1,), 1, 1),
        (Same(), (2,), 1, 1),
        (linear("b"), (3,), 2, 1),
    )
    kept = {"conv": np.array([[[False, True, False, False]]]), "b": rows([1], [0])}  # the pixel to the right
    images, convolved, *_ = live_neurons(network, kept, whole_channels=False)
    assert np.flatnonzero(convolved).tolist() == [0, 1, 3, 4]
    assert np.flatnonzero(images).tolist() == [1, 2, 5, 6]
    assert all(own.all() for own in live_neurons(network, kept, whole_channels=True))


@pytest.mark.parametrize("whole_channels", [False, True])
def test_normalisation_needs_whole_channels_and_a_sum_what_either_side_has(whole_channels: bool) -> None:
    network = steps(
        (Images(), (), 2, 4),
        (Affine("a", np.arange(4)[:, None], 1, bias=False, taken=()), (0,), 3, 4),
        (Normalisation("n"), (1,), 3, 4),
        (Affine("c", np.arange(4)[:, None], 1, bias=False, taken=()), (2,), 3, 4),
        (Sum(), (3, 2), 3, 4),
        (Same(), (4,), 12, 1),
        (linear("b"), (5,), 1, 1),
    )
    kept = {
        "a": rows([1, 0], [0, 1], [1, 1]),
        "c": rows([0, 0, 1], [0, 0, 0], [0, 0, 0]),
        "b": rows([1] + [0] * 11),  # the first pixel of the first channel
    }
    needed = [channels.tolist() for channels in needed_channels(network, kept)]
    assert needed[2:5] == [[True, False, True], [True, False, False], [True, False, False]]
    live = live_neurons(network, kept, whole_channels)
    assert live[2].any(1).tolist() == live[1].any(1).tolist() == [True, False, True]
    assert (live[2].any(1) == live[2].all(1)).all()
    assert (live[4] == live[3]).all()
    assert (live[4] == live[2]).all()


def test_groups_read_their_own_channels() -> None:
    affine = Affine("g", ONE, groups=2, bias=False, taken=())
    found = connections(affine, np.ones((4, 1, 1), bool), pixels=1)
    assert found.source.tolist() == [0, 0, 1, 1]
    assert found.target.tolist() == found.weight.tolist() == [0, 1, 2, 3]
