from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from safs_ray.sources.idx import check


def idx(*sizes: int, values: int | None = None, kind: int = 8) -> bytes:
    head = bytes((0, 0, kind, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)
    return head + bytes(math.prod(sizes) if values is None else values)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    Path("images").write_bytes(idx(3, 2, 5))
    Path("labels").write_bytes(idx(3))
    return Path("images"), Path("labels")


def test_whole_files_tell_the_sizes_of_the_images(files: tuple[Path, Path]) -> None:
    assert check(*files) == (3, 2, 5)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_a_file_cut_anywhere_is_told_by_name(files: tuple[Path, Path], name: str) -> None:
    whole = Path(name).read_bytes()
    for end in range(len(whole)):
        Path(name).write_bytes(whole[:end])
        with pytest.raises(ValueError, match=f"^{name} (is no idx file of bytes in|has {end} bytes and should have)"):
            check(*files)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("images", idx(3), "images is no idx file of bytes in 3 dimensions"),
        ("labels", idx(3, 2, 5), "labels is no idx file of bytes in 1 dimension"),
        ("images", idx(3, 2, 5, kind=13), "images is no idx file of bytes in 3 dimensions"),
        ("images", b"<html>" * 50, "images is no idx file of bytes in 3 dimensions"),
        ("images", idx(3, 2, 5, values=31), "images has 47 bytes and should have 46"),
        ("images", idx(4, 2, 5), "images holds 4 images and labels 3 labels"),
        (
            "images",
            idx(2**32 - 1, 2**32 - 1, 2**32 - 1, values=9),
            "images has 25 bytes and should have 79,228,162,458,",
        ),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_what_is_wrong_is_told(files: tuple[Path, Path], name: str, content: bytes, fault: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(ValueError, match=f"^{fault}"):
        check(*files)


def test_a_large_file_is_not_read(files: tuple[Path, Path]) -> None:
    """A file of a terabyte that takes no place on the disk."""
    with files[0].open("r+b") as file:
        file.write(idx(3, 2**19, 2**19, values=0))
        file.truncate(16 + 3 * 2**38)
    assert check(*files) == (3, 2**19, 2**19)
