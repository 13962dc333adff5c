"""A user's own data: what ``package.module:function`` returns, or a file of numpy arrays holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor

from safs_ray.config import ConfigurationError, DataSection, counted, refusal
from safs_ray.data import Array
from safs_ray.references import resolve
from safs_ray.sources.images import one_line, require_memory
from safs_ray.sources.part import Indices, Part

Layout = Literal["NCHW", "NHWC"]

NCHW: Layout = "NCHW"
"""The order of dimensions unless another is told."""

MOST_CHANNELS = 4
"""Of images as people have them: gray or in colour, with or without alpha."""

RETURNED = ("train_inputs", "train_labels", "test_inputs", "test_labels")

SPELLINGS = (
    RETURNED,
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
)
"""What the arrays of a file may be called."""


def own(section: DataSection) -> tuple[Part, Part]:
    """The inputs and labels that the user's function returns, called without arguments.

    It returns train_inputs, train_labels, test_inputs and test_labels as tensors or arrays. Inputs are uint8 images
    (N, C, H, W), or (N, H, W, C) with layout NHWC; or uint8 or float32 (N, …); or int64 (N, …), the indices of an
    embedding. Labels are what the task says; see :func:`labels_of`.

    Raises:
        ConfigurationError: there is no such function, it fails, or it returns something else.
    """
    name = section.source
    function = resolve(name, "data.source")
    try:
        returned = function()
    except (Exception, SystemExit) as error:  # the user's function runs, and may raise anything
        raise refusal("data.source", name, f"fails ({type(error).__name__}: {one_line(error)})") from None
    if not isinstance(returned, tuple | list) or len(returned) != len(RETURNED):
        length = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise refusal("data.source", name, f"must return ({', '.join(RETURNED)}), returns a {_kind(returned)}{length}")
    return parts({part: _array(value, part, name) for part, value in zip(RETURNED, returned, strict=True)}, section)


def npz(file: Path, section: DataSection) -> tuple[Part, Part]:
    """The arrays of a file that :func:`numpy.savez` wrote: train_inputs, train_labels, test_inputs and test_labels.

    They may also be called train_images and test_images, or x_train, y_train, x_test and y_test.

    Raises:
        ConfigurationError: there is no such file, it is damaged, or holds other arrays.
    """
    try:
        return parts(_held(file, section), section)
    except ConfigurationError:
        raise
    except FileNotFoundError:
        raise refusal("data.source", section.source, f"there is no file {file}") from None
    except Exception as error:  # numpy and zipfile raise many kinds
        raise refusal("data.source", section.source, f"{file.name} cannot be read ({one_line(error)})") from None


def _held(file: Path, section: DataSection) -> dict[str, Array]:
    """The arrays of a file, by the names in RETURNED."""
    with np.load(file, allow_pickle=False) as held:
        names = next((names for names in SPELLINGS if set(names) <= set(held.files)), None)
        if names is None:
            needed = f"must hold {', '.join(RETURNED)}; it holds {', '.join(held.files) or 'nothing'}"
            raise refusal("data.source", section.source, needed)
        return {part: np.asarray(held[name]) for part, name in zip(RETURNED, names, strict=True)}


def parts(arrays: Mapping[str, Array], section: DataSection) -> tuple[Part, Part]:
    """Both parts of arrays by the names in RETURNED.

    Raises:
        ConfigurationError: they are not as :func:`own` says, or the shapes of the parts differ.
    """
    train, test = (_part(arrays, part, section) for part in ("train", "test"))
    _check_alike(arrays, section)
    return train, test


def _check_alike(arrays: Mapping[str, Array], section: DataSection) -> None:
    """Refuse parts of different types or shapes; images may have different sizes, for they can be resized."""
    kinds = [_type(arrays[f"{part}_inputs"]) for part in ("train", "test")]
    if kinds[0] != kinds[1]:
        refuse(section, f"train_inputs are {kinds[0]}, test_inputs {kinds[1]}")
    one, other = (arrays[f"{part}_inputs"].shape[1:] for part in ("train", "test"))
    if len(one) == len(other) == 3 and kinds[0] == "uint8":
        place = (section.layout or NCHW).index("C") - 1
        if one[place] != other[place]:
            refuse(section, f"train_inputs have {counted(one[place], 'channel')}, test_inputs {other[place]}")
    elif one != other:
        shapes = (f"(N, {', '.join(map(str, shape))})" for shape in (one, other))
        refuse(section, "train_inputs are of shape {}, test_inputs of {}".format(*shapes))


def _type(inputs: Array) -> str:
    """As a run has it."""
    return "float32" if inputs.dtype.kind == "f" else str(inputs.dtype)


def _array(value: Any, part: str, name: str) -> Array:
    try:
        if isinstance(value, Tensor):
            held = value.detach().cpu()
            return (held.float() if held.dtype == torch.bfloat16 else held).numpy()
        if isinstance(value, np.ndarray):
            return np.asarray(value)
    except Exception as error:  # numpy has no sparse, quantised or meta tensors
        raise refusal("data.source", name, f"{part} cannot be read ({one_line(error)})") from None
    raise refusal("data.source", name, f"{part} must be a tensor or an array, is a {_kind(value)}")


def _part(arrays: Mapping[str, Array], part: str, section: DataSection) -> Part:
    inputs = arrays[f"{part}_inputs"]
    check_inputs(inputs, f"{part}_inputs", section)
    labels = labels_of(arrays[f"{part}_labels"], f"{part}_labels", len(inputs), section)
    if inputs.ndim == 4:
        inputs = inputs.transpose([(section.layout or NCHW).index(dimension) for dimension in NCHW])

    def read(chosen: Indices) -> Array:
        each = inputs.dtype.itemsize if inputs.dtype.kind != "f" else 4
        require_memory(section.source, len(chosen), *inputs.shape[1:], each=each)  # it may be a view of far fewer
        some = inputs if len(chosen) == len(inputs) else inputs[chosen]
        return np.ascontiguousarray(some, None if inputs.dtype.kind != "f" else np.float32)

    return Part(labels, read)


def labels_of(labels: Array, part: str, count: int, section: DataSection) -> Array:
    """The labels of a task: classes (N,), integers from 0; or numbers (N,) or (N, outputs); or (N, labels) of 0 and 1.

    Raises:
        ConfigurationError: they are something else.
    """
    are = f"are {labels.dtype} of shape {labels.shape}"
    if section.task == "classification":
        if labels.dtype.kind not in "iu" or labels.shape != (count,):
            other = "; data.task=regression takes numbers" if labels.dtype.kind == "f" else ""
            refuse(section, f"{part} must be integers of shape {(count,)}, {are}{other}")
        return labels
    wanted = "numbers of shape (N,) or (N, outputs)" if section.task == "regression" else "0 and 1 of shape (N, labels)"
    shaped = labels[:, None] if labels.ndim == 1 and section.task == "regression" else labels
    if labels.dtype.kind not in "fiub" or shaped.ndim != 2 or len(shaped) != count or not shaped.shape[1]:
        refuse(section, f"{part} must be {wanted} with N={count}, {are}")
    numbers = shaped.astype(np.float32)
    if not np.isfinite(numbers).all():
        refuse(section, f"{part} hold NaN, infinity or what float32 cannot hold")
    if section.task == "multilabel" and not np.isin(numbers, (0, 1)).all():
        refuse(section, f"{part} must be {wanted}, hold {numbers[~np.isin(numbers, (0, 1))][0]:g}")
    return numbers


def check_inputs(inputs: Array, part: str, section: DataSection) -> None:
    """Refuse what are no inputs, or images of another layout, with what to return instead where that can be told.

    Raises:
        ConfigurationError: naming their type and shape.
    """
    layout, kind = section.layout or NCHW, inputs.dtype.kind
    fits = inputs.dtype == np.uint8 or kind == "f" or (inputs.dtype == np.int64 and inputs.ndim < 4)
    gray = inputs.ndim == 3 and (layout == "NHWC" or (inputs.dtype == np.uint8 and inputs.shape[1] == inputs.shape[2]))
    if not fits or gray or inputs.ndim < 2 or 0 in inputs.shape[1:] or (layout == "NHWC" and inputs.ndim != 4):
        channel = f"; if they are gray, return {part}{'[:, None]' if layout == 'NCHW' else '[..., None]'}"
        hint = channel if gray and fits else _hint(inputs, part)
        refuse(section, f"{_wanted(part, layout)}, are {inputs.dtype} of shape {inputs.shape}{hint}")
    if kind == "f":
        with np.errstate(over="ignore"):
            if not np.isfinite(inputs.astype(np.float32, copy=False)).all():
                refuse(section, f"{part} hold NaN, infinity or what float32 cannot hold")
    if kind == "i" and inputs.size and inputs.min() < 0:
        refuse(section, f"{part} of int64 are indices of an embedding, from 0; found {inputs.min()}")
    if inputs.ndim == 4 and section.layout != NCHW:  # which nobody needs to say, so who does means it
        _check_layout(inputs, part, section)


def _wanted(part: str, layout: Layout) -> str:
    if layout == "NHWC":
        return f"{part} must be of shape (N, H, W, C), as data.layout=NHWC says"
    return f"{part} must be uint8 or float32 of shape (N, …), such as images (N, C, H, W), or int64 indices"


def _check_layout(inputs: Array, part: str, section: DataSection) -> None:
    """Refuse images whose channels seem to lie elsewhere; of numbers only where those of the other order are few."""
    layout: Layout = section.layout or NCHW
    other: Layout = "NHWC" if layout == NCHW else NCHW
    seem, are = (_likeness(inputs, each) for each in (other, layout))
    plain = seem[1] and not are[0] if inputs.dtype.kind == "f" else seem > are
    if plain and not are[1]:
        ways = f"data.layout={other} takes them so{', data.layout=NCHW as they are' if layout == NCHW else ''}"
        what = f"{part} of shape {inputs.shape} seem to be ({', '.join(other)}), not ({', '.join(layout)})"
        refuse(section, f"{what}; {ways}")


def _likeness(images: Array, layout: Layout) -> tuple[bool, bool]:
    """Whether images of this layout would be squares, and whether they would have as few channels as most have."""
    channels, height, width = (images.shape[layout.index(dimension)] for dimension in "CHW")
    return height == width, channels <= MOST_CHANNELS


def _hint(inputs: Array, part: str) -> str:
    """What to return in place of inputs of another type."""
    if inputs.dtype.kind not in "iub" or inputs.dtype == np.uint8 or not inputs.size or inputs.ndim < 2:
        return "; one value for each is (N, 1)" if inputs.ndim == 1 else ""
    least, most = inputs.min(), inputs.max()
    if inputs.ndim != 4:
        return (
            f" with values from {least:.6g} to {most:.6g}; return {part} as float32, or as int64 where they are indices"
        )
    if inputs.dtype.kind == "b":
        change = f"({part} * 255) as uint8"
    elif least >= 0 and most <= 255:
        change = f"{part} as uint8"
    else:
        change = f"{part} as float32"
    return f" with values from {least:.6g} to {most:.6g}; return {change}"


def refuse(section: DataSection, fault: str) -> NoReturn:
    """Refuse a source.

    Raises:
        ConfigurationError: always.
    """
    raise refusal("data.source", section.source, fault)


def _kind(value: object) -> str:
    return type(value).__name__
