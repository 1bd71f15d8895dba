"""Calling a student's function: the same in the notebook and in the sandbox."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def is_blank(error: BaseException) -> bool:
    """Return whether this is what an exercise raises that is not filled in.

    JAX and others raise NotImplementedError, too, and say what is not implemented.
    """
    return type(error) is NotImplementedError and not error.args


def ask(function: Callable, arguments: Mapping[str, Any]) -> Any:
    """Call a function by the order of its arguments, or by their names where it wants names.

    Raises:
        TypeError: If it takes neither; and whatever the function raises.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:  # it has none
        return function(*arguments.values())
    for given, named in ((arguments.values(), {}), ((), arguments)):
        try:
            bound = signature.bind(*given, **named)
        except TypeError:
            continue
        return function(*bound.args, **bound.kwargs)
    raise TypeError(f"it has to take the arguments {', '.join(arguments)}, in this order")
