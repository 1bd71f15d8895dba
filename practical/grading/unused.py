"""Which of the practical's own cells a submission's answers can do without.

Most of what a notebook computes is in the cells between the exercises: pictures, tables, curves. A
worker runs those only where a cell that is the student's, or a check, uses a name of theirs.
"""

import ast
import symtable
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

# Who says one of these may use any name without writing it.
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
        top, tree = symtable.symtable(code, "<cell>", "exec"), ast.parse(code)
    except Exception:  # no Python, or nested too deeply; a part of it may run all the same
        return Names(frozenset(), None)
    # To the symbol table, `x += 1` and `del x` are no uses of x.
    changed = {node.target for node in ast.walk(tree) if isinstance(node, ast.AugAssign)}
    changed |= {
        one for node in ast.walk(tree) if isinstance(node, ast.Delete) for one in node.targets
    }
    also = {target.id for target in changed if isinstance(target, ast.Name)}
    bound, used = set(), set()
    for table in _tables(top):
        for symbol in table.get_symbols():
            if table is not top and not symbol.is_global():
                continue
            name = symbol.get_name()
            if symbol.is_assigned() or symbol.is_imported():
                bound.add(name)
            if symbol.is_referenced() or name in also:
                used.add(name)
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


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)
