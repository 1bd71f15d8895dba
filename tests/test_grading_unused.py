"""Which of the practical's own cells a worker runs for a submission."""

import ast

import jupytext
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from practical.grading import sandbox
from practical.grading.exercises import EXERCISES
from practical.grading.session import Session
from practical.grading.staging import given, solved
from practical.grading.unused import Names, names, unused
from tests.conftest import ROOT

IMPORTS = "import numpy as np"
AREA = "def area(fractions, scores):\n    return np.zeros(3)\n"
PICTURE = "picture = 1 / 0"
FIGURE = "figure = picture + 1"


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    return sandbox.stage(tmp_path_factory.mktemp("staged")).parent


@pytest.mark.parametrize(
    ("code", "bound", "used"),
    [
        ("import numpy as np, os.path\nfrom a import b as c", {"np", "os", "c"}, set()),
        ("x = y = z", {"x", "y"}, {"z"}),
        ("x += 1", {"x"}, {"x"}),
        ("del x", {"x"}, {"x"}),
        ("def f():\n    global x\n    x += 1", {"f", "x"}, {"x"}),
        ("table['a'] = one.two = 3", set(), {"table", "one"}),
        ("def f():\n    x = y\n    x += 1\n    del x", {"f"}, {"y"}),
        ("def f(a, b=c):\n    d = a\n    return d + e", {"f"}, {"c", "e"}),
        ("def f():\n    global g\n    g = 1\n    def h():\n        return i", {"f", "g"}, {"i"}),
        ("def f(x):\n    return lambda y: x + y + z", {"f"}, {"z"}),
        ("class C(B):\n    a = b\n    def m(self):\n        return a", {"C"}, {"B", "b", "a"}),
        ("[a for a in b if c]", set(), {"b", "c"}),
        ("[w := a for a in b]", {"w"}, {"b"}),
        ("{a: [d for d in a] for a in b}; a".replace("; ", "\n"), set(), {"a", "b"}),
        ("class C:\n    x = [y for y in z]", {"C"}, {"z"}),
        ("for a, *b in c:\n    (d := e)", {"a", "b", "d"}, {"c", "e"}),
        (
            "with a as b:\n    pass\ntry:\n    c\nexcept d as e:\n    pass",
            {"b", "e"},
            {"a", "c", "d", "e"},
        ),
        ("f'{a!r:{b}}'; @c\ndef d(): ...".replace("; ", "\n"), {"d"}, {"a", "b", "c"}),
    ],
)
def test_the_global_names_of_a_cell(code, bound, used):
    assert names(code) == Names(frozenset(bound), frozenset(used))


@pytest.mark.parametrize(
    "code",
    [
        "def f(:", "a = '\0'",
        "eval('x')", "globals()['x']", "get_ipython().run_cell_magic('time', '', 'x')",
        "import __main__", "vars()",
    ],
)  # fmt: skip
def test_a_cell_that_cannot_be_read_or_hides_names_may_use_any(code):
    assert names(code).used is None
    assert unused({0: names(code), 1: names("x = 1")}, [1]) == set()


@pytest.mark.parametrize(
    "code", ["-" * 19_000 + "x", "x" + ".y" * 9000, "(" * 150 + "x" + ")" * 150]
)
def test_a_deep_cell_is_read_or_may_use_any_name(code):
    """How deep the parser goes depends on Python's version."""
    assert names(code).used in (None, {"x"})


def test_a_cell_is_run_if_its_names_are_used_even_by_way_of_another():
    cells = ["a = 1", "b = a", "c = 1", "show(c)", "def f():\n    return b", "check('1.1', f)", "b"]
    known = {number: names(code) for number, code in enumerate(cells)}
    assert unused(known, [0, 1, 2, 3, 5, 6]) == {2, 3, 6}
    assert unused(known, [0, 1, 2, 3]) == {2, 3}
    assert unused(known, []) == set()


