"""The files that a data set's images are in, and whether they are still the same ones."""

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Int
from numpy import ndarray
from tqdm.auto import tqdm

from practical.data.dataset import LazyArray

_BLOCK = 64  # images that are read at once
_LISTED = 3  # how many broken images an error message names
# Bytes of all files together, up to which their content is compared. Above, their names, sizes and
# times are, because reading them takes too long.
_MOST = 256_000_000


class Files:
    """Image files as they were when the data set was opened; a file that changes is refused.

    Raises:
        OSError: If there is no such file.
    """

    def __init__(self, root: Path, paths: Sequence[Path]):
        self._root, self._paths = root, paths
        self._states = [_state(path) for path in paths]

    def unchanged(self, index: int) -> Path:
        """Return a file that is to be read.

        Raises:
            ValueError: If it was replaced: old and new images would be mixed.
        """
        path = self._paths[index]
        if path.exists() and _state(path) != self._states[index]:
            raise ValueError(f"{path} has changed since its data set was loaded; load it again")
        return path

    def identity(self, rows: Int[ndarray, " rows"]) -> str:
        """Return a text that is another one for other images.

        A copied folder has the same text. If it is large, the copy must keep the files' times, as
        `cp -a` and `rsync -a` do.
        """
        if sum(self._states[row][0] for row in rows) <= _MOST:
            return _checksum(self.unchanged(int(row)).read_bytes() for row in rows)
        names = (self._paths[row].relative_to(self._root).as_posix() for row in rows)
        described = zip(names, (self._states[row] for row in rows), strict=True)
        return _checksum(os.fsencode(f"{name}\0{state}\0") for name, state in described)


def check_readable(images: Any, *, progress: bool = False) -> None:
    """Read all images once, so that a broken file is found before any work and not in its middle.

    Args:
        images: Those in memory are not looked at.
        progress: Show a bar.

    Raises:
        ValueError: If some cannot be read; it names the first.
    """
    if not isinstance(images, LazyArray):
        return
    broken = []
    blocks = range(0, len(images), _BLOCK)
    for first in tqdm(blocks, desc="reading the images", disable=not progress, leave=False):
        try:
            images[first : first + _BLOCK]
        except (ValueError, OSError):
            rows = range(first, min(first + _BLOCK, len(images)))
            broken += filter(None, (_why_not(images, row) for row in rows))
    if broken:
        more = f" and {len(broken) - _LISTED} more" if len(broken) > _LISTED else ""
        raise ValueError(
            f"{len(broken)} of {len(images)} images cannot be read: "
            f"{'; '.join(broken[:_LISTED])}{more}"
        )


def _why_not(images: LazyArray, row: int) -> str:
    try:
        images[row]
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _checksum(contents: Iterable[bytes]) -> str:
    checksum = 0
    for content in contents:
        checksum = zlib.crc32(b"%d " % len(content) + content, checksum)
    return f"{checksum:08x}"
