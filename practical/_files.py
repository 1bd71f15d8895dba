"""Where downloads live, and writing a file so that nobody ever sees half of it."""

import contextlib
import errno
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# The first line is the standard's: https://bford.info/cachedir/
_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# practical keeps downloads here, and `make cleanup` removes this folder.
"""
_BLOCK = 256  # images that are read at once for a checksum
_CHECKOUT = Path(__file__).resolve().parents[1]
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
# C++ writers (array_record) report errno as text alone.
_FULL_TEXT = re.compile("|".join(re.escape(os.strerror(number)) for number in sorted(_FULL)))


class DownloadError(RuntimeError):
    """A server did not answer, or what it sent is not what was expected."""


class CacheFolderError(RuntimeError):
    """The folder that downloads go to cannot be written, or its disk is full."""


def home() -> Path:
    """Return the one folder that downloads and caches go to.

    `PRACTICAL_HOME` names it; without it, it is `downloads/` beside the notebooks, or in the
    working folder where the package was installed without them.
    """
    if named := os.environ.get("PRACTICAL_HOME"):
        return Path(named).expanduser()
    beside = _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.cwd()
    return beside / "downloads"


def mirror() -> str | None:
    """Return the server named by `PRACTICAL_MIRROR`, which stands in for all others, or None.

    Raises:
        ValueError: If it is no http(s) address.
    """
    named = os.environ.get("PRACTICAL_MIRROR", "").strip().rstrip("/")
    if not named:
        return None
    if urlsplit(named).scheme not in ("http", "https") or not urlsplit(named).hostname:
        raise ValueError(
            f"PRACTICAL_MIRROR must be an address such as http://127.0.0.1:8000, got {named!r}"
        )
    return named


def cache_folder(kind: str) -> Path:
    """Return the folder below `home()` for downloads of one kind from the present server.

    Each server has its own, so that what a mirror gave never passes for the original.
    """
    server = mirror()
    origin = re.sub(r"[^A-Za-z0-9.-]+", "_", server.split("://")[1]) if server else "original"
    _mark(home() / kind)
    return (home() / kind / origin).resolve()


def _mark(folder: Path) -> None:
    """Make a folder with a tag by which `make cleanup` and backups know it; not an old folder."""
    with contextlib.suppress(OSError):  # whatever writes there later reports it better
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            (folder / "CACHEDIR.TAG").write_text(_TAG, encoding="utf-8")


@contextlib.contextmanager
def explain_cache_errors(folder: Path) -> Iterator[None]:
    """Turn what goes wrong in writing below `folder` into a `CacheFolderError` that says so."""
    remedy = "or name another folder in the environment variable PRACTICAL_HOME"
    try:
        yield
    except (DownloadError, CacheFolderError):
        raise
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        if number in _FULL or _FULL_TEXT.search(str(error)):
            raise CacheFolderError(
                f"the disk of {folder} is full ({error}); make room, {remedy}"
            ) from error
        if number in _CLOSED:
            raise CacheFolderError(
                f"{folder} cannot be written ({error}); make it a writable folder, {remedy}"
            ) from error
        raise


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` on success and vanishes on any failure.

    A reader sees the old file or the whole new one, also after a kill, on a full disk, or when the
    power fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp made it private
        _reach_the_disk(temporary)
        temporary.replace(path)
        _reach_the_disk(path.parent)  # for the new name
    except OSError as error:
        if error.errno in _FULL:  # pandas and NumPy leave out which file it was
            text = f"{os.strerror(error.errno or 0)}; make room"
            raise OSError(error.errno, text, str(path)) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _reach_the_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot do that for a folder
            raise
    finally:
        os.close(descriptor)


def check_writable(path: Path, *, size: int) -> None:
    """Make the folder of a file that will be written after hours of work, and try it out now.

    Args:
        path: The file.
        size: How many bytes it will have, about.

    Raises:
        OSError: If it is a folder, or its folder cannot be written to or has too little room.
    """
    if path.is_dir():
        text = "a file will be written here, and this is a folder; name a file in it"
        raise IsADirectoryError(errno.EISDIR, text, str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only a trial tells: permissions do not reveal read-only disks, quotas and limits.
        with tempfile.TemporaryFile(dir=path.parent) as file:
            for start in range(0, size, 2**20):
                file.write(bytes(min(2**20, size - start)))
    except OSError as error:
        text = f"{error.strerror}; make room, or name another file"
        raise OSError(error.errno, text, str(path)) from error


def fingerprint(tree: object) -> str:
    """Return a short checksum of all values in a tree of arrays."""
    import jax
    import numpy as np

    checksum = 0
    for leaf in jax.tree.leaves(tree):
        checksum = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), checksum)
    return f"{checksum:08x}"


def fingerprint_images(images: Any) -> str:
    """Return a checksum that changes whenever an image does.

    It is of all pixels, unless the images know a faster way (`LazyArray.identity`): of a folder,
    names, sizes and times.
    """
    import numpy as np

    identity = getattr(images, "identity", None)
    if identity is not None:
        return f"{zlib.crc32(identity(np.arange(len(images))).encode()):08x}"
    checksum = 0
    for first in range(0, len(images), _BLOCK):
        block: Any = np.ascontiguousarray(images[first : first + _BLOCK])
        checksum = zlib.crc32(block.reshape(-1).view(np.uint8), checksum)
    return f"{checksum:08x}"
