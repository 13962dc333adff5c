"""The image files of a set as one array: of one size, with the same channels, and of 8 bits."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

from safs_ray.config import counted, refusal
from safs_ray.data import Array
from safs_ray.sources.depth import KINDS, Scale, shrunk
from safs_ray.sources.images import SMALLER, channels_first, in_pieces, one_line, require_memory, widened
from safs_ray.sources.pictures import Alpha, read

log = logging.getLogger("safs_ray")

Pixels = npt.NDArray[np.uint8]

Room = Callable[..., Pixels]
"""Given a number of images and their shape (C, H, W), an array for them."""

File = tuple[str, str | io.BytesIO]
"""The name that an error gives to an image, and its path or content."""


class Decoder:
    """Decodes the image files of one set, those to train on first: they decide what becomes of more than 8 bits."""

    def __init__(self, source: str, size: int | None, alpha: Alpha = "white", room: Room | None = None) -> None:
        """What holds for all images of the set.

        Args:
            source: as ``data.source`` has it, for messages.
            size: side in pixels to resize images to; None leaves them as they are.
            alpha: "white" composes transparent pixels on white; "keep" gives all images an alpha channel.
            room: makes the arrays (N, C, H, W) of decoded images; by default in memory.
        """
        self.source = source
        self._size = size
        self._alpha = alpha
        self._room = room or self._in_memory
        self._scales: dict[str, Scale] = {}

    def decoded(self, files: Iterable[File], count: int) -> Pixels:
        """Decode ``count`` image files to uint8 (N, C, H, W); grayscale only when all are.

        Images of more than 8 bits are scaled by the pixels of all such images, see :class:`Scale`, or as those that
        were decoded before, and that is said in one line. Images of 8 bits stay as they are.

        Raises:
            ConfigurationError: a file that is no image or has more pixels than Pillow trusts, images of several
                sizes, or more of them than memory holds.
        """
        with warnings.catch_warnings(action="ignore"):  # of what does not keep Pillow from reading an image
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return self._stacked(((name, self._read(name, file)) for name, file in files), count)

    def _in_memory(self, count: int, *shape: int) -> Pixels:
        require_memory(self.source, count, *shape, way_out=f"{SMALLER}, data.memory=map keeps them in a file")
        return np.empty((count, *shape), np.uint8)

    def _read(self, name: str, file: str | io.BytesIO) -> Array:
        """The channels (C, H, W) of an image of the size wanted; of 8 bits with those that all images have."""
        try:
            image = read(file, self._alpha)
            if isinstance(image, Image.Image):
                size = self._size
                image = image.resize((size, size), Image.Resampling.BILINEAR) if size else image
                return channels_first(np.asarray(image))
            if not np.isfinite(image).all():
                raise ValueError("it has pixels that are not finite")
            return shrunk(channels_first(image), self._size) if self._size else channels_first(image)
        except Exception as error:  # each of Pillow's decoders raises errors of its own
            fault = f"{name} is not an image ({one_line(error).split(' <')[0]})"
            raise refusal("data.source", self.source, fault) from None

    def _stacked(self, images: Iterable[tuple[str, Array]], count: int) -> Pixels:
        pixels = np.zeros((0, 1, 0, 0), np.uint8)
        deep: dict[int, Array] = {}  # by row, until their scale is known
        for row, (name, image) in enumerate(images):
            pixels = self._with_room(pixels, count, name, image)
            if image.dtype == np.uint8:
                pixels[row] = widened(image, pixels.shape[1])
                continue
            if not deep:  # which are there beside the pixels
                copies = image.dtype.itemsize + (not isinstance(pixels, np.memmap))
                require_memory(self.source, count, *pixels.shape[1:], copies=copies)
            deep[row] = image
        for kind in sorted({KINDS[image.dtype.kind] for image in deep.values()}):
            self._scale({row: image for row, image in deep.items() if KINDS[image.dtype.kind] == kind}, kind, pixels)
        return pixels

    def _with_room(self, pixels: Pixels, count: int, name: str, image: Array) -> Pixels:
        """The pixels, of which none or some are filled in, with as many channels as the image needs, too."""
        added = self._alpha == "keep" and image.dtype != np.uint8
        channels = max(len(image) + added, pixels.shape[1])
        if not len(pixels):
            return self._room(count, channels, *image.shape[1:])
        if image.shape[1:] != pixels.shape[2:]:
            sizes = f"{name} has {image.shape[:0:-1]} pixels and the first image {pixels.shape[:1:-1]}"
            raise refusal("data.source", self.source, f"{sizes}; data.size=PIXELS resizes all")
        if channels > pixels.shape[1]:  # all were gray until now
            wider = self._room(count, channels, *pixels.shape[2:])
            for piece in in_pieces(pixels):
                wider[piece] = widened(pixels[piece], channels)
            return wider
        return pixels

    def _scale(self, images: Mapping[int, Array], kind: str, pixels: Pixels) -> None:
        """Fill in the rows of images of one kind."""
        scale = self._scales.get(kind)
        if scale is None:
            scale = self._scales[kind] = Scale.of(list(images.values()))
            many = f"{len(images):,} of {counted(len(pixels), 'image')} hold {kind} of more than 8 bits"
            log.warning("data.source=%s: %s, %s", self.source, many, scale)
        elif beyond := sum(scale.cuts(image) for image in images.values()):
            many = f"of {beyond:,} of {len(pixels):,} test images, pixels lie beyond those of the training images"
            log.warning("warning: data.source=%s: %s and are cut off; %s", self.source, many, scale)
        for row, image in images.items():
            scaled = scale(image)
            if self._alpha == "keep":
                scaled = np.concatenate([scaled, np.full_like(scaled[:1], 255)])
            pixels[row] = widened(scaled, pixels.shape[1])
