"""The cells of the practical's own that a submission's answers do not need.

Most of what a notebook computes is in the cells between the exercises: pictures, tables, curves. A
worker runs those only if a cell of the student's, or a check, uses a name that they bind.
"""

import ast
import dis
from collections.abc import Collection, Iterator, Mapping
from types import CodeType
from typing import NamedTuple

# A cell that contains one of these words may use any name.
_ANY = ("__main__", "eval", "exec", "get_ipython", "globals", "locals", "user_ns", "vars")


class Names(NamedTuple):
    """The names that a cell shares with the others."""

    bound: frozenset[str]
    used: frozenset[str] | None  # None: perhaps all


def names(code: str) -> Names:
    """Return the global names of a cell of plain Python."""
    if any(word in code for word in _ANY):
        return Names(frozenset(), None)
    try:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # as in a notebook
        top = compile(code, "<cell>", "exec", flags, dont_inherit=True)
    except Exception:  # not Python, or nested too deeply; a part of it may run all the same
        return Names(frozenset(), None)
    bound, used = set(), set()
    # The compiler knows which names are global, and a comprehension's are not in any version.
    for block in _blocks(top):
        for step in dis.get_instructions(block):
            name = str(step.argval)
            if name.startswith("__") or not step.opname.endswith(("_NAME", "_GLOBAL", "_GLOBALS")):
                continue
            verb = step.opname.partition("_")[0]
            if verb in ("LOAD", "DELETE"):
                used.add(name)
            # In a class, a name without `global` is the class's own.
            if verb in ("STORE", "DELETE") and (block is top or step.opname.endswith("GLOBAL")):
                bound.add(name)
    return Names(frozenset(bound), frozenset(used))


def unused(cells: Mapping[int, Names], given: Collection[int]) -> set[int]:
    """Return which of the `given` cells bind no name that a cell uses which is run.

    A cell with a check is run whatever it binds. What a given cell changes in place, it has bound
    itself (tested), so nothing of it is missed.
    """
    idle = {number for number in given if "check" not in (cells[number].used or ())}
    while True:
        run = [cell.used for number, cell in cells.items() if number not in idle]
        if None in run:
            return set()
        wanted = frozenset().union(*(used for used in run if used is not None))
        found = {number for number in idle if cells[number].bound & wanted}
        if not found:
            return idle
        idle -= found


def _blocks(top: CodeType) -> Iterator[CodeType]:
    """Yield a cell's code, and that of the functions and classes inside of it."""
    todo = [top]
    while todo:
        block = todo.pop()
        yield block
        todo += [constant for constant in block.co_consts if isinstance(constant, CodeType)]
