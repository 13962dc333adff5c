"""Examples as tensors in memory: folds, batches and augmentation.

Batches are slices of one permuted tensor and augmentation is a tensor operation on the batch, so no Python
runs per image. Every draw comes from a generator given by the caller.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import pad

from safs_ray.losses import Targets
from safs_ray.mapped import MappedRows
from safs_ray.randomness import generator

Array = npt.NDArray[np.generic]
Arrays = Mapping[str, Array | MappedRows]
"""The content of a data set, as it goes from one process to another."""

Counts = npt.NDArray[np.int64]

COUNTED_AT_A_TIME = 4096
"""Images whose pixels are counted at a time: they may be more than memory holds."""


def as_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """Views of numpy arrays, which may be read-only: nothing in the package writes to such a tensor."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {name: array if isinstance(array, Tensor) else torch.from_numpy(array) for name, array in arrays.items()}


@dataclass(frozen=True)
class Examples:
    """Inputs and what is to be predicted of them.

    Attributes:
        inputs: (N, …): uint8, as images (N, C, H, W) are, float32, or int64 for the indices of an embedding.
        labels: classes (N,), int64; or float32 (N, outputs): values, or of each label whether it applies, 1 or 0.

    Attributes:
        taught: the logits (N, classes) of a network that others learn from; None without one.

    Examples:
        >>> examples = Examples(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1]))
        >>> len(examples), examples[1:].labels.tolist()
        (3, [1, 1])
    """

    inputs: Tensor
    labels: Tensor
    taught: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> Targets:
        """What the outputs for these images should be."""
        return Targets(self.labels, self.taught)

    @property
    def has_classes(self) -> bool:
        """Whether each example is of one class."""
        return self.labels.dtype == torch.int64

    def standardised(self, change: Callable[[Tensor], Tensor]) -> Examples:
        """These with their labels as a network computes them."""
        return replace(self, labels=change(self.labels))

    def __getitem__(self, chosen: slice | Tensor) -> Examples:
        return self.applied(lambda each: each[chosen])

    def to(self, device: torch.device) -> Examples:
        return self.applied(lambda each: each.to(device))

    def applied(self, change: Callable[[Tensor], Tensor]) -> Examples:
        """These with each tensor changed, such as to some of its rows."""
        return Examples(change(self.inputs), change(self.labels), None if self.taught is None else change(self.taught))

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel, or feature; of bytes scaled to [0, 1]. Of indices none.

        Examples:
            >>> images = torch.tensor([0, 0, 255, 255], dtype=torch.uint8).view(1, 1, 2, 2)
            >>> Examples(images, torch.tensor([0])).statistics()
            ((0.5,), (0.5,))
            >>> Examples(torch.tensor([[1.0, 7.0], [3.0, 7.0]]), torch.tensor([0, 1])).statistics()
            ((2.0, 7.0), (1.0, 1.0))
        """
        if self.inputs.dtype == torch.int64:
            return (), ()
        if self.inputs.dtype != torch.uint8 or self.inputs.dim() != 4:
            channels = self.inputs.transpose(0, 1).flatten(1)
            return moments(channels, 255 if self.inputs.dtype == torch.uint8 else 1)
        parts = self.inputs.split(COUNTED_AT_A_TIME)  # type: ignore[no-untyped-call]
        counts = torch.stack([_levels(part) for part in parts]).sum(0).double()
        levels = torch.arange(256, dtype=torch.float64) / 255
        weights = counts / counts.sum(1, keepdim=True)
        mean = weights @ levels
        deviation = (weights @ levels**2 - mean**2).clamp(min=1e-12).sqrt()
        deviation[(counts > 0).sum(1) == 1] = 1  # of a constant channel, as of other numbers
        return tuple(mean.tolist()), tuple(deviation.tolist())


LEAST = 1e-30
"""Deviations below are as good as 0: float32 would divide by what processors may take for 0."""


def moments(channels: Tensor, unit: float = 1) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each row of numbers, in units of so much; a constant one has the deviation 1."""
    found = [torch.var_mean(channel.double() / unit, correction=0) for channel in channels]
    deviations = (variance.sqrt().item() for variance, _ in found)
    constant = (bool((channel == channel[0]).all()) for channel in channels)
    mean = tuple(mean.item() for _, mean in found)
    return mean, tuple(1.0 if same or own < LEAST else own for own, same in zip(deviations, constant, strict=True))


