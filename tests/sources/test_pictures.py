"""Single image files: what is transparent, which side is up, and how many bits there are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from safs_ray.sources.pictures import Alpha, extensions, read
from tests.sources.raw import Samples, png, tiff


def pixels(content: bytes, alpha: Alpha = "white") -> list[Any]:
    return np.asarray(read(io.BytesIO(content), alpha)).tolist()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def of(mode: str, *values: int | tuple[int, ...]) -> Image.Image:
    """An image of one row."""
    image = Image.new(mode, (len(values), 1))
    image.putdata(values)
    return image


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    """A row of every colour of a palette."""
    image = of("P", *range(len(colours)))
    image.putpalette([value for colour in colours for value in colour])
    return image


RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "white", "kept"),
    [
        (encoded(of("LA", (0, 255), (0, 0), (100, 51))), [0, 255, 224], [[0, 255], [0, 0], [100, 51]]),
        (
            encoded(of("RGBA", (255, 0, 0, 255), (9, 9, 9, 0), (100, 200, 0, 102))),
            [RED, WHITE, (193, 233, 153)],
            [(*RED, 255), (9, 9, 9, 0), (100, 200, 0, 102)],
        ),
        (
            encoded(palette(RED, BLUE, RED), transparency=1),
            [RED, WHITE, RED],
            [(*RED, 255), (*BLUE, 0), (*RED, 255)],
        ),
        (
            encoded(palette(RED, BLUE), transparency=bytes([255, 51])),
            [RED, (204, 204, 255)],
            [(*RED, 255), (*BLUE, 51)],
        ),
        (
            encoded(palette(RED, BLUE, RED), "GIF", transparency=1),
            [RED, WHITE, RED],
            [(*RED, 255), (*BLUE, 0), (*RED, 255)],
        ),
        (
            encoded(of("RGBA", (255, 0, 0, 255), (0, 0, 255, 0)).convert("PA"), "TIFF"),
            [RED, WHITE],
            [(*RED, 255), (*BLUE, 0)],
        ),
        (encoded(of("L", 7, 8), transparency=7), [255, 8], [[7, 0], [8, 255]]),
        (encoded(of("RGB", RED, BLUE), transparency=RED), [WHITE, BLUE], [(*RED, 0), (*BLUE, 255)]),
        (png(np.array([[0, 1, 1]]), 1, 0, (0,)), [255, 255, 255], [[0, 0], [255, 255], [255, 255]]),
        (
            png(np.array([[0, 1, 2, 3]]), 2, 0, (1,)),
            [0, 255, 170, 255],
            [[0, 255], [85, 0], [170, 255], [255, 255]],
        ),
        (png(np.array([[5, 6]]), 4, 0, (5,)), [255, 102], [[85, 0], [102, 255]]),
        (png(np.array([[0x1234, 0x1235]]), 16, 0, (0x1234,)), [255, 0x12], [[0x12, 0], [0x12, 255]]),
        (
            png(np.array([[[256, 512, 0], [256, 512, 1]]]), 16, 2, (256, 512, 0)),
            [WHITE, (1, 2, 0)],
            [(1, 2, 0, 0), (1, 2, 0, 255)],
        ),
        (png(np.array([[[0x1234, 0xFFFF], [7, 0]]]), 16, 4), [0x12, 255], [[0x12, 255], [0, 0]]),
        (
            png(np.array([[[0x1234, 0, 0xFFFF, 0xFFFF], [7, 7, 7, 0]]]), 16, 6),
            [(0x12, 0, 255), WHITE],
            [(0x12, 0, 255, 255), (0, 0, 0, 0)],
        ),
    ],
    ids=[
        "LA", "RGBA", "palette, one index", "palette, alpha for each", "gif", "PA", "tRNS gray", "tRNS colour",
        "tRNS 1 bit", "tRNS 2 bits", "tRNS 4 bits", "tRNS 16 bits", "tRNS 16 bits colour", "LA 16 bits", "RGBA 16 bits",
    ],
)  # fmt: skip
def test_transparent_pixels_become_white_or_keep_their_alpha(content: bytes, white: Any, kept: Any) -> None:
    assert pixels(content) == [[list(one) if isinstance(one, tuple) else one for one in white]]
    assert pixels(content, "keep") == [[list(one) for one in kept]]


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "CMYK"])
def test_an_opaque_image_gets_an_opaque_alpha_where_that_is_kept(mode: str) -> None:
    image = of("RGB", RED, (9, 9, 9)).convert(mode)
    content = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    opaque = image.convert("L" if mode in ("1", "L") else "RGB")
    white, kept = (np.asarray(read(io.BytesIO(content), alpha)) for alpha in ("white", "keep"))
    assert np.array_equal(white, np.asarray(opaque))
    assert np.array_equal(kept[..., :-1].squeeze(), np.asarray(opaque).squeeze())
    assert (kept[..., -1] == 255).all()


CORNERS = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
TURNED = {
    1: CORNERS, 2: CORNERS[:, ::-1], 3: CORNERS[::-1, ::-1], 4: CORNERS[::-1], 5: CORNERS.T,
    6: np.rot90(CORNERS, -1), 7: CORNERS[::-1, ::-1].T, 8: np.rot90(CORNERS),
}  # fmt: skip
"""What is seen of CORNERS by what EXIF says of the side that is up."""


@pytest.mark.parametrize("turn", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_images_are_turned_once_as_their_exif_data_say(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    image = Image.fromarray(CORNERS * 40).convert("RGB" if kind == "WEBP" else "L")
    content = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    found = np.asarray(read(io.BytesIO(content), "white"))
    assert (found[..., 0] if kind == "WEBP" else found).tolist() == (TURNED[turn] * 40).tolist()


def test_a_photograph_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4), "red").save(tmp_path / "a.jpg", exif=exif)
    assert np.asarray(read(str(tmp_path / "a.jpg"), "white")).shape == (8, 4, 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_images_are_turned_with_all_their_bits(order: str) -> None:
    samples = np.arange(18, dtype=np.uint16).reshape(2, 3, 3) * 1000
    found = read(io.BytesIO(tiff(samples, order, turn=3)), "white")
    assert np.array_equal(np.asarray(found), samples[::-1, ::-1])


def test_damaged_exif_data_leave_the_image_as_it_is() -> None:
    content = encoded(Image.fromarray(CORNERS), exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert pixels(content) == CORNERS.tolist()


GRAY: dict[str, tuple[bytes, Samples]] = {}
for _order in "<>":
    for _compressed in (False, True):
        for _kind in (np.uint16, np.int16, np.int32, np.float32):
            _samples = np.array([[0, 1, 300], [77, -5 if _kind is not np.uint16 else 5, 4095]]).astype(_kind)
            _name = f"{np.dtype(_kind)} {_order} {'zlib' if _compressed else 'plain'}"
            GRAY[_name] = tiff(_samples, _order, _compressed), _samples
_large = np.array([[0, 4_000_000_000]], np.uint32)
GRAY["uint32"] = tiff(_large), _large


@pytest.mark.parametrize("name", GRAY)
def test_tiffs_of_more_than_8_bits_keep_their_numbers_whatever_their_order_of_bytes(name: str) -> None:
    content, samples = GRAY[name]
    found = read(io.BytesIO(content), "white")
    assert not isinstance(found, Image.Image)
    assert found.tolist() == samples.tolist()
    assert found.dtype.kind == samples.dtype.kind.replace("u", found.dtype.kind)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_16_bit_colour_keeps_the_lower_bytes(tmp_path: Path, order: str, compressed: bool) -> None:
    samples = np.random.default_rng(0).integers(0, 4096, (4, 5, 3), dtype=np.uint16)
    for content in (png(samples, 16, 2), tiff(samples, order, compressed)):
        (tmp_path / "image").write_bytes(content)
        for file in (io.BytesIO(content), str(tmp_path / "image")):
            found: npt.NDArray[Any] = np.asarray(read(file, "keep"))
            assert found.dtype == np.uint16
            assert np.array_equal(found, samples)


def test_12_and_16_bits_of_a_gray_map_are_scaled_as_the_file_says() -> None:
    """Pillow spreads all gray maps over 16 bits."""
    deep = np.array([[0, 2048, 4095]], ">u2").tobytes()
    assert pixels(b"P5 3 1 4095\n" + deep) == [[0, 32776, 65535]]
    assert pixels(b"P5 3 1 65535\n" + deep) == [[0, 2048, 4095]]


def test_channels_of_16_bits_that_lie_apart_are_refused() -> None:
    """Pillow would take every second byte for a pixel."""
    samples = np.zeros((4, 5, 3), np.uint16)
    with pytest.raises(ValueError, match="channels of more than 8 bits lie apart"):
        read(io.BytesIO(tiff(samples, apart=True)), "white")


def test_names_of_images_are_those_of_formats_that_pillow_reads() -> None:
    assert {".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp", ".bmp", ".pgm", ".jp2"} <= extensions()
    assert extensions().isdisjoint({".eps", ".pdf", ".h5", ".mpg", ".txt", ".csv", ""})
