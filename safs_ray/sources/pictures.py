"""One image file as pixels: upright, without a palette, and with as many bits as the file has."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from safs_ray.data import Array

Alpha = Literal["white", "keep"]

GRAY = ("1", "L", "LA", "La")
"""Pillow's modes of gray images of 8 bits or fewer."""

OTHER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
}
"""Of 16-bit colour Pillow takes the upper byte; told that the bytes come in the other order, the lower one."""

NATIVE = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"} if sys.byteorder == "little" else {}
"""What libtiff unpacks has this machine's order of bytes, whatever the file's is; Pillow forgets it for these."""

GRAY_LEVELS = {"L;2": 85, "L;4": 17}
"""A step between two grays of 2 or 4 bits, which Pillow spreads over 8 bits, but not the one that is transparent."""

EXIF = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Where Pillow keeps what says which side of an image is up; a TIFF it turns by itself."""

IDENTIFIED = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")
"""What Pillow tells by its name and does not read by itself."""


def read(file: str | io.BytesIO, alpha: Alpha) -> Image.Image | Array:
    """The pixels of an image file, turned as its EXIF data say.

    Args:
        file: a path or the content.
        alpha: "white" composes transparent pixels on white; "keep" gives every image an alpha channel, opaque where
            the file has none.

    Returns:
        Of up to 8 bits a channel an image of Pillow's mode L, RGB, LA or RGBA. Deeper images without transparency as
        integers or floats (H, W) or (H, W, 3); those with it as 8 bits, of which the file's largest number is 255.
    """
    with Image.open(file, formats=formats()) as image:
        rawmode = _rawmode(image)
        _prepare(image, rawmode)
        image.load()
        _turn_upright(image)
        if rawmode in OTHER_BYTE:
            values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(_lower_bytes(file))
        elif image.mode.startswith(("I", "F")):
            values = np.asarray(image).view(np.uint32) if rawmode == "I;32N" else np.asarray(image)
        else:
            return _of_8_bits(image, rawmode == "LA;16B" or image.mode in GRAY, alpha)
        transparent = image.info.get("transparency")
    if transparent is None:
        return cast(Array, values)
    return _of_8_bits(_without(values, transparent), values.ndim == 2, alpha)


def _rawmode(image: Image.Image) -> str:
    """How the samples of a PNG or TIFF are packed; of other files it does not matter here."""
    if image.format not in ("PNG", "TIFF") or not image.tile:  # type: ignore[attr-defined]
        return ""
    packing = image.tile[0].args or ""  # type: ignore[attr-defined]
    return str(packing if isinstance(packing, str) else packing[0])


def _prepare(image: Image.Image, rawmode: str) -> None:
    """Have Pillow read aright what it would misread.

    Raises:
        ValueError: that cannot be done.
    """
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(284) == 2 and max(tags.get(258, (1,))) > 8:
            raise ValueError("a TIFF whose channels of more than 8 bits lie apart from each other cannot be read")
        if image.tile[0].codec_name == "libtiff":  # type: ignore[attr-defined]
            _repack(image, NATIVE)
    if rawmode in GRAY_LEVELS and "transparency" in image.info:
        image.info["transparency"] *= GRAY_LEVELS[rawmode]


def _repack(image: Image.Image, rawmodes: Mapping[str, str]) -> None:
    """Unpack samples by the rawmodes that stand for the file's own."""

    def renamed(packing: Any) -> Any:
        if isinstance(packing, str):
            return rawmodes.get(packing, packing)
        return (rawmodes.get(packing[0], packing[0]), *packing[1:])

    image.tile = [tile._replace(args=renamed(tile.args)) for tile in image.tile]  # type: ignore[attr-defined]


def _lower_bytes(file: str | io.BytesIO) -> Image.Image:
    with Image.open(file, formats=formats()) as image:
        _repack(image, OTHER_BYTE)
        image.load()
        _turn_upright(image)
    return image


def _turn_upright(image: Image.Image) -> None:
    if image.info.keys().isdisjoint(EXIF):  # as of most small images, and looking closer takes time
        return
    with suppress(Exception):  # EXIF data that are damaged leave the pixels as they are
        ImageOps.exif_transpose(image, in_place=True)


def _without(values: npt.NDArray[Any], transparent: int | tuple[int, ...]) -> Image.Image:
    """The upper 8 of 16 bits, with one value or colour transparent."""
    differs = np.atleast_3d(values != np.asarray(transparent)).any(2)
    image = Image.fromarray((values >> 8).astype(np.uint8))
    image.putalpha(Image.fromarray(differs.astype(np.uint8) * 255))
    return image


def _of_8_bits(image: Image.Image, gray: bool, alpha: Alpha) -> Image.Image:
    """The image in mode L or RGB; with alpha kept, in LA or RGBA."""
    opaque, transparent = ("L", "LA") if gray else ("RGB", "RGBA")
    if alpha == "keep":
        return image.convert(transparent)
    if not image.has_transparency_data:
        return image.convert(opaque)
    drawn = image.convert(transparent)
    white = Image.new(opaque, image.size, "white")
    white.paste(drawn.convert(opaque), mask=drawn.getchannel("A"))
    return white


@cache
def formats() -> list[str]:
    """All that Pillow reads by itself: it hands EPS, which is a program, to Ghostscript."""
    Image.init()
    return [kind for kind in Image.ID if kind != "EPS"]


@cache
def extensions() -> frozenset[str]:
    """How the names of files end that may be images, in lower case."""
    kinds = set(formats()).difference(IDENTIFIED)
    return frozenset(ending for ending, kind in Image.registered_extensions().items() if kind in kinds)
