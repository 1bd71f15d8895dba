"""Class names, as models and data sets take them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ClassNames = Sequence[str] | np.ndarray


def check_class_names(class_names: Any, count: int | None = None) -> tuple[str, ...]:
    """Return class names, a sequence or an array of strings, as a tuple.

    Raises:
        ValueError: If they are anything else, or `count`, the number of logits, is another.
    """
    if isinstance(class_names, str | Mapping) or np.ndim(class_names) != 1:
        way = "; give list(class_names.values())" if isinstance(class_names, Mapping) else ""
        raise ValueError(
            "class_names must be a list of strings in the order of the logits, got "
            f"{type(class_names).__name__}{way}"
        )
    for k, name in enumerate(class_names):
        if not isinstance(name, str):
            raise ValueError(
                f"class_names must be strings, got {name!r} for class {k}; give "
                "list(map(str, class_names))"
            )
    if count is not None and len(class_names) != count:
        raise ValueError(
            f"class_names must have one name for each of the {count} classes, got "
            f"{len(class_names)}"
        )
    return tuple(map(str, class_names))  # NumPy's strings as well


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names as a message shows them: the first ten, and how many there are if more."""
    rest = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
