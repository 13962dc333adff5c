from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from safs_ray.data import Dataset, Examples, Folds, as_tensors, augmentation, batches


def numbered(count: int) -> Examples:
    """Images of 1x2x2 whose pixels and label are their number."""
    labels = torch.arange(count)
    return Examples((labels % 256).to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous(), labels)


def dataset(count: int) -> Dataset:
    return Dataset(numbered(count), numbered(5), 10)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(examples: Examples) -> set[int]:
    """The images by their number; no image may stand twice, nor lose its label."""
    found = examples.labels.tolist()
    assert examples.inputs.flatten(1).tolist() == [[number % 256] * 4 for number in found]
    assert len(set(found)) == len(found)
    return set(found)


class TestExamples:
    def test_statistics_are_the_mean_and_deviation_of_each_channel(self) -> None:
        images = torch.randint(0, 256, (7, 3, 5, 4), dtype=torch.uint8, generator=draws())
        images[:, 1] //= 3
        mean, deviation = Examples(images, torch.zeros(7)).statistics()
        pixels = images.numpy().astype(np.float64) / 255
        assert mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), rel=1e-12)
        assert deviation == pytest.approx(pixels.std(axis=(0, 2, 3)), rel=1e-9)

    def test_statistics_of_two_pixels(self) -> None:
        images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
        assert Examples(images, torch.zeros(2)).statistics() == ((0.5,), (0.5,))

    def test_the_deviation_of_equal_pixels_is_1(self) -> None:
        images = torch.full((2, 1, 2, 2), 51, dtype=torch.uint8)
        mean, deviation = Examples(images, torch.zeros(2)).statistics()
        assert mean == pytest.approx((0.2,))
        assert deviation == (1.0,)

    def test_slices_and_indices_choose_images_with_their_labels(self) -> None:
        examples = numbered(6)
        assert len(examples) == 6
        assert examples[:4].labels.tolist() == [0, 1, 2, 3]
        chosen = examples[torch.tensor([5, 0])]
        assert chosen.labels.tolist() == [5, 0]
        assert chosen.inputs[:, 0, 0, 0].tolist() == [5, 0]
        assert numbers(examples.to(torch.device("cpu"))) == set(range(6))


class TestDataset:
    def test_what_the_search_sees_has_no_test_images(self) -> None:
        seen = dataset(20).without_test()
        assert len(seen.test) == 0
        assert numbers(seen.pool) == set(range(20))
        assert (seen.outputs, seen.shape) == (10, (1, 2, 2))

    def test_arranging_follows_from_the_seed_and_keeps_images_with_their_labels(self) -> None:
        first, again, other = (dataset(50).arranged(seed, 0.1, 3) for seed in (0, 0, 1))
        assert first.pool.labels.tolist() == again.pool.labels.tolist() != other.pool.labels.tolist()
        assert numbers(first.pool) == set(range(50))
        assert first.pool.labels.tolist() == first.pool.inputs[:, 0, 0, 0].tolist() != list(range(50))
        assert torch.equal(first.test.inputs, dataset(50).test.inputs)

    def test_a_class_is_called_by_its_name_or_its_number(self) -> None:
        assert dataset(9).name_of(3) == "3"
        assert Dataset(numbered(9), numbered(5), 2, ("cat", "dog")).name_of(1) == "dog"

    def test_arrays_round_trip(self) -> None:
        original = dataset(9)
        arrays = original.arrays()
        assert all(isinstance(array, np.ndarray) for array in arrays.values())
        again = Dataset.from_arrays(arrays)
        for part, other in ((original.pool, again.pool), (original.test, again.test)):
            assert torch.equal(part.inputs, other.inputs)
            assert torch.equal(part.labels, other.labels)
            assert (other.inputs.dtype, other.labels.dtype) == (torch.uint8, torch.int64)
        assert again.outputs == 10
        assert type(again.outputs) is int

    def test_arrays_round_trip_without_test_images(self) -> None:
        again = Dataset.from_arrays(dataset(9).without_test().arrays())
        assert again.test.inputs.shape == (0, 1, 2, 2)
        assert numbers(again.pool) == set(range(9))

    def test_read_only_arrays_become_tensors_without_a_copy_or_a_warning(self) -> None:
        array = np.arange(6, dtype=np.uint8).reshape(2, 3)
        array.flags.writeable = False
        torch.set_warn_always(True)  # torch warns of this once in a process
        try:
            with pytest.warns(UserWarning, match="not writable"):
                torch.from_numpy(array)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                tensor = as_tensors({"a": array})["a"]
        finally:
            torch.set_warn_always(False)
        assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert tensor.data_ptr() == array.ctypes.data


