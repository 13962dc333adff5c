"""A user's own data, from a module that lies in no package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from safs_ray.config import ConfigurationError, DataSection
from safs_ray.data import Dataset
from safs_ray.sources import load

MODULE = """
import numpy as np
import torch

images = torch.arange(6 * 3 * 4 * 4).to(torch.uint8).view(6, 3, 4, 4)
eights = torch.arange(6 * 3 * 8 * 8).to(torch.uint8).view(6, 3, 8, 8)
labels = torch.tensor([0, 1, 2, 0, 1, 2])
returned = {
    "tensors": (images, labels, images[:2], labels[:2]),
    "arrays": (images.numpy(), labels.numpy().astype(np.int8), images[:2].numpy(), labels[:2].numpy()),
    "a_list": [images.permute(0, 1, 3, 2), labels, images[:2], labels[:2].numpy()],
    "three": (images, labels, images),
    "nothing": None,
    "lists": (images.tolist(), labels, images, labels),
    "floats": (images.float(), labels, images, labels),
    "from_one": (images, labels + 1, images, labels + 1),
    "from_two": (images, labels + 2, images, labels + 2),
    "with_gaps": (images, labels * 2 + 1, images, labels * 2 + 1),
    "gray": (images[:, 0], labels, images, labels),
    "fewer": (images, labels, images[:5], labels),
    "onehot": (images, torch.eye(6), images, labels),
    "truth": (images, labels > 0, images, labels),
    "negative": (images, labels - 1, images, labels),
    "channels": (images, labels, images[:, :1], labels),
    "oblong": (images[:, :, :3], labels, images[:, :, :3], labels),
    "one": (images, labels, images[:1], labels[:1]),
    "single": (images, labels * 0, images, labels * 0),
    "sparse": (images.to_sparse(), labels, images, labels),
    "meta": (images.to("meta"), labels, images, labels),
    "brain": (images.bfloat16(), labels, images.bfloat16(), labels),
    "quantised": (images, torch.quantize_per_tensor(labels.float(), 1.0, 0, torch.quint8), images, labels),
    "maps": (np.zeros((6, 64, 4, 4), np.float32), labels, np.zeros((6, 64, 4, 4), np.float32), labels),
    "numbers_last": (np.zeros((6, 48, 64, 3), np.float32), labels, np.zeros((6, 48, 64, 3), np.float32), labels),
    "objects": (images, np.array([None] * 6), images, labels),
    "scalar": (images, torch.tensor(3), images, labels),
    "numbers": (images, [0, 1, 2, 0, 1, 2], images, labels),
    "last": (eights.permute(0, 2, 3, 1), labels, eights[:2].permute(0, 2, 3, 1), labels[:2]),
    "wide_last": (np.zeros((6, 48, 64, 3), np.uint8), labels, np.zeros((6, 48, 64, 3), np.uint8), labels),
    "wide": (np.zeros((6, 3, 48, 64), np.uint8), labels, np.zeros((6, 3, 48, 64), np.uint8), labels),
    "bands_last": (np.zeros((6, 32, 32, 7), np.uint8), labels, np.zeros((6, 32, 32, 7), np.uint8), labels),
    "many_channels": (images.view(6, 12, 2, 2), labels, images.view(6, 12, 2, 2), labels),
    "both_fractions": (images.float() / 255, labels, images.double() / 255, labels),
    "integers": (images.long(), labels, images.long(), labels),
    "deep": (images.int() * 16, labels, images.int() * 16, labels),
    "no_pixels": (images[:, :, :0], labels, images, labels),
    "text": "four",
    "keys": {"train_images": images},
    "view": (
        np.broadcast_to(np.zeros((1, 3, 1024, 1024), np.uint8), (10**6, 3, 1024, 1024)),
        np.arange(10**6) % 2, images.numpy(), labels.numpy() % 2
    ),
    "read_only": (np.broadcast_to(images.numpy(), images.shape), labels.numpy(), images.numpy(), labels.numpy()),
    "big_endian": (images.numpy(), labels.numpy().astype(">i4"), images.numpy(), labels.numpy().astype(np.uint64)),
}

for name in returned:
    globals()[name] = lambda name=name: returned[name]

