"""A signal, by a training loop of your own: a 1-d convolution tells three shapes of noisy waves apart.

python examples/series.py
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import safs_ray
from safs_ray.training import LoopContext


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sines, squares and sawtooths of random pitch and phase under noise (count, 1, 64), and which each is (count,)."""
    draws = torch.Generator().manual_seed(seed)
    pitch, phase = 2 + 4 * torch.rand(count, 1, generator=draws), torch.rand(count, 1, generator=draws)
    turns = pitch * torch.linspace(0, 1, 64) + phase
    shapes = torch.stack([(2 * torch.pi * turns).sin(), (2 * torch.pi * turns).sin().sign(), 2 * (turns % 1) - 1])
    kinds = torch.randint(3, (count,), generator=draws)
    clean = shapes[kinds, torch.arange(count)]
    return (clean + 0.5 * torch.randn(count, 64, generator=draws))[:, None], kinds


TRAIN, VALIDATION, TEST = waves(600, seed=0), waves(200, seed=1), waves(400, seed=2)


def train(module: nn.Module, context: LoopContext) -> float:
    """Your loop: it trains the module for ``context.epochs``, and returns how good it is."""
    optimizer, (signals, kinds) = context.optimizer(), TRAIN
    for epoch in range(1, context.epochs + 1):
        module.train()
        for chosen in torch.randperm(len(kinds)).split(64):
            optimizer.zero_grad()
            cross_entropy(module(signals[chosen]), kinds[chosen]).backward()
            optimizer.step()
        context.report(epoch, accuracy(module, *VALIDATION))
    return accuracy(module, *(TEST if context.test else VALIDATION))


@torch.no_grad()
def accuracy(module: nn.Module, signals: Tensor, kinds: Tensor) -> float:
    """Fraction of the signals whose kind is told."""
    return (module.eval()(signals).argmax(1) == kinds).float().mean().item()


def main(settings: tuple[str, ...] = ()) -> None:
    """Sparsify a network of signals, and look at what was gained."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv1d(1, 16, 7, stride=2), nn.ReLU(), nn.Conv1d(16, 32, 7, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 12, 3)),
    )
    sparse = safs_ray.sparsify_with(train, network, TRAIN[0], epochs=12, sparsity=0.98, settings=settings)
    print(sparse)


if __name__ == "__main__":
    main()