def test_students_find_the_given_cells_as_they_are():
    for part, name in (("1", "ExplanationMethods"), ("2", "ModelBias")):
        notebook = jupytext.read(ROOT / f"{name}.ipynb")
        students = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
        exercises = [one for one in EXERCISES.values() if one.id[0] == part]
        assert sum(cell in given(part) for cell in students) == len(students) - len(exercises)
        assert len(given(part)) == len(solved(part)) - len(exercises)


@pytest.mark.parametrize("part", "12")
def test_given_cells_change_in_place_only_what_they_bound(part):
    """So a cell that is left out takes nothing away from a cell that is run."""
    for code in given(part):
        own = names(code).bound
        changed = {
            node.value.id
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Subscript | ast.Attribute)
            and isinstance(node.ctx, ast.Store | ast.Del)
            and isinstance(node.value, ast.Name)
        }
        changed |= {
            node.func.value.id
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("append", "extend", "insert", "pop", "setdefault", "sort")
            and isinstance(node.func.value, ast.Name)
        }
        inside = {  # names of functions' own
            node.id
            for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        assert changed <= own | inside, code


@pytest.mark.parametrize("part", "12")
def test_the_solutions_need_few_of_the_given_cells(part):
    transform = TransformerManager().transform_cell
    cells = {number: names(transform(code)) for number, code in enumerate(solved(part))}
    ours = [number for number, code in enumerate(solved(part)) if code in given(part)]
    left_out = unused(cells, ours)
    run = [code for number, code in enumerate(solved(part)) if number not in left_out]
    exercises = [one for one in EXERCISES.values() if one.id[0] == part]
    # What they import, and each exercise with its check.
    assert len(run) == 1 + 2 * len(exercises)
    assert run[0].startswith("import os")


@pytest.mark.parametrize(
    ("cells", "raised"),
    [
        ([IMPORTS, PICTURE, FIGURE, AREA], []),
        ([IMPORTS, PICTURE, FIGURE, AREA + "print(figure)"], [1, 2, 3]),
        ([IMPORTS, PICTURE, FIGURE + "  # mine", AREA], [1, 2]),
        ([IMPORTS, PICTURE, FIGURE, AREA.replace("np.zeros(3)", "picture")], [1]),
        ([IMPORTS, PICTURE, FIGURE, AREA, "%time 3"], [1, 2]),
        ([IMPORTS, PICTURE, FIGURE, AREA, "def f(:"], [1, 2, 4]),
        ([IMPORTS, PICTURE, FIGURE, AREA, "check('1.9', area)"], [4]),
    ],
)
def test_a_worker_runs_the_given_cells_that_others_need(staged, cells, raised):
    ours = [IMPORTS, PICTURE, f"{FIGURE}\n", "check('1.9', area)"]
    exercises = {"1.9": EXERCISES["1.9"]}
    with Session(cells, exercises, staged=staged, level="none", given=ours) as session:
        assert [one.id for one in session.exercises()][:1] == ["1.9"]
        assert sorted(session.errors) == raised
        assert session.there == ["1.9"]


def test_a_cell_that_ends_the_process_when_it_is_read_is_left_out(tmp_path):
    """None is known for CPython 3.11 in as few characters as a cell may have."""
    reader = sandbox.stage(tmp_path) / "grading" / "unused.py"
    text = reader.read_text()
    dies = text.replace("    try:\n", "    if 'die' in code:\n        os._exit(1)\n    try:\n")
    assert dies != text
    reader.write_text(dies.replace("import dis\n", "import dis\nimport os\n"))
    exercises = {"1.9": EXERCISES["1.9"]}
    cells = [IMPORTS, PICTURE, "die = 1", AREA]
    with Session(cells, exercises, staged=tmp_path, level="none", given=[PICTURE]) as session:
        assert [one.id for one in session.exercises()] == ["1.9"]
        assert session.skipped == {2: "it ended its process"}
        assert session.errors == set()
        assert session.there == ["1.9"]
