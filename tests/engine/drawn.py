"""Networks of random layers and branches."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Drawn(nn.Module):
    """Layers and branches that a seed draws."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draws = random.Random(seed)
        self.layers = nn.ModuleList()
        channels, side = 3, draws.randint(5, 11)
        self.size = side
        for _ in range(draws.randint(1, 5)):
            kind = draws.choice([_convolution, _convolution, _pooling, Residual, Excited, Joined])
            layer = kind(draws, channels, side)
            out = layer.eval()(torch.zeros(2, channels, side, side))
            if out.shape[3] > 1:  # else a batch of one image has no statistics
                channels, side = out.shape[1], out.shape[3]
                self.layers.append(layer)
        self.act, self.hidden = nn.ReLU(), nn.Linear(channels * side * side, draws.choice([5, 33, 40]))
        self.last = nn.Linear(self.hidden.out_features, draws.randint(2, 5))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.last(self.act(self.hidden(torch.flatten(x, 1))))


def _convolution(draws: random.Random, channels: int, side: int) -> nn.Module:
    kernel = draws.choice([each for each in (1, 2, 3, 5) if each <= side])
    groups = draws.choice([1, 1, channels])
    out = channels * draws.choice([1, 2]) if groups > 1 else draws.choice([4, 7, 9])
    dilation = draws.choice([1, 2]) if 2 * kernel <= side else 1
    layers: list[nn.Module] = [
        nn.Conv2d(
            channels, out, kernel, draws.choice([1, 1, 2, 3]), draws.randint(0, kernel // 2), dilation, groups,
            bias=draws.random() < 0.5,
        )
    ]  # fmt: skip
    if draws.random() < 0.5:
        layers.append(nn.BatchNorm2d(out))
    if draws.random() < 0.8:
        layers.append(draws.choice([nn.ReLU, nn.SiLU])())
    return nn.Sequential(*layers)


def _pooling(draws: random.Random, _channels: int, side: int) -> nn.Module:
    kernel = draws.choice([each for each in (2, 3) if each <= side] or [1])
    settings = {"stride": draws.choice([1, 2]), "padding": draws.randint(0, kernel // 2)}
    return draws.choice([
        nn.MaxPool2d(kernel, ceil_mode=draws.random() < 0.3, **settings),
        nn.AvgPool2d(kernel, count_include_pad=draws.random() < 0.5, **settings),
        nn.AdaptiveAvgPool2d(draws.randint(1, side)),
        nn.Upsample(scale_factor=2) if side < 8 else nn.Identity(),
    ])  # fmt: skip


class Residual(nn.Module):
    def __init__(self, draws: random.Random, channels: int, _side: int) -> None:
        super().__init__()
        out, stride = draws.choice([(channels, 1), (6, 2)])
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1), nn.BatchNorm2d(out), nn.ReLU(), nn.Conv2d(out, out, 3, 1, 1)
        )
        self.side = nn.Identity() if stride == 1 else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.side(x))


class Excited(nn.Module):
    def __init__(self, draws: random.Random, channels: int, _side: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 3, 1), nn.Conv2d(3, channels, 1)
        self.gate = draws.choice([nn.Sigmoid, nn.Hardsigmoid])()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class Joined(nn.Module):
    def __init__(self, draws: random.Random, channels: int, _side: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(channels, 5, 1), nn.Conv2d(channels, 4, 3, padding=1)
        self.reads_both = draws.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.one(x))
        return torch.cat([one, self.two(x), x] if self.reads_both else [self.two(x), one], 1)
