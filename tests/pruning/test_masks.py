from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from safs_ray.pruning.masks import count_kept, hold_at_zero, prunable_weights


def test_prunable_are_the_weights_of_convolutions_and_linear_layers() -> None:
    module = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(1, 2, 3),
            norm=nn.BatchNorm2d(2),
            act=nn.PReLU(),
            block=nn.Sequential(nn.Conv1d(1, 1, 1), nn.Conv3d(1, 1, 1), nn.LayerNorm(4)),
            fc=nn.Linear(4, 3, bias=False),
        )
    )
    weights = prunable_weights(module)
    assert list(weights) == ["conv.weight", "block.0.weight", "block.1.weight", "fc.weight"]
    state = module.state_dict()
    for name, weight in weights.items():
        assert weight.data_ptr() == state[name].data_ptr()


def test_a_bare_layer_is_prunable() -> None:
    layer = nn.Linear(2, 2)
    assert list(prunable_weights(layer)) == ["weight"]
    assert prunable_weights(layer)["weight"] is layer.weight


def test_a_network_without_such_layers_has_no_prunable_weights() -> None:
    assert prunable_weights(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3))) == {}


def test_held_weights_are_exact_zeros_and_the_others_as_they_were() -> None:
    first = nn.Parameter(torch.tensor([[1.0, -2.0], [float("nan"), float("inf")]]))
    second = nn.Parameter(torch.tensor([-0.5, 3.0]))
    hold_at_zero([first, second], [torch.tensor([[False, True], [True, True]]), torch.tensor([True, False])])
    assert first.tolist() == [[1, 0], [0, 0]]
    assert second.tolist() == [0, 3]
    assert not torch.signbit(first).any()
    assert first.requires_grad
    assert first.is_leaf


def test_kept_weights_are_counted_over_all_masks() -> None:
    masks = {"a": torch.tensor([[True, False], [True, True]]), "b": torch.tensor([False]), "c": torch.ones(3).bool()}
    assert count_kept(masks) == 6
    assert count_kept({}) == 0