def of_classes(counts: Sequence[int]) -> Dataset:
    """So many images of each class; their pixels are their number."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    examples = Examples(numbered(len(labels)).inputs, labels)
    return Dataset(examples, examples[:2], len(counts))


def validated(dataset: Dataset, validation: float, folds: int) -> list[list[int]]:
    """How many images of each class each fold validates on."""
    blocks = (Folds(dataset, validation, folds).final(fold).validation for fold in range(folds))
    return [torch.bincount(block.labels, minlength=dataset.outputs).tolist() for block in blocks]


class TestArranging:
    def test_a_rare_class_is_in_every_block_and_in_what_all_train_on(self) -> None:
        """150 and 3 images once left two of three blocks without the second class."""
        arranged = of_classes([150, 4]).arranged(0, 0.1, 3)
        assert validated(arranged, 0.1, 3) == [[14, 1]] * 3
        assert torch.bincount(Folds(arranged, 0.1, 3).search().train.labels).tolist() == [108, 1]

    @pytest.mark.parametrize("seed", range(5))
    def test_every_block_has_each_classs_share(self, seed: int) -> None:
        arranged = of_classes([500, 250, 150, 100]).arranged(seed, 0.1, 3)
        assert validated(arranged, 0.1, 3) == [[50, 25, 15, 10]] * 3

    def test_shares_that_are_no_whole_numbers_take_turns(self) -> None:
        """Of 30 images a block of 5 holds 2.5 of each of two classes."""
        found = validated(of_classes([15, 15]).arranged(0, 0.17, 2), 0.17, 2)
        assert sorted(found) == [[2, 3], [3, 2]]

    def test_where_many_classes_are_rare_the_others_give_way(self) -> None:
        """Shares of 8.2 and nine times 0.2 in blocks of 10: the first class would have 8 of them or 9."""
        assert validated(of_classes([200, *[5] * 9]).arranged(0, 0.041, 3), 0.041, 3) == [[1] * 10] * 3

    def test_a_block_that_cannot_hold_one_of_each_class_has_no_class_twice_before_its_share(self) -> None:
        found = validated(of_classes([10] * 12).arranged(0, 0.05, 2), 0.05, 2)
        assert [sum(block) for block in found] == [6, 6]
        assert [max(block) for block in found] == [1, 1]
        assert [sum(taken) for taken in zip(*found, strict=True)] == [1] * 12

    def test_classes_without_images_take_none(self) -> None:
        assert validated(of_classes([40, 0, 0, 60]).arranged(0, 0.1, 2), 0.1, 2) == [[4, 0, 0, 6]] * 2

    def test_images_are_drawn_at_random_and_blocks_and_the_rest_are_mixed(self) -> None:
        seen = Folds(of_classes([100, 100]).arranged(0, 0.2, 2), 0.2, 2).search()
        for part in (seen.validation, seen.train):
            found, labels = part.inputs[:, 0, 0, 0].tolist(), part.labels.tolist()
            assert found != sorted(found)
            assert labels != sorted(labels)
            assert 0 < sum(labels[: len(labels) // 2]) < len(labels) // 2

    @settings(deadline=None, derandomize=True)
    @given(
        counts=st.lists(st.integers(6, 90), min_size=2, max_size=12),
        validation=st.floats(0.01, 0.1),
        folds=st.integers(1, 5),
        seed=st.integers(0, 2**40),
    )
    def test_of_any_classes_each_block_gets_the_shares(
        self, counts: list[int], validation: float, folds: int, seed: int
    ) -> None:
        arranged = of_classes(counts).arranged(seed, validation, folds)
        assert sorted(arranged.pool.inputs[:, 0, 0, 0].tolist()) == sorted(n % 256 for n in range(sum(counts)))
        block = max(1, int(sum(counts) * validation))
        exact = [Fraction(block * count, sum(counts)) for count in counts]
        holds_all = block >= len(counts)
        enough = sum(max(math.floor(share), int(holds_all)) for share in exact) <= block
        for found in validated(arranged, validation, folds):
            assert sum(found) == block
            assert min(found) >= int(holds_all)
            for taken, share in zip(found, exact, strict=True):
                assert taken <= math.ceil(share)
                assert taken >= math.floor(share) or not enough
        left = torch.bincount(Folds(arranged, validation, folds).search().train.labels, minlength=len(counts))
        assert left.min() >= 1


POOLS = pytest.mark.parametrize(
    ("count", "validation", "folds"), [(50, 0.1, 3), (23, 0.2, 2), (97, 0.5, 1), (300, 0.1, 5), (9, 0.01, 4)]
)


class TestFolds:
    @POOLS
    def test_validation_blocks_are_disjoint_and_of_one_size(self, count: int, validation: float, folds: int) -> None:
        split = Folds(dataset(count), validation, folds)
        blocks = [numbers(split.final(fold).validation) for fold in range(folds)]
        assert {len(block) for block in blocks} == {max(1, int(count * validation))}
        assert all(first.isdisjoint(second) for first, second in combinations(blocks, 2))

    @POOLS
    def test_the_search_trains_on_no_images_of_any_block(self, count: int, validation: float, folds: int) -> None:
        split = Folds(dataset(count), validation, folds)
        blocks = [numbers(split.final(fold).validation) for fold in range(folds)]
        assert numbers(split.search().validation) == blocks[0]
        assert numbers(split.search().train) == set(range(count)).difference(*blocks)

    @POOLS
    def test_the_final_evaluation_trains_on_all_but_its_own_block(
        self, count: int, validation: float, folds: int
    ) -> None:
        split = Folds(dataset(count), validation, folds)
        for fold in range(folds):
            final = split.final(fold)
            assert numbers(final.train) == set(range(count)) - numbers(final.validation)
            assert numbers(split.search().train) <= numbers(final.train)

    @POOLS
    def test_finalists_are_validated_on_the_blocks_of_all_folds(
        self, count: int, validation: float, folds: int
    ) -> None:
        split = Folds(dataset(count), validation, folds)
        blocks = [numbers(split.final(fold).validation) for fold in range(folds)]
        assert numbers(split.finalists().validation) == set[int]().union(*blocks)
        assert numbers(split.finalists().train) == numbers(split.search().train)

    def test_the_test_images_are_the_sources(self) -> None:
        whole = dataset(30)
        split = Folds(whole, 0.1, 2)
        for splits in (split.search(), split.finalists(), split.final(0), split.final(1)):
            assert torch.equal(splits.test.inputs, whole.test.inputs)
            assert torch.equal(splits.test.labels, whole.test.labels)

    def test_what_the_search_sees_is_not_copied(self) -> None:
        whole = dataset(30)
        seen = Folds(whole, 0.1, 2).search()
        first, size = whole.pool.inputs.data_ptr(), whole.pool.inputs[0].nbytes
        assert seen.validation.inputs.data_ptr() == first
        assert seen.train.inputs.data_ptr() == first + 6 * size


class TestBatches:
    @settings(deadline=None, derandomize=True)
    @given(count=st.integers(1, 80), batch_size=st.integers(1, 90), seed=st.integers(0, 2**40))
    def test_cover_every_image_once_in_nearly_equal_sizes(self, count: int, batch_size: int, seed: int) -> None:
        made = list(batches(numbered(count), batch_size, draws(seed), lambda images: images))
        sizes = [len(batch) for batch in made]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        assert len(made) == -(-count // batch_size)
        assert sum(sizes) == count
        assert set().union(*(numbers(batch) for batch in made)) == set(range(count))

    def test_the_order_follows_from_the_generator(self) -> None:
        def order(seed: int) -> list[int]:
            made = batches(numbered(40), 7, draws(seed), lambda images: images)
            return [number for batch in made for number in batch.labels.tolist()]

        assert order(0) == order(0)
        assert order(0) != order(1)
        assert order(0) != list(range(40))

    def test_two_passes_with_one_generator_differ(self) -> None:
        generator = draws()
        first, second = (next(batches(numbered(40), 40, generator, lambda images: images)) for _ in range(2))
        assert first.labels.tolist() != second.labels.tolist()

    def test_images_are_augmented_and_labels_are_not(self) -> None:
        examples = numbered(10)
        (batch,) = batches(examples, 10, draws(), lambda images: 255 - images)
        assert batch.inputs[:, 0, 0, 0].tolist() == [255 - number for number in batch.labels.tolist()]
        assert numbers(examples) == set(range(10))

    def test_the_global_generator_is_neither_read_nor_changed(self) -> None:
        def drawn(seed: int) -> list[Tensor]:
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            made = [batch.inputs for batch in batches(numbered(20), 6, draws(1), augmentation(1, True, draws(2)))]
            assert torch.equal(torch.get_rng_state(), before)
            return made

        for first, second in zip(drawn(0), drawn(1), strict=True):
            assert torch.equal(first, second)


class TestAugmentation:
    IMAGE = torch.arange(1, 13, dtype=torch.uint8).view(1, 3, 4)
    """Three rows of four different pixels, none of them black as the padding is."""

    def test_without_crop_and_flip_images_stay_as_they_are(self) -> None:
        images = self.IMAGE.expand(5, 1, 3, 4)
        assert torch.equal(augmentation(0, False, draws())(images), images)

    def test_crops_are_all_the_windows_of_the_padded_image(self) -> None:
        padded = np.pad(self.IMAGE[0].numpy(), 2)
        windows = {window.tobytes() for row in sliding_window_view(padded, (3, 4)) for window in row}
        assert len(windows) == 25
        cropped = augmentation(2, False, draws())(self.IMAGE.expand(600, 1, 3, 4))
        assert cropped.shape == (600, 1, 3, 4)
        assert cropped.dtype == torch.uint8
        assert {image.contiguous().numpy().tobytes() for image in cropped} == windows

    def test_the_middle_window_is_the_image_itself(self) -> None:
        cropped = augmentation(1, False, draws())(self.IMAGE.expand(100, 1, 3, 4))
        assert sum(torch.equal(image, self.IMAGE) for image in cropped) > 0

    def test_channels_are_cropped_and_flipped_together(self) -> None:
        colour = torch.cat([self.IMAGE, self.IMAGE + 100, self.IMAGE + 200])
        changed = augmentation(1, True, draws())(colour.expand(100, 3, 3, 4))
        red, green, blue = changed.unbind(1)
        assert torch.equal(green, torch.where(red > 0, red + 100, 0))
        assert torch.equal(blue, torch.where(red > 0, red + 200, 0))

    def test_crops_of_different_images_are_of_those_images(self) -> None:
        images = torch.stack([self.IMAGE + 20 * number for number in range(10)])
        cropped = augmentation(1, False, draws())(images)
        for number, image in enumerate(cropped):
            seen = image[image > 0]
            assert ((seen > 20 * number) & (seen <= 20 * number + 12)).all()

    def test_flips_mirror_about_half_of_the_images_from_left_to_right(self) -> None:
        flipped = augmentation(0, True, draws())(self.IMAGE.expand(400, 1, 3, 4))
        mirrored = torch.from_numpy(np.fliplr(self.IMAGE[0].numpy()).copy())
        same = [torch.equal(image[0], self.IMAGE[0]) for image in flipped]
        assert all(original or torch.equal(image[0], mirrored) for original, image in zip(same, flipped, strict=True))
        assert 150 < sum(same) < 250

    def test_draws_follow_from_the_generator(self) -> None:
        images = self.IMAGE.expand(50, 1, 3, 4)
        first, again, other = (augmentation(2, True, draws(seed))(images) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_the_given_images_are_not_changed(self) -> None:
        images = self.IMAGE.repeat(20, 1, 1, 1)
        augmentation(1, True, draws())(images)
        assert torch.equal(images, self.IMAGE.expand(20, 1, 3, 4))
