"""A table of numbers, by a training loop of your own: scikit-learn's breast cancer data.

python examples/breast_cancer.py
"""

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.nn.functional import cross_entropy

import safs_ray
from safs_ray.training import LoopContext

table = load_breast_cancer()
order = torch.randperm(len(table.target), generator=torch.Generator().manual_seed(0))
TRAIN, VALIDATION, TEST = order[:369], order[369:469], order[469:]
raw = torch.tensor(table.data, dtype=torch.float32)
INPUTS = (raw - raw[TRAIN].mean(0)) / raw[TRAIN].std(0)
CLASSES = torch.tensor(table.target)


def train(module: nn.Module, context: LoopContext) -> float:
    """Your loop: it trains the module for ``context.epochs``, and returns how good it is."""
    optimizer = context.optimizer()  # as the search proposes it; or one of your own
    for epoch in range(1, context.epochs + 1):
        module.train()
        for rows in TRAIN[torch.randperm(len(TRAIN))].split(32):
            optimizer.zero_grad()
            cross_entropy(module(INPUTS[rows]), CLASSES[rows]).backward()
            optimizer.step()
        context.report(epoch, accuracy(module, VALIDATION))
    return accuracy(module, TEST if context.test else VALIDATION)


@torch.no_grad()
def accuracy(module: nn.Module, rows: torch.Tensor) -> float:
    """Fraction of the rows that are classified correctly."""
    return (module.eval()(INPUTS[rows]).argmax(1) == CLASSES[rows]).float().mean().item()


def main(settings: tuple[str, ...] = ()) -> None:
    """Sparsify a network of a table, and look at what was gained."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    sparse = safs_ray.sparsify_with(train, network, INPUTS[TRAIN], epochs=20, sparsity=0.99, settings=settings)
    print(sparse)


if __name__ == "__main__":
    main()
