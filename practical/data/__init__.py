"""Data sets: `load_dataset`, `load_image`, and the one form that they take, `Dataset`."""

import difflib

from practical.data.dataset import Dataset
from practical.data.images import check_image_size, load_image
from practical.data.mosaics import mosaics

__all__ = ["Dataset", "load_dataset", "load_image", "mosaics"]

_NAMES = ("shapes", "imagenette", "folder:PATH")
_SPLITS = ("train", "validation")
_SIZES = ("160px", "320px", "full")


def load_dataset(
    name: str,
    split: str = "validation",
    *,
    size: str | None = None,
    image_size: int | None = None,
    seed: int = 0,
    count: int | None = None,
) -> Dataset:
    """Return a data set of labelled images; its pixels are read when they are looked at.

    Args:
        name: "shapes" (drawn, with the masks of the objects, no download), "imagenette" (ten
            classes of photographs; the first call downloads 99 MB, which `PRACTICAL_HOME` says
            where to keep and `PRACTICAL_MIRROR` from which other server to get), or
            "folder:PATH" (your own images: one folder per class, under `train/` and `val/` (also
            `valid/`, `validation/` or `test/`), or at one level and split 80/20 by `seed`; JPEG,
            PNG, WebP, BMP, TIFF, GIF or PPM).
        split: "train" or "validation".
        size: Which download of imagenette: "160px" (default) or "320px" for the shorter side,
            or "full". The other data sets have no sizes.
        image_size: Side of the square images in pixels. By default 64 for shapes (64 to 128), 160
            for imagenette's 160px, 224 for its other sizes, and for a folder the size that all
            its images have. The shorter side is resized to it, and the centre cut out.
        seed: For shapes, which scenes are drawn; else the order of the images, and what a
            one-level folder keeps for validation.
        count: How many images, from the first. In any data set the first ones are spread over all
            classes, and the first k of a larger `count` are the same images.

    Raises:
        ValueError: If a name, an option or a folder's content is not as described.
        DownloadError: If a download fails, or is not what was expected.
        CacheFolderError: If a download cannot be stored.
    """
    _check_choice("split", split, _SPLITS)
    check_image_size(image_size)
    kind, _, path = name.partition(":") if isinstance(name, str) else (name, "", "")
    if kind != "imagenette" and size is not None:
        raise ValueError(
            f"size is an option of imagenette's downloads alone, got size={size!r} with "
            f"{name!r}; leave it out, and set the pixels by image_size"
        )
    if kind == "folder" and path:
        from practical.data.folder import folder

        return folder(path, split, image_size=image_size, count=count, seed=seed)
    _check_choice("name", name, _NAMES[:2], shown=_NAMES)
    if name == "shapes":
        from practical.data.shapes import shapes

        side = {} if image_size is None else {"image_size": image_size}
        return shapes(split, count=count, seed=seed, **side)
    size = "160px" if size is None else size
    _check_choice("size", size, _SIZES)
    from practical.data.imagenette import imagenette

    return imagenette(split, size=size, image_size=image_size, count=count, seed=seed)


def _check_choice(
    argument: str, value: object, choices: tuple[str, ...], *, shown: tuple[str, ...] = ()
) -> None:
    if value in choices:
        return
    given, options = str(value).lower(), shown or choices
    near = [option for option in options if given and option.startswith(given)]
    near = near or difflib.get_close_matches(given, options, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(repr(option) for option in options)
    raise ValueError(f"{argument} must be one of {listed}, got {value!r}{hint}")
