"""Decode a photograph of any common kind, and bring it to a size."""

import contextlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # Pillow is imported when the first image is opened
    from PIL import Image

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_MAX_PIXELS = 90_000_000  # 270 MB decoded; a file that unpacks to more is a mistake or an attack
_ORIENTATION = 0x0112  # EXIF tag
_PHOTOMETRIC = 0x0106  # TIFF tag
_TURNS = range(2, 9)  # its values that mean a flip or a rotation
_PNG_NOTES = (b"IHDR", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"IEND")  # all that EXIF needs
_MAX_NOTE = 2**20  # bytes; a camera's are under 64 kB


def load_image(path: str | Path, *, image_size: int | None = None) -> np.ndarray:
    """Read one photograph: JPEG, PNG, WebP, BMP, TIFF, GIF or PPM.

    It is turned upright according to its EXIF tag. Gray, palette, 16-bit and CMYK images become
    RGB, and transparent pixels become white. Animations give their first frame, and TIFF files
    with several pages give the first page.

    Args:
        path: The file.
        image_size: If given, the shorter side is resized to so many pixels, and the centre
            square of that side is cut out.

    Returns:
        (H, W, 3) float32 in [0, 1].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a readable image, is truncated, has 32-bit pixels, or unpacks to
            over 90 million pixels.
    """
    check_image_size(image_size)
    image = decode(path)
    if image_size is not None:
        image = resize_and_crop(image, image_size)
    return image / np.float32(255)


def decode(source: str | Path | bytes, *, name: str = "", formats=_FORMATS) -> np.ndarray:
    """Return (H, W, 3) uint8 of a file or of a file's bytes, which `name` names in errors.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no readable image.
    """
    with _opened(source, name, formats) as (image, name):
        try:
            turn = _orientation(image)
            rgb = _to_rgb(image)
            return np.asarray(_upright(rgb, turn))
        except Exception as error:  # decoders raise anything on broken bytes
            raise ValueError(
                f"{name} is a broken or truncated image ({error}); get it again or remove it"
            ) from error


def image_shape(path: str | Path) -> tuple[int, int]:
    """Return the height and width that `decode` will give, without decoding any pixels.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a readable image.
    """
    with _opened(path, "", _FORMATS) as (image, _):
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


def resize_and_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side to `size` pixels and cut out the centre square.

    Antialiased bilinear, rounded as torchvision's `Resize` and `CenterCrop` do, which pretrained
    networks are evaluated with.

    Args:
        image: (H, W, 3) uint8.
        size: Side of the result in pixels.

    Returns:
        (size, size, 3) uint8.

    Raises:
        ValueError: If the image is so long and thin that resized it has over 90 million pixels.
    """
    from PIL import Image

    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter != size:
        height, width = (int(size * side / shorter) for side in (height, width))
        _check_pixels(height, width, "the resized image")
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]


def check_image_size(image_size: int | None) -> None:
    """Raise a ValueError unless `image_size` is None or a sensible number of pixels."""
    if image_size is None:
        return
    whole = isinstance(image_size, int | np.integer) and not isinstance(image_size, bool)
    if not whole or not 1 <= image_size <= 4096:
        raise ValueError(
            f"image_size must be an integer from 1 to 4096 pixels, or None; got {image_size!r}"
        )


@contextlib.contextmanager
def _opened(source: str | Path | bytes, name: str, formats) -> Iterator[tuple["Image.Image", str]]:
    """Open an image without decoding it; give it and its name for messages."""
    from PIL import Image, UnidentifiedImageError

    in_memory = isinstance(source, bytes)
    name = name or ("the image" if in_memory else str(source))
    if not in_memory and not Path(source).is_file():
        raise FileNotFoundError(f"{name} is not a file; check the path")
    try:
        image = Image.open(io.BytesIO(source) if in_memory else source, formats=formats)
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name} is not an image of a known kind ({', '.join(formats)}); convert it or remove "
            f"it"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{name} is too large: {error}; make it smaller") from error
    except Exception as error:  # decoders raise anything on broken bytes
        raise ValueError(
            f"{name} cannot be read as an image ({error}); get it again or remove it"
        ) from error
    with image:
        width, height = image.size
        _check_pixels(height, width, name)
        # Nothing in the file states which of these values is white.
        if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
            raise ValueError(
                f"{name} has 32-bit or signed pixels, which have no fixed range; convert it to 8 "
                f"or 16 unsigned bits per channel"
            )
        yield image, name


def _check_pixels(height: int, width: int, name: str) -> None:
    if height * width > _MAX_PIXELS:
        raise ValueError(
            f"{name} has {height}x{width} pixels, over the limit of {_MAX_PIXELS:,}; "
            f"make it smaller"
        )


def _orientation(image) -> int:
    """Return the EXIF tag that is still to be applied, without decoding any pixels."""
    from PIL import Image

    if image.format == "TIFF":  # Pillow turns these itself
        return 1
    try:
        if image.format == "PNG":
            with Image.open(io.BytesIO(_png_notes(image.fp)), formats=["PNG"]) as notes:
                exif = Image.Image.getexif(notes)
        else:
            exif = image.getexif()
        turn = exif.get(_ORIENTATION, 1)
    except Exception:  # a broken note in the file's margin does not spoil the picture
        return 1
    return turn if turn in _TURNS else 1


def _png_notes(file) -> bytes:
    """Return a PNG of the chunks that can hold EXIF, which may stand behind the pixels.

    Pillow decodes all pixels to get there, which takes 60 times as long.
    """
    position = file.tell()
    file.seek(0)
    kept = [file.read(8)]
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in _PNG_NOTES and length <= _MAX_NOTE:
            kept += head, file.read(length + 4)  # with the checksum
        else:
            file.seek(length + 4, 1)
    file.seek(position)
    return b"".join(kept)


def _upright(image, turn: int):
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }  # fmt: skip
    return image.transpose(turns[turn]) if turn in turns else image


def _to_rgb(image):
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 255
        grey = np.asarray(image, np.float32)
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # 0 is white
            grey = 65535 - grey
        eight = Image.fromarray(np.round(grey / 257).astype(np.uint8))
        if (clear := image.info.get("transparency")) is not None:
            eight.putalpha(Image.fromarray(np.where(grey == clear, 0, 255).astype(np.uint8)))
        image = eight
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")
