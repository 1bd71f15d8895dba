"""What a command that trains a network writes, tried out before the training."""

from pathlib import Path

import jax

from practical._files import atomic_path, check_writable
from practical.models import Classifier

_STATE = 3  # a checkpoint's size: the weights, and the optimizer's two means of each


def checkpoint_of(output: Path, checkpoint: Path | None) -> Path:
    """Return where the state after each epoch goes: by default beside the network."""
    return output.with_suffix(".checkpoint") if checkpoint is None else checkpoint


def check_output(output: Path) -> None:
    """Raise an error if a network and its card cannot be written.

    Raises:
        ValueError: If the name does not end in .safetensors.
        OSError: If the folder cannot be written to.
    """
    if output.suffix != ".safetensors":
        raise ValueError(f"--output must end in .safetensors, got {output}")
    for path in (output, output.with_suffix(".md")):
        check_writable(path, size=1)


def check_room(model: Classifier, output: Path, checkpoint: Path) -> None:
    """Raise an OSError if a network of this size or its checkpoints have no room."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(model))
    check_writable(output, size=size)
    check_writable(checkpoint, size=2 * _STATE * size)  # the old one and the new one


def write_card(output: Path, card: str) -> None:
    """Write a network's card beside it, and print it."""
    with atomic_path(output.with_suffix(".md")) as temporary:
        temporary.write_text(card, encoding="utf-8")
    print(card)
