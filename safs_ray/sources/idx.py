"""The idx format of MNIST: two zeros, the type of the values, how many dimensions, the size of each, the values.

torchvision reads such files unchecked; here they are checked, unread.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

from safs_ray.config import counted

BYTES = 8
"""The type of values that are bytes."""


def check(images: Path, labels: Path) -> tuple[int, ...]:
    """The sizes (N, H, W) of the images in one file, whose labels are in another.

    Raises:
        ValueError: a file is of another kind or damaged, or they do not belong together; with the file's path.
    """
    (count,), sizes = _sizes(labels, 1), _sizes(images, 3)
    if sizes[0] != count:
        raise ValueError(f"{images} holds {counted(sizes[0], 'image')} and {labels} {counted(count, 'label')}")
    return sizes


def _sizes(path: Path, dimensions: int) -> tuple[int, ...]:
    with path.open("rb") as file:
        head = file.read(4 + 4 * dimensions)
    if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, BYTES, dimensions)):
        raise ValueError(f"{path} is no idx file of bytes in {counted(dimensions, 'dimension')}")
    sizes = struct.unpack(f">{dimensions}I", head[4:])
    size, wanted = path.stat().st_size, len(head) + math.prod(sizes)
    if size != wanted:
        raise ValueError(f"{path} has {counted(size, 'byte')} and should have {wanted:,}")
    return sizes
