"""The state of a training run in a file, from which it goes on."""

from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp

from practical._files import atomic_path


def resume(path: str | Path | None, settings: str, state: dict) -> tuple[dict, list]:
    """Return the state and the history of a checkpoint, or `state` and none if there is no file.

    Raises:
        ValueError: If the file cannot be read, is not a checkpoint, or belongs to a run of other
            settings.
        OSError: If the file system refuses to read it.
    """
    if path is None or not Path(path).exists():
        return state, []
    if Path(path).is_dir():
        raise ValueError(f"checkpoint must be a file, got the folder {path}; name a file in it")
    content = Path(path).read_bytes()
    try:
        saved: Any = flax.serialization.msgpack_restore(content)
        if saved["settings"] == settings:
            restored = flax.serialization.from_state_dict(state, saved["state"])
            # msgpack_serialize sorts keys as text: "10" before "2".
            history = [saved["history"][str(epoch)] for epoch in range(len(saved["history"]))]
            return jax.tree.map(jnp.asarray, restored), history
    except Exception as error:  # msgpack raises a dozen types for bytes that are not its own
        raise ValueError(
            f"checkpoint {path} is damaged, or not a checkpoint ({error!r}); name another file, "
            "or remove it if it is a checkpoint"
        ) from error
    else:
        raise ValueError(
            f"checkpoint {path} must come from a run with these arguments; it has\n"
            f"  {saved['settings']}\nand this run\n  {settings}\n"
            "Name another file, or remove this one, to start from the beginning"
        )


def save(path: str | Path | None, settings: str, state: dict, history: list) -> None:
    """Write a checkpoint, if there is a path: whole or not at all."""
    if path is None:
        return
    saved = {
        "settings": settings,
        "state": flax.serialization.to_state_dict(jax.device_get(state)),
        "history": {str(i): entry for i, entry in enumerate(history)},
    }
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(flax.serialization.msgpack_serialize(saved))
