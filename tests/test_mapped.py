"""Rows of a file behave as a tensor of the same rows, and are read no sooner than they are computed with."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from safs_ray import data
from safs_ray.data import Dataset, Examples, Folds, batches
from safs_ray.mapped import MappedRows
from safs_ray.randomness import generator

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 4), dtype=np.uint8)


@pytest.fixture
def mapped(tmp_path: Path) -> MappedRows:
    np.save(tmp_path / "images.npy", PIXELS)
    return MappedRows.of(partial(np.load, tmp_path / "images.npy", mmap_mode="r"))


HELD = torch.from_numpy(PIXELS.copy())
ORDER = torch.randperm(40, generator=generator(0, "order"))


@pytest.mark.parametrize(
    "choose",
    [
        lambda images: images[5:30:3],
        lambda images: images[-3:],
        lambda images: images[ORDER],
        lambda images: images[[3, 1, 3]],
        lambda images: images[ORDER.numpy()],
        lambda images: images[(np.arange(40) % 3 == 0).tolist()],
        lambda images: images[ORDER][ORDER[:7]],
        lambda images: images[torch.arange(40) % 3 == 0][2:9],
        lambda images: torch.split(images, 7)[2],
        lambda images: images.split(40)[0],
        lambda images: images.tensor_split(7)[3],
        lambda images: images[:0],
        lambda images: images.to(torch.device("cpu")),
    ],
)
def test_mapped_rows_are_chosen_without_being_read(
    mapped: MappedRows, choose: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, torch.inference_mode():
        patch.setattr(MappedRows, "read", None)
        chosen, expected = choose(mapped), choose(HELD)
        assert isinstance(chosen, MappedRows)
        assert (chosen.shape, chosen.dtype, len(chosen)) == (expected.shape, torch.uint8, len(expected))
        assert chosen.device == torch.device("cpu")
    assert torch.equal(chosen.read(), expected)


@pytest.mark.parametrize(
    "index",
    [3, -1, np.int64(3), torch.tensor(3), (3, 1), (slice(5, 6), 0), (slice(2, 4), ..., slice(1, 3)), (-2, ..., None)],
)
def test_one_row_of_mapped_rows_is_read_without_the_others(
    mapped: MappedRows, index: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_few(rows: MappedRows, read: Callable[[MappedRows], Tensor] = MappedRows.read) -> Tensor:
        assert len(rows) <= 2
        return read(rows)

    monkeypatch.setattr(MappedRows, "read", read_few)
    row = mapped[index]
    assert type(row) is Tensor
    assert torch.equal(row, HELD[index])
    with pytest.raises(IndexError):
        mapped[40]


def test_one_row_of_mapped_rows_is_a_copy(mapped: MappedRows) -> None:
    for index in (3, torch.tensor(3), (3, slice(1, 3))):
        mapped[index].zero_()
    assert torch.equal(mapped[3], HELD[3])


@pytest.mark.parametrize(
    "index",
    [
        torch.tensor(2, dtype=torch.uint8),
        [torch.tensor(0), torch.tensor(1)],
        [True] * 40,
        [],
        torch.tensor([], dtype=int),
    ],
)
def test_other_indices_of_mapped_rows_are_those_of_a_tensor(mapped: MappedRows, index: Any) -> None:
    assert torch.equal(mapped[index] + 0, HELD[index])


def test_items_of_a_data_set_of_mapped_rows_are_read_one_by_one(
    mapped: MappedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MappedRows, "read", None)
    loader = DataLoader(TensorDataset(mapped, torch.arange(40)), batch_size=7, shuffle=True)
    for images, numbers in loader:
        assert torch.equal(images, HELD[numbers])


@pytest.mark.parametrize("split", [lambda images: torch.split(images, 7), lambda images: images.tensor_split(6)])
def test_parts_of_mapped_rows_are_those_of_a_tensor(
    mapped: MappedRows, split: Callable[[Tensor], tuple[Tensor, ...]]
) -> None:
    for part, expected in zip(split(mapped), split(HELD), strict=True):
        assert torch.equal(part, expected)


@pytest.mark.parametrize(
    "compute",
    [
        lambda images: images.float() / 255,
        lambda images: images[3],
        lambda images: images.transpose(0, 1).flatten(1),
        lambda images: images.index_select(0, ORDER[:9]),
        lambda images: torch.index_select(images, dim=0, index=ORDER[:9]),
        lambda images: torch.cat([images, images]),
        lambda images: images.contiguous(memory_format=torch.channels_last),
        lambda images: images[2:, :1],
        lambda images: images[ORDER[:3], ORDER[:3] % 3],
        lambda images: images[..., 0],
        lambda images: images[True],
        lambda images: images[torch.tensor(True)],
        lambda images: images[None],
        lambda images: images[torch.tensor([[1, 2], [3, 4]])],
        lambda images: torch.from_numpy(images.numpy().copy()),
        copy.deepcopy,
    ],
)
def test_mapped_rows_are_computed_with_as_a_tensor(mapped: MappedRows, compute: Callable[[Any], Tensor]) -> None:
    result = compute(mapped)
    assert type(result) is Tensor
    assert torch.equal(result, compute(HELD))


def test_a_pickle_of_mapped_rows_opens_the_file_and_holds_numbers_alone(mapped: MappedRows) -> None:
    chosen = mapped[ORDER[:5]]
    pickled = pickle.dumps(chosen)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert isinstance(again, MappedRows)
    assert torch.equal(again, HELD[ORDER[:5]])


def test_folds_and_batches_of_mapped_rows_are_those_of_a_tensor(
    mapped: MappedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_few(rows: MappedRows, read: Callable[[MappedRows], Tensor] = MappedRows.read) -> Tensor:
        assert len(rows) <= 8
        return read(rows)

    monkeypatch.setattr(data, "COUNTED_AT_A_TIME", 8)
    monkeypatch.setattr(MappedRows, "read", read_few)
    labels = torch.arange(40) % 4
    found = []
    for images in (mapped, HELD):
        dataset = Dataset(Examples(images, labels), Examples(images[:8], labels[:8]), 4).arranged(3, 0.1, folds=3)
        dataset = Dataset.from_arrays(pickle.loads(pickle.dumps(dataset.arrays())))
        folds = Folds(dataset, 0.1, 3)
        splits = [folds.search(), folds.final(0), folds.final(1)]
        seen = [
            batch
            for split in splits
            for batch in batches(split.train, 7, generator(1, "batches"), lambda images: images.clone())
        ]
        others = [part for split in splits for part in (split.validation, split.test)]
        statistics = [split.train.statistics() for split in splits]
        found.append(([(each.inputs + 0, each.labels) for each in (*seen, *others)], statistics))
    (mapped_parts, first), (held_parts, second) = found
    assert first == second
    for (images, own), (expected, others_) in zip(mapped_parts, held_parts, strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(own, others_)
