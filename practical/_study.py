"""A long computation in parts, in a folder of its own: stopped, even by a kill, it goes on.

Every part is a file that is there whole or not at all, so no row is lost or doubled.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from practical._files import atomic_path, fingerprint
from practical._jit import as_argument, as_model, with_products


@contextlib.contextmanager
def study_folder(out: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Hold a folder for one run, and refuse one that holds results of other settings.

    A folder without a part holds no results: a run that failed at once does not stop the next.

    Raises:
        ValueError: If it holds results of other settings, or of settings that cannot be read.
        RuntimeError: If another run is writing to it.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RuntimeError(
            f"another run is writing to {out}; wait for it, or name another folder"
        ) from None
    with lock:
        _check_settings(out / "settings.json", settings)
        yield


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Write a table so that nobody ever sees half of it."""
    with atomic_path(path) as temporary:
        rows.to_csv(temporary, index=False)


def rows_of(path: Path, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Return a part's rows: from its file, or computed, and written there first."""
    if not path.exists():
        write_rows(path, compute())
    return pd.read_csv(path)


def run_parts(
    out: Path,
    settings: Mapping[str, Any],
    parts: Mapping[str, Callable[[], pd.DataFrame]],
    *,
    progress: bool,
) -> pd.DataFrame:
    """Compute the parts, by name, that the folder does not hold yet, and return the rows of all."""
    with study_folder(out, settings):
        files = {name: out / "parts" / f"{name}.csv" for name in parts}
        done = sum(file.exists() for file in files.values())
        rows = []
        with tqdm(total=len(parts), initial=done, unit="run", disable=not progress) as bar:
            for name, compute in parts.items():
                bar.set_description(name)
                new = not files[name].exists()
                rows.append(rows_of(files[name], compute))
                bar.update(new)
        table = pd.concat(rows, ignore_index=True)
        write_rows(out / "results.csv", table)
    return table


def fingerprints(**datasets: Any) -> dict[str, list]:
    """Return for each data set, by name, what tells it from any other: shape and values."""
    return {
        name: [*one.images.shape, fingerprint([np.asarray(one.images), one.labels])]
        for name, one in datasets.items()
    }


def fingerprint_model(model: Callable, image: tuple[int, ...]) -> str:
    """Return what tells a model from any other: checksums of its arrays and of its program.

    The program is that of one image of shape `image`. In it is what is no array: an architecture, a
    precision, and all of a plain function with what it has closed over. So another process knows
    the model again, as it would not by a function's own hash, which is of a place in memory. What a
    program does outside of JAX (`jax.pure_callback`) is not seen.
    """
    arrays, structure = jax.tree.flatten(as_argument(model))

    def logits(arrays, images):
        return as_model(jax.tree.unflatten(structure, arrays))(images)

    program = jax.jit(with_products(logits, "float32"))
    text = program.lower(arrays, jax.ShapeDtypeStruct((1, *image), jnp.float32)).as_text()
    return f"{fingerprint(arrays)} {fingerprint(np.frombuffer(text.encode(), np.uint8))}"


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(settings))
    parts = path.parent / "parts"
    begun = parts.exists() and any(parts.glob("*.csv"))
    if not (begun and path.exists()):
        if begun:
            raise ValueError(f"{path.parent} holds results without settings; name another folder")
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(wanted, indent=2) + "\n")
        return
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}); name another folder") from error
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        listed = "; ".join(f"{n}: {found.get(n)} there, {wanted[n]} here" for n in differing)
        raise ValueError(
            f"{path.parent} holds results of other settings, which must not be mixed ({listed}); "
            "name another folder, or delete it"
        )