@dataclass(frozen=True)
class Dataset:
    """A source's examples for training and validation (the pool), and those for the test.

    Attributes:
        outputs: how many numbers a network computes for an input: of classes one more than the highest; 0 where only
            the network knows.
        names: of the classes, by label; empty where the source has none.
    """

    pool: Examples
    test: Examples
    outputs: int
    names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return tuple(self.pool.inputs.shape[1:])

    def name_of(self, label: int) -> str:
        """A class as a person knows it."""
        return self.names[label] if self.names else str(label)

    def arranged(self, seed: int, validation: float, folds: int) -> Dataset:
        """The same with the pool in an order drawn from the seed, as :class:`Folds` wants it.

        It begins with a block of validation examples for each fold. Where there are classes, each block has of every
        one its share of the pool, rounded down or up, but one example at least where the block is large enough for all;
        and where so many classes need that one example, the others give way. Those behind the blocks are in random
        order.

        Args:
            validation, folds: as of :class:`Folds`; every class must have more images than there are folds.
        """
        draws = generator(seed, "pool")
        shuffled = torch.randperm(len(self.pool), generator=draws)
        labels = self.pool.labels[shuffled].numpy() if self.pool.has_classes else np.zeros(len(self.pool))
        classes = np.unique(labels, return_inverse=True)[1]
        offset = torch.rand((), generator=draws, dtype=torch.float64).item()
        dealt = _dealt(np.bincount(classes), block_size(len(self.pool), validation), folds, offset)
        order = np.argsort(_block_of_each(classes, dealt), kind="stable")
        return replace(self, pool=self.pool[shuffled[torch.from_numpy(order)]])

    def without_test(self) -> Dataset:
        """What the search may see."""
        return replace(self, test=self.test[:0])

    def taught(self, logits: Tensor) -> Dataset:
        """The same with a teacher's logits (N, classes) of the images of the pool."""
        return replace(self, pool=replace(self.pool, taught=logits))

    def arrays(self) -> Arrays:
        """The content as numpy, which Ray's object store shares without a copy; what lies in a file as it is."""
        taught = self.pool.taught
        return {
            **({} if taught is None else {"pool.taught": taught.numpy()}),
            "pool.inputs": _array(self.pool.inputs),
            "pool.labels": self.pool.labels.numpy(),
            "test.inputs": _array(self.test.inputs),
            "test.labels": self.test.labels.numpy(),
            "outputs": np.array(self.outputs),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Dataset:
        """The inverse of :meth:`arrays`; the tensors are views, read-only where the arrays are.

        Examples:
            >>> images, labels = np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1])
            >>> parts = {"pool.inputs": images, "pool.labels": labels, "test.inputs": images, "test.labels": labels}
            >>> dataset = Dataset.from_arrays({**parts, "outputs": np.array(2)})
            >>> len(dataset.pool), dataset.shape, dataset.outputs
            (4, (1, 8, 8), 2)
        """
        tensors = as_tensors(arrays)
        return cls(
            Examples(tensors["pool.inputs"], tensors["pool.labels"], tensors.get("pool.taught")),
            Examples(tensors["test.inputs"], tensors["test.labels"]),
            int(arrays["outputs"]),
        )


def _array(inputs: Tensor) -> Array | MappedRows:
    return inputs if isinstance(inputs, MappedRows) else inputs.numpy()


def _levels(images: Tensor) -> Tensor:
    """How often each of the 256 values is in each channel of images (N, C, H, W): (C, 256)."""
    channels = images.transpose(0, 1).flatten(1)
    return torch.stack([torch.bincount(channel, minlength=256) for channel in channels])


def block_size(pool: int, validation: float) -> int:
    """Images of a block that a fold validates on, of so many in the pool."""
    return max(1, int(pool * validation))


def _dealt(counts: Counts, block: int, folds: int, offset: float) -> Counts:
    """How many images (folds, classes) of each class each block gets, of classes with so many images.

    What is left of a block once each class has the least that it is due goes to the classes by what their shares have
    above that: laid end to end, each is as long as that, and gets an image for every whole number, shifted by the
    offset in [0, 1), that lies in it. The blocks' offsets lie evenly, so that the classes take turns.
    """
    shares, least = block * counts / counts.sum(), block * counts // counts.sum()
    if block >= len(counts):
        least = np.maximum(least, 1)
    if least.sum() > block:
        least = np.ones_like(counts)
    left, above = block - least.sum(), np.maximum(shares - least, 0)
    ends = np.cumsum(above) * (left / max(above.sum(), 1e-12))
    ends[-1] = left
    offsets = (offset + np.arange(folds) / folds) % 1
    further: Counts = np.diff(np.minimum(np.floor(ends + offsets[:, None]), left), prepend=0).astype(np.int64)
    due: Counts = least + further
    return due


def _block_of_each(classes: Counts, dealt: Counts) -> Counts:
    """The block of each image; of one that is in none, the number behind the last."""
    counts, by_class = np.bincount(classes), np.argsort(classes, kind="stable")
    place = np.empty_like(classes)  # of an image among those of its class
    place[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = np.cumsum(dealt, axis=0)
    blocks: Counts = sum((end[classes] <= place for end in ends), np.zeros_like(classes))
    return blocks


@dataclass(frozen=True)
class Splits:
    """Images to train on, to choose by, and to test with. Only the final evaluation reads ``test``."""

    train: Examples
    validation: Examples
    test: Examples


@dataclass(frozen=True)
class Folds:
    """A data set whose pool begins with a block of validation images for each fold, as :meth:`Dataset.arranged` does.

    Dense training, pruning and search train on the images behind all blocks and validate on block 0, finalists on all
    blocks. The final evaluation of a fold trains on all but the fold's own block. So no network is ever validated on an
    image that it, or the network it was made from, was trained on.

    Args:
        validation: fraction of the pool in one block, in (0, 0.5].
        count: number of folds; count * validation must be below 1.

    Examples:
        >>> examples = Examples(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10) % 2)
        >>> folds = Folds(Dataset(examples, examples, outputs=2), validation=0.2, count=3)
        >>> len(folds.search().train), len(folds.search().validation), len(folds.final(0).train)
        (4, 2, 8)
        >>> len(folds.finalists().train), len(folds.finalists().validation)
        (4, 6)
    """

    dataset: Dataset
    validation: float
    count: int

    def search(self) -> Splits:
        """What all stages before the final evaluation see; slices of the pool, not copies."""
        pool = self.dataset.pool
        return Splits(pool[self.count * self._block :], pool[self._of(0)], self.dataset.test)

    def finalists(self) -> Splits:
        """What the trainings that choose between finalists see: as in the search, validated on the blocks of all folds.

        The search has seen the first of these blocks only.
        """
        pool, held_out = self.dataset.pool, self.count * self._block
        return Splits(pool[held_out:], pool[:held_out], self.dataset.test)

    def final(self, fold: int) -> Splits:
        """What the final evaluation of a fold sees."""
        pool, block = self.dataset.pool, self._of(fold)
        others = torch.ones(len(pool), dtype=torch.bool)
        others[block] = False
        return Splits(pool[others], pool[block], self.dataset.test)

    @property
    def _block(self) -> int:
        return block_size(len(self.dataset.pool), self.validation)

    def _of(self, fold: int) -> slice:
        return slice(fold * self._block, (fold + 1) * self._block)


def batches(
    examples: Examples, batch_size: int, order: torch.Generator, augment: Callable[[Tensor], Tensor]
) -> Iterator[Examples]:
    """One shuffled pass in batches of nearly equal size, none above ``batch_size``.

    Equal sizes keep a last batch of a single image, of more than two, away from batch normalisation.
    """
    permutation = torch.randperm(len(examples), generator=order).to(examples.labels.device)
    for chosen in permutation.tensor_split(batch_count(len(examples), batch_size)):
        # index_select: seven times faster than brackets, and no second copy of all images.
        batch = examples.applied(partial(torch.index_select, dim=0, index=chosen))
        yield replace(batch, inputs=augment(batch.inputs))


def batch_count(examples: int, batch_size: int) -> int:
    """How many batches one pass over so many examples takes."""
    return -(-examples // batch_size)


def augmentation(crop: int, flip: bool, draws: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Random crops of zero-padded images and random horizontal flips, (N, C, H, W) to the same shape."""

    def augment(images: Tensor) -> Tensor:
        if crop:
            images = _random_crops(images, crop, draws)
        if flip:
            flipped = torch.rand(len(images), generator=draws).to(images.device) < 0.5
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        return images

    return augment


def _random_crops(images: Tensor, padding: int, draws: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    corners = torch.randint(2 * padding + 1, (2, count, 1), generator=draws).to(images.device)
    rows = corners[0] + torch.arange(height, device=images.device)
    columns = corners[1] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None]
    padded = pad(images, (padding,) * 4)
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
