"""A long computation in parts, in a folder of its own: stopped, even by a kill, it goes on.

Every part is a file that is there whole or not at all, so no row is lost or doubled.
"""

import contextlib
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from practical._arguments import as_argument, as_model
from practical._files import atomic_path, fingerprint, fingerprint_images
from practical._jit import with_products


@contextlib.contextmanager
def study_folder(out: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Hold a folder for one run, and refuse one that holds results of other settings.

    A folder without a part holds no results: a run that failed at once does not stop the next.
    Damaged parts are set aside, to be computed again.

    Raises:
        ValueError: If `out` is not a folder, or holds results of other settings.
        RuntimeError: If another run is writing to it.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"the results go to a folder, and {out} is a file; name another one")
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RuntimeError(
            f"another run is writing to {out}; wait for it, or name another folder"
        ) from None
    try:
        parts = Parts(out, settings)
        parts.set_aside_damaged()
        _check_settings(out / "settings.json", settings, parts)
        yield
    finally:
        lock.release()


class Parts:
    """The finished parts of a study: tables in files of its folder.

    The first line of a file has checksums of the settings that it was computed with and of its
    rows. So each part can be judged alone, whatever became of the folder's other files.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]):
        self.folder = out / "parts"
        self._settings = _checksum(json.dumps(settings, sort_keys=True).encode())

    def __contains__(self, name: str) -> bool:
        return (self.folder / name).exists()

    def names(self) -> set[str]:
        """Return the names of the parts that are there."""
        return {path.name for path in self.folder.glob("*.csv")}

    def write(self, name: str, rows: pd.DataFrame) -> None:
        """Write a part so that nobody ever sees half of it."""
        table = rows.to_csv(index=False).encode()
        head = f"# settings {self._settings}, rows {_checksum(table)}\n".encode()
        with atomic_path(self.folder / name) as temporary:
            temporary.write_bytes(head + table)

    def read(self, name: str) -> pd.DataFrame:
        """Return the rows of a part."""
        return read_rows(self.folder / name, skiprows=1)

    def set_aside(self, name: str, why: str) -> None:
        """Rename a part that cannot be used, and say so."""
        path = self.folder / name
        path.replace(path.with_suffix(".damaged"))
        print(f"{path} is computed again: {why}", file=sys.stderr)

    def set_aside_damaged(self) -> None:
        """Set aside all parts that are not as they were written, and remove half-written ones."""
        for path in self.folder.glob(".*.part"):
            path.unlink(missing_ok=True)
        for name in sorted(self.names()):
            if self._settings_of(name) is None:
                self.set_aside(name, "it is damaged")

    def of_other_settings(self) -> list[str]:
        """Return the names of the parts that were computed with other settings."""
        return [name for name in sorted(self.names()) if self._settings_of(name) != self._settings]

    def _settings_of(self, name: str) -> str | None:
        head, _, table = (self.folder / name).read_bytes().partition(b"\n")
        found = re.fullmatch(rb"# settings (\w+), rows (\w+)", head)
        if not found or found[2].decode() != _checksum(table):
            return None
        return found[1].decode()


def _checksum(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"


def read_rows(path: Path, *, skiprows: int = 0) -> pd.DataFrame:
    """Return a table as it was written.

    Pandas would turn classes called "None" and "NA" into missing values and "007" into 7.
    """
    return pd.read_csv(
        path, skiprows=skiprows, keep_default_na=False, na_values=[""], dtype={"class": str}
    )


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Write a table so that nobody ever sees half of it."""
    with atomic_path(path) as temporary:
        rows.to_csv(temporary, index=False)


def run_parts(
    out: Path,
    settings: Mapping[str, Any],
    parts: Mapping[str, Callable[[], pd.DataFrame]],
    *,
    progress: bool,
) -> pd.DataFrame:
    """Compute the parts, by name, that the folder does not hold yet, and return the rows of all."""
    with study_folder(out, settings):
        files = Parts(out, settings)
        done = sum(f"{name}.csv" in files for name in parts)
        rows = []
        with tqdm(total=len(parts), initial=done, unit="run", disable=not progress) as bar:
            for name, compute in parts.items():
                bar.set_description(name)
                file = f"{name}.csv"
                new = file not in files
                if new:
                    files.write(file, compute())
                rows.append(files.read(file))
                bar.update(new)
        table = pd.concat(rows, ignore_index=True)
        write_rows(out / "results.csv", table)
    return table


def fingerprints(**datasets: Any) -> dict[str, list]:
    """Return for each data set, by name, its shape and checksums of its images and labels."""
    return {
        name: [*data.images.shape, fingerprint_images(data.images), fingerprint(data.labels)]
        for name, data in datasets.items()
    }


def fingerprint_model(model: Callable, image: tuple[int, ...]) -> str:
    """Return what tells a model from any other: checksums of its arrays and of its program.

    The program is that of one image of shape `image`. In it is what is no array: an architecture, a
    precision, and all of a plain function with what it has closed over. So another process knows
    the model again, as it would not by a function's own hash, which is of a place in memory. What a
    program does outside of JAX (`jax.pure_callback`) is not seen.
    """
    images = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    arrays, structure = jax.tree.flatten(as_argument(model, images))

    def logits(arrays, images):
        return as_model(jax.tree.unflatten(structure, arrays))(images)

    program = jax.jit(with_products(logits, "float32"))
    text = program.lower(arrays, images).as_text()
    return f"{fingerprint(arrays)} {fingerprint(np.frombuffer(text.encode(), np.uint8))}"


def _check_settings(path: Path, settings: Mapping[str, Any], parts: Parts) -> None:
    wanted = json.loads(json.dumps(settings))
    found: Any = None
    with contextlib.suppress(OSError, ValueError):  # lost or damaged: the parts know better
        found = json.loads(path.read_text(encoding="utf-8"))
    others = parts.of_other_settings()
    if others:
        differing = [
            f"{name}: {found.get(name)} there, {value} here"
            for name, value in wanted.items()
            if isinstance(found, dict) and found.get(name) != value
        ]
        listed = "; ".join(differing) or f"{others[0]} has another checksum of them"
        raise ValueError(
            f"{path.parent} holds results of other settings, which must not be mixed ({listed}); "
            "name another folder"
        )
    if found != wanted:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