def failing():
    raise OSError("no disk,\\nno data")

def leaving():
    raise SystemExit(3)

def endless():
    yield images

def verbose():
    raise ValueError("x" * 10**6)

def wanting(argument):
    return returned["tensors"]
"""


@pytest.fixture(autouse=True)
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data_of_a_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def load_from(function: str, **keys: Any) -> Dataset:
    return load(DataSection(source=f"data_of_a_user:{function}", **keys))


KINDS = "must be uint8 or float32 of shape (N, …), such as images (N, C, H, W), or int64 indices"

IMAGES = np.arange(6 * 3 * 4 * 4).astype(np.uint8).reshape(6, 3, 4, 4)


@pytest.mark.parametrize("function", ["tensors", "arrays", "a_list"])
def test_tensors_and_arrays_are_taken(function: str) -> None:
    loaded = load_from(function)
    expected = IMAGES.transpose(0, 1, 3, 2) if function == "a_list" else IMAGES
    assert np.array_equal(loaded.pool.inputs.numpy(), expected)
    assert loaded.pool.inputs.is_contiguous()
    assert loaded.pool.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert loaded.pool.labels.dtype == torch.int64
    assert np.array_equal(loaded.test.inputs.numpy(), IMAGES[:2])
    assert (loaded.outputs, loaded.shape) == (3, (3, 4, 4))


def test_images_are_resized() -> None:
    assert load_from("oblong", size=8).pool.inputs.shape == (6, 3, 8, 8)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("three", "must return (train_inputs, train_labels, test_inputs, test_labels), returns a tuple of 3"),
        ("nothing", "must return (train_inputs, train_labels, test_inputs, test_labels), returns a NoneType"),
        ("lists", "train_inputs must be a tensor or an array, is a list"),
        (
            "integers",
            f"train_inputs {KINDS}, are int64 of shape (6, 3, 4, 4) with values from 0 to 255; return train_inputs as "
            "uint8",
        ),
        (
            "deep",
            f"train_inputs {KINDS}, are int32 of shape (6, 3, 4, 4) with values from 0 to 4080; return train_inputs as "
            "float32",
        ),
        (
            "gray",
            f"train_inputs {KINDS}, are uint8 of shape (6, 4, 4); if they are gray, return train_inputs[:, None]",
        ),
        (
            "wide_last",
            "train_inputs of shape (6, 48, 64, 3) seem to be (N, H, W, C), not (N, C, H, W); data.layout=NHWC takes "
            "them so, data.layout=NCHW as they are",
        ),
        ("fewer", "test_labels must be integers of shape (5,), are int64 of shape (6,)"),
        (
            "onehot",
            "train_labels must be integers of shape (6,), are float32 of shape (6, 6); data.task=regression takes "
            "numbers",
        ),
        ("truth", "train_labels must be integers of shape (6,), are bool of shape (6,)"),
        ("negative", "labels must be 0, 1, …, one for each class; found -1"),
        ("from_one", "labels must be 0, 1, …, one for each class; these are 1 to 3: subtract 1"),
        ("from_two", "labels must be 0, 1, …, one for each class; these are 2 to 4: subtract 2"),
        ("with_gaps", "labels must be 0, 1, …, one for each class; these are 1 to 5: subtract 1"),
        ("floats", "train_inputs are float32, test_inputs uint8"),
        ("channels", "train_inputs have 3 channels, test_inputs 1"),
        ("one", "needs at least two test images, has 1"),
        ("single", "needs images of at least two classes, has those of class 0"),
        ("objects", "train_labels must be integers of shape (6,), are object of shape (6,)"),
        ("scalar", "train_labels must be integers of shape (6,), are int64 of shape ()"),
        ("numbers", "train_labels must be a tensor or an array, is a list"),
        ("no_pixels", f"train_inputs {KINDS}, are uint8 of shape (6, 3, 0, 4)"),
        ("text", "must return (train_inputs, train_labels, test_inputs, test_labels), returns a str"),
        ("keys", "must return (train_inputs, train_labels, test_inputs, test_labels), returns a dict"),
        ("endless", "must return (train_inputs, train_labels, test_inputs, test_labels), returns a generator"),
        ("leaving", "fails (SystemExit: 3)"),
        ("verbose", f"fails (ValueError: {'x' * 157}...)"),
        ("failing", "fails (OSError: no disk, no data)"),
        ("missing", "data_of_a_user has no function missing"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(function: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_from(function)
    assert str(refused.value) == f"data.source=data_of_a_user:{function}: {reason}"


def test_channels_that_come_last_are_taken_where_that_is_said() -> None:
    loaded = load_from("last", layout="NHWC")
    assert loaded.pool.inputs.flatten().tolist() == [number % 256 for number in range(6 * 3 * 8 * 8)]
    assert loaded.pool.inputs.is_contiguous()
    assert loaded.test.inputs.shape == (2, 3, 8, 8)
    assert load_from("wide_last", layout="NHWC", size=8).pool.inputs.shape == (6, 3, 8, 8)


def test_channels_that_come_last_are_recognised_before_a_size_would_hide_them() -> None:
    with pytest.raises(
        ConfigurationError, match=r"seem to be \(N, H, W, C\), not \(N, C, H, W\); data.layout=NHWC takes"
    ):
        load_from("last", size=8)
    with pytest.raises(ConfigurationError, match=r"of shape \(6, 32, 32, 7\) seem to be \(N, H, W, C\)"):
        load_from("bands_last")
    with pytest.raises(
        ConfigurationError, match=r"seem to be \(N, C, H, W\), not \(N, H, W, C\); data.layout=NCHW takes"
    ):
        load_from("wide", layout="NHWC")
    with pytest.raises(ConfigurationError, match=r"of shape \(N, H, W, C\), .* if they are gray, .*\[\.\.\., None\]"):
        load_from("gray", layout="NHWC")


def test_square_images_of_many_channels_are_no_other_layout() -> None:
    assert load_from("many_channels").shape[0] == 12


def test_numbers_whose_channels_come_last_are_recognised_and_taken_where_that_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"seem to be \(N, H, W, C\), not \(N, C, H, W\)"):
        load_from("numbers_last")
    assert load_from("numbers_last", layout="NHWC").shape == (3, 48, 64)
    assert load_from("numbers_last", layout="NCHW").shape == (48, 64, 3)
    assert load_from("maps").shape == (64, 4, 4), "square, so that they may have any number of channels"


def test_floats_of_16_bits_become_float32() -> None:
    assert torch.equal(load_from("brain").pool.inputs, load_from("tensors").pool.inputs.bfloat16().float())


@pytest.mark.parametrize("source", ["digits", "imagefolder:images", "imagenet16:folder"])
def test_a_layout_is_for_functions_alone(source: str) -> None:
    with pytest.raises(ConfigurationError, match=r"data\.layout=NHWC: is for images that your own package"):
        load(DataSection(source=source, layout="NHWC"))


def test_images_need_not_be_square() -> None:
    assert load_from("oblong").shape == (3, 3, 4)
    assert load_from("oblong", size="6x12").shape == (3, 6, 12)


def test_numbers_are_taken_as_they_are() -> None:
    found = load(DataSection(source="data_of_a_user:both_fractions"))
    assert (found.pool.inputs.dtype, found.shape) == (torch.float32, (3, 4, 4))
    assert np.array_equal(found.pool.inputs.numpy(), IMAGES.astype(np.float32) / 255)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("sparse", "train_inputs cannot be read ("),
        ("meta", "train_inputs cannot be read ("),
        ("quantised", "train_labels cannot be read ("),
        ("wanting", "fails (TypeError: wanting() missing 1 required positional argument"),
        ("view", "1,000,000 images of 3x1024x1024 take 3,145.7 GB, which a run holds 3 times, and "),
    ],
)
def test_what_numpy_or_memory_cannot_hold_is_refused(function: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_from(function)
    assert str(refused.value).startswith(f"data.source=data_of_a_user:{function}: {reason}")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("function", ["read_only", "big_endian"])
def test_any_memory_layout_is_taken(function: str) -> None:
    loaded = load_from(function)
    assert np.array_equal(loaded.pool.inputs.numpy(), IMAGES)
    assert loaded.pool.labels.tolist() == [0, 1, 2, 0, 1, 2]
