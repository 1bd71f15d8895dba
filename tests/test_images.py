"""Photographs of every common kind, whole and broken."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFile

from practical.data import images as module
from practical.data import load_image
from practical.data.images import decode, image_shape, resize_and_crop
from tests.oracles import refuses

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def quarters(size: int = 32) -> Image.Image:
    """Red and green over blue and white, so that every flip and turn can be told."""
    image = Image.new("RGB", (size, size), WHITE)
    draw, half = ImageDraw.Draw(image), size // 2
    draw.rectangle((0, 0, half - 1, half - 1), RED)
    draw.rectangle((half, 0, size, half - 1), GREEN)
    draw.rectangle((0, half, half - 1, size), BLUE)
    return image


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """Return the colours top left, top right, bottom left, bottom right, rounded to 0 or 255."""
    height, width = pixels.shape[:2]
    places = [(h, w) for h in (height // 4, -height // 4) for w in (width // 4, -width // 4)]
    return [tuple(int(v) for v in np.round(pixels[place]) * 255) for place in places]


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png(rows: np.ndarray, *, depth: int, colour: int, extra: bytes = b"") -> bytes:
    """Write a PNG by hand: Pillow writes no 16-bit colours and no transparent 16-bit grey."""

    height, width = rows.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    clear = chunk(b"tRNS", extra) if extra else b""
    end = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + clear + end


def saved(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.jpg", {"quality": 100}), ("a.JPEG", {}), ("a.png", {}), ("a.webp", {"lossless": True}),
     ("a.jpg", {"progressive": True}), ("misnamed.png", {"format": "JPEG"}),
     ("camera.jpg", {"format": "MPO"}), ("a.bmp", {}), ("a.gif", {}), ("a.ppm", {}), ("a.tif", {}),
     ("a.tiff", {"compression": "tiff_lzw"})],
)  # fmt: skip
def test_kinds_of_file(tmp_path, name, options):
    quarters().save(tmp_path / name, **options)
    pixels = load_image(tmp_path / name)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert corners(pixels) == [RED, GREEN, BLUE, WHITE]
    assert load_image(str(tmp_path / name), image_size=8).shape == (8, 8, 3)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation(tmp_path, kind, turn):
    # How the sensor's rows and columns lie in the upright picture: EXIF 2.32, tag 0x0112.
    stored = {
        1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: lambda x: np.rot90(x, -1),
    }[turn]  # fmt: skip
    upright = np.asarray(quarters())[:, :24]
    exif = Image.Exif()
    exif[0x0112] = turn
    image = Image.fromarray(np.ascontiguousarray(stored(upright)))
    image.save(tmp_path / "a", kind, exif=exif)
    pixels = load_image(tmp_path / "a")
    assert pixels.shape == (32, 24, 3)
    assert image_shape(tmp_path / "a") == (32, 24)
    assert corners(pixels) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("place", ["before the pixels", "behind the pixels"])
@pytest.mark.parametrize("note", ["eXIf", "XMP"])
def test_a_png_header_is_read_without_its_pixels(tmp_path, monkeypatch, place, note):
    exif = Image.Exif()
    exif[0x0112] = 6
    extra = (
        chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        if note == "eXIf"
        else chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>')
    )
    content = saved(quarters().crop((0, 0, 24, 32)), "PNG")
    cut = 33 if place == "before the pixels" else len(content) - 12  # behind IHDR, before IEND
    (tmp_path / "a.png").write_bytes(content[:cut] + extra + content[cut:])

    def load(*_):
        raise AssertionError("pixels are decoded where the header would do")

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", load)
        assert image_shape(tmp_path / "a.png") == (24, 32)
    assert load_image(tmp_path / "a.png").shape == (24, 32, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # which Pillow tells the user about
def test_a_broken_exif_note_does_not_spoil_the_picture(tmp_path):
    content = saved(quarters(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    (tmp_path / "a.jpg").write_bytes(content)
    assert load_image(tmp_path / "a.jpg").shape == (32, 32, 3)


@pytest.mark.parametrize("turn", [0, 9, 4711])
def test_an_unknown_rotation_is_none(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    quarters().save(tmp_path / "a.jpg", exif=exif)
    assert corners(load_image(tmp_path / "a.jpg")) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (saved(Image.new("L", (8, 8), 51), "PNG"), (51, 51, 51)),
        (saved(Image.new("1", (8, 8), 1), "PNG"), (255, 255, 255)),
        (saved(Image.new("L", (8, 8), 51), "JPEG"), (51, 51, 51)),
        (saved(Image.new("RGB", (8, 8), GREEN).quantize(4), "PNG"), GREEN),
        # Half-transparent red over white; alpha 128 leaves 127 / 255 of the white.
        (saved(Image.new("RGBA", (8, 8), (255, 0, 0, 128)), "PNG"), (255, 127, 127)),
        (saved(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "WEBP", lossless=True), WHITE),
        (saved(Image.new("LA", (8, 8), (0, 0)), "PNG"), WHITE),
        (saved(Image.new("RGB", (8, 8), RED), "PNG", transparency=RED), WHITE),
        (saved(Image.new("L", (8, 8), 7), "PNG", transparency=7), WHITE),
        (saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), RED),
        (saved(Image.new("I;16", (8, 8), 51 * 257), "PNG"), (51, 51, 51)),
        (png(np.full((8, 8), 51 * 257, ">u2"), depth=16, colour=0), (51, 51, 51)),
        (png(np.full((8, 8), 700, ">u2"), depth=16, colour=0, extra=b"\x02\xbc"), WHITE),
        (png(np.full((8, 8, 3), 51 * 257, ">u2"), depth=16, colour=2), (51, 51, 51)),
        (png(np.full((8, 8, 4), 0, ">u2"), depth=16, colour=6), WHITE),
        (png(np.full((8, 8, 2), 0, ">u2"), depth=16, colour=4), WHITE),
        (saved(Image.new("I;16", (8, 8), 51 * 257), "TIFF"), (51, 51, 51)),
        # Tag 262 (photometric interpretation) turned from "0 is black" to "0 is white".
        (
            saved(Image.new("I;16", (8, 8), 51 * 257), "TIFF").replace(
                struct.pack("<HHII", 262, 3, 1, 1), struct.pack("<HHII", 262, 3, 1, 0)
            ),
            (204, 204, 204),
        ),
        (b"P2 8 8 1023 " + b"1023 " * 64, WHITE),
    ],
    ids=["grey", "black and white", "grey jpeg", "palette", "alpha", "clear webp", "grey alpha",
         "clear colour", "clear grey", "cmyk", "16-bit", "16-bit by hand", "16-bit clear",
         "16-bit colour", "16-bit alpha", "16-bit grey alpha", "16-bit tiff",
         "16-bit tiff of negatives", "10-bit pgm"],
)  # fmt: skip
def test_modes(content, expected):
    pixels = decode(content)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, (8, 8, 3)), atol=2)


def test_16_bit_grey_keeps_its_tone():
    ramp = np.arange(256, dtype=np.uint16)[None]  # white is 65535 = 255 * 257
    pixels = decode(png((ramp * 257).astype(">u2"), depth=16, colour=0))
    np.testing.assert_array_equal(pixels[..., 0], ramp)


def test_palette_with_a_clear_colour():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 9, 9, 9])
    assert (decode(saved(image, "PNG", transparency=1)) == 255).all()


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    for kind in ("PNG", "WEBP", "GIF", "TIFF"):
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(decode(content)[4, 4], RED, atol=3)


# --- broken files --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated(tmp_path, kind, kept):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = saved(Image.fromarray(noise), kind)
    path = tmp_path / "cut.bin"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"cut\.bin (is|cannot be read).*(remove it)"):
        load_image(path)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_range(tmp_path, mode):
    Image.new(mode, (8, 8), 1).save(tmp_path / "a.tif")
    for read in (load_image, image_shape):
        with pytest.raises(ValueError, match=r"a\.tif has 32-bit .*convert it to 8 or 16"):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize("content", [b"", b"<html>", b"RIFF" + bytes(50), bytes(1000)])
def test_no_image(tmp_path, content):
    (tmp_path / "page.jpg").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"page\.jpg is not an image of a known kind \(JPEG, PNG, WEB"
    ):
        load_image(tmp_path / "page.jpg")


def test_missing_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg is not a file; check the path"):
        load_image(tmp_path / "nowhere.jpg")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        load_image(tmp_path)


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow's own warning
@pytest.mark.parametrize("side", [9_500, 14_000, 60_000])
def test_decompression_bomb(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = png(np.zeros((1, 1, 3), np.uint8), depth=8, colour=2)
    old = content[12:29]
    new = b"IHDR" + header
    content = content.replace(old, new).replace(
        struct.pack(">I", zlib.crc32(old)), struct.pack(">I", zlib.crc32(new))
    )
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"bomb\.png .*; make it smaller"):
        load_image(tmp_path / "bomb.png")


# --- resizing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (33, 33), (20, 21), (16, 500)])
@pytest.mark.parametrize("size", [16, 20, 33, 64])
def test_resize_and_crop_takes_the_centre(height, width, size):
    """A picture of its own coordinates shows which part is seen, and at which scale."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 255 / height, columns * 255 / width, 0 * rows], -1).astype(np.uint8)
    out = resize_and_crop(image, size)
    assert out.shape == (size, size, 3)
    assert out.dtype == np.uint8
    shorter, middle = min(height, width), (size - 1) / 2
    for axis, side in enumerate((height, width)):
        along = out[..., axis].mean(1 - axis)
        expected = 127.5 + (np.arange(size) - middle) * (shorter / size) * 255 / side
        inner = slice(2, -2)  # the image's edge has no pixel to interpolate with
        np.testing.assert_allclose(along[inner], expected[inner], atol=4 + 255 / side)


def test_resize_is_antialiased():
    checkers = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    out = resize_and_crop(np.repeat(checkers[..., None], 3, -1).astype(np.uint8), 16)
    assert 120 <= out.min() <= out.max() <= 135


def test_same_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    np.testing.assert_array_equal(resize_and_crop(image, 20), image)


def test_a_thread_like_image_cannot_take_all_memory():
    with pytest.raises(ValueError, match=r"the resized image has 4096x.* make it smaller"):
        resize_and_crop(np.zeros((1, 30_000, 3), np.uint8), 4096)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "224", 5000])
def test_bad_image_size(tmp_path, size):
    quarters().save(tmp_path / "a.png")
    with refuses(r"image_size must be an integer from 1 to 4096 .*got"):
        load_image(tmp_path / "a.png", image_size=size)


def test_the_limit_is_below_pillows_own():
    assert module._MAX_PIXELS <= 2 * Image.MAX_IMAGE_PIXELS
