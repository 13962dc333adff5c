"""Image files that Pillow reads and does not write, such as those of 16 bits in colour."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[Any]


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(samples: Samples, bits: int = 16, kind: int = 0, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of samples (H, W) or (H, W, C).

    Args:
        bits: of a sample.
        kind: 0 gray, 2 colour, 4 gray with alpha, 6 colour with alpha.
        transparent: the one gray or colour that is.
    """
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if bits < 8:
        unpacked = np.unpackbits(rows.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :].reshape(height, -1)
        packed = np.packbits(unpacked, axis=1)
    else:
        packed = rows.astype(">u2" if bits == 16 else "u1")
    content = b"".join(b"\0" + row.tobytes() for row in packed)
    key = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + key + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def tiff(samples: Samples, order: str = "<", compressed: bool = False, apart: bool = False, turn: int = 1) -> bytes:
    """A TIFF of samples (H, W) or (H, W, 3) in their own number type.

    Args:
        order: of the bytes, as numpy and struct have it.
        apart: the channels lie one after the other.
        turn: which side is up, as EXIF says it.
    """
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    laid = samples.transpose(2, 0, 1) if apart else samples
    content = laid.astype(samples.dtype.newbyteorder(order)).tobytes()
    content = zlib.compress(content) if compressed else content
    # The directory lies at 8, a triple of bits or offsets behind it, then the samples; every tag but those is a short.
    tags = {
        256: width, 257: height, 258: 8 * samples.itemsize, 259: 8 if compressed else 1, 262: 1 + (channels == 3),
        273: 0, 274: turn, 277: channels, 278: height, 279: len(content), 284: 1 + apart,
        339: {"u": 1, "i": 2, "f": 3}[samples.dtype.kind],
    }  # fmt: skip
    behind = 8 + 2 + 12 * len(tags) + 4
    plane = len(content) // channels
    lists = {258: [tags[258]] * channels, 339: [tags[339]] * channels}
    if apart:
        lists |= {273: [0] * channels, 279: [plane] * channels}
    place = behind + sum(4 * len(values) for values in lists.values())
    tags[273] = place
    lists |= {273: [place + plane * number for number in range(channels)]} if apart else {}
    entries, extra = b"", b""
    for tag, value in tags.items():
        values = lists.get(tag, [value])
        if len(values) == 1:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, values[0])
        else:
            entries += struct.pack(f"{order}HHII", tag, 4, len(values), behind + len(extra))
            extra += struct.pack(f"{order}{len(values)}I", *values)
    extra = extra.ljust(place - behind, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + extra + content
