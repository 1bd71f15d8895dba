"""The notebooks in a zip that a student handed in: unpacked without trust in what it says."""

import hashlib
import io
import re
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

_MOST_BYTES = 60_000_000  # of one notebook; the same limit as without a zip
_MOST_TOTAL = 150_000_000  # of all notebooks of a zip, and of the zip
_MOST_NOTEBOOKS = 20
_MOST_DIRECTORY = 4_000_000  # bytes of the zip's list of files


class ZipError(Exception):
    """A zip cannot be used; the message says why."""


def is_notebook(name: str) -> bool:
    """Return whether a file is a notebook by its name, and not Jupyter's or macOS's copy."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.suffix.lower() == ".ipynb" and not is_copy(path)


def is_copy(path: PurePosixPath) -> bool:
    """Return whether Jupyter or macOS made a file beside somebody's own."""
    parts = path.parts
    return any(one in (".ipynb_checkpoints", "__MACOSX") or one[:2] == "._" for one in parts)


def unpack(path: Path, into: Path) -> list[Path]:
    """Write the notebooks of a zip to a folder of their own and return their paths.

    The folders in the zip are ignored, so that nothing is written outside. A zip that was unpacked
    before is not unpacked again.

    Args:
        path: The zip.
        into: Holds a folder for each zip, named by the zip's checksum.

    Raises:
        ZipError: If it is not a zip, is encrypted or damaged, or holds too much.
        OSError: If this machine cannot read it or write its notebooks.
    """
    if path.is_symlink() or not path.is_file():
        raise ZipError("it is not a file")
    if path.stat().st_size > _MOST_TOTAL:
        raise ZipError(f"it has more than {_MOST_TOTAL:,} bytes")
    content = path.read_bytes()
    folder = into / hashlib.sha256(content).hexdigest()[:32]
    if not folder.is_dir():
        try:
            notebooks = _notebooks(content)
        except ZipError:
            raise
        except Exception as error:  # zipfile raises many kinds for what it cannot read
            raise ZipError(f"it is damaged, encrypted or not a zip ({error})") from error
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".") as beside:
            complete = Path(beside) / "complete"
            complete.mkdir()
            for number, (name, notebook) in enumerate(notebooks):
                stem = re.sub(r"[^\w-]", "_", PurePosixPath(name).stem)[-60:]
                (complete / f"{number:02}-{stem}.ipynb").write_bytes(notebook)
            complete.rename(folder)  # which is there only when it is complete
    return sorted(folder.iterdir())


def _notebooks(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(_Bounded(content)) as archive:
        entries = [entry for entry in archive.infolist() if _is_wanted(entry)]
        if len(entries) > _MOST_NOTEBOOKS:
            raise ZipError(f"it has {len(entries)} notebooks, more than {_MOST_NOTEBOOKS}")
        # As in a folder: the deepest first, so that a copy in a folder does not count.
        entries.sort(key=lambda entry: (-entry.filename.count("/"), entry.filename))
        found, left = [], _MOST_TOTAL
        for entry in entries:
            # The other methods unpack more than they are asked for.
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ZipError("its compression is neither deflate nor none")
            with archive.open(entry) as file:  # the size that it states may be wrong
                notebook = file.read(_MOST_BYTES + 1)
            left -= len(notebook)
            if len(notebook) > _MOST_BYTES or left < 0:
                raise ZipError("its notebooks are too large")
            found.append((entry.filename, notebook))
    return found


def _is_wanted(entry: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the zip was not made on Unix
    return is_notebook(entry.filename) and kind in (0, stat.S_IFREG) and not entry.is_dir()


class _Bounded(io.BytesIO):
    """Content that is read in small pieces: a zip's list of files may hold millions of names."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MOST_DIRECTORY:
            raise ZipError("its list of files is too long")
        return super().read(size)
