"""A text classifier with an embedding, by a training loop of your own: fairy tale or natural history?

python examples/text.py
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import safs_ray
from safs_ray.training import LoopContext

TALES = """a king had a daughter who wept | the wolf came to the door of the little house | once there was a poor miller
the frog sat by the well and spoke | a golden bird flew out of the tree | the youngest son went into the forest
the old queen locked her in the tower | he gave the dwarf his last piece of bread | the witch baked a house of cakes
and they lived happily until they died | the princess lost her golden ball | the fox told him to sit on his tail"""

NATURE = """species vary under domestication | the struggle for existence follows from increase | island birds differ
natural selection acts by small changes | the beaks of finches vary in form | hybrids of plants are often sterile
instincts are inherited as organs are | fossils show a succession of forms | rare species are liable to extinction
the geographical distribution of plants | variation is the material of selection | embryos of mammals are alike"""

LENGTH = 8


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence."""
    return [sentence.split() for line in text.splitlines() for sentence in line.split("|")]


WORDS = sorted({word for sentence in sentences(TALES) + sentences(NATURE) for word in sentence})


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sentences with words left out and exchanged, as indices (count, LENGTH) from 1, and their book (count,)."""
    draws, books = torch.Generator().manual_seed(seed), (sentences(TALES), sentences(NATURE))
    whose = torch.randint(2, (count,), generator=draws)
    indices = torch.zeros(count, LENGTH, dtype=torch.int64)
    for row, book in enumerate(whose.tolist()):
        sentence = books[book][int(torch.randint(len(books[book]), (), generator=draws))]
        kept = [word for word in sentence if torch.rand((), generator=draws) < 0.4] or sentence[:1]
        for place, word in enumerate(kept[:LENGTH]):
            indices[row, place] = 1 + WORDS.index(word)
    noise = torch.randint(1, 1 + len(WORDS), indices.shape, generator=draws)
    return torch.where(torch.rand(indices.shape, generator=draws) < 0.3, noise, indices), whose


TRAIN, VALIDATION, TEST = drawn(500, seed=0), drawn(200, seed=1), drawn(400, seed=2)


def train(module: nn.Module, context: LoopContext) -> float:
    """Your loop: it trains the module for ``context.epochs``, and returns how good it is."""
    optimizer, (indices, whose) = context.optimizer(), TRAIN
    for epoch in range(1, context.epochs + 1):
        module.train()
        for chosen in torch.randperm(len(whose)).split(50):
            optimizer.zero_grad()
            cross_entropy(module(indices[chosen]), whose[chosen]).backward()
            optimizer.step()
        context.report(epoch, accuracy(module, *VALIDATION))
    return accuracy(module, *(TEST if context.test else VALIDATION))


@torch.no_grad()
def accuracy(module: nn.Module, indices: Tensor, whose: Tensor) -> float:
    """Fraction of the sentences whose book is told."""
    return (module.eval()(indices).argmax(1) == whose).float().mean().item()


def main(settings: tuple[str, ...] = ()) -> None:
    """Sparsify a text classifier, and look at what was gained; its embedding stays whole."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Embedding(1 + len(WORDS), 16), nn.Flatten(), nn.Linear(16 * LENGTH, 64), nn.ReLU()),
        *(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)),
    )
    sparse = safs_ray.sparsify_with(train, network, TRAIN[0], epochs=12, sparsity=0.97, settings=settings)
    print(sparse)


if __name__ == "__main__":
    main()
