"""How a submission is run: each exercise is judged in the state that its check saw."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from practical.grading import sandbox
from practical.grading.exercise import Property
from practical.grading.exercises import EXERCISES
from practical.grading.session import Session
from practical.grading.verdicts import judge
from tests.test_grading_wire import values as wire_values

IMPORTS = "import os\nimport numpy as np\nimport practical\nfrom practical import check"
AREA = (
    "def area(fractions, scores):\n"
    "    return ((scores[:, 1:] + scores[:, :-1]) / 2) @ np.diff(fractions)\n"
)
HALF = AREA.replace("/ 2", "* half()")
BLANK = "def area(fractions, scores):\n    raise NotImplementedError\n"
CHECK = "area = check('1.9', area)"
# What a notebook does -> its cells, and the status of its exercise.
STATES = {
    "a helper is defined again below": (
        ["def half(): return 0.5", HALF, CHECK, "def half(): return 3"], "passed",
    ),
    "a helper is defined below, and was run first": (
        [HALF, CHECK, "def half(): return 0.5"], "passed",
    ),
    "the function's name becomes a result": (
        [AREA, CHECK, "area = area(np.arange(2.0), np.ones((1, 2)))"], "passed",
    ),
    "the function's name becomes another function": (
        [AREA, CHECK, "def area(a, b): return a * b"], "passed",
    ),
    "a table is changed in place": (
        ["table = {'half': 0.5}", HALF.replace("half()", "table['half']"), CHECK,
         "table['half'] = 3"], "passed",
    ),
    "a module is changed": (
        [AREA, CHECK, "difference = np.diff\nnp.diff = None", "np.diff = difference"], "passed",
    ),
    "the last check counts, and it is wrong": (
        [AREA, CHECK, AREA.replace("/ 2", "/ 3"), CHECK], "wrong",
    ),
    "the last check counts, and it is right": (
        [AREA.replace("/ 2", "/ 3"), CHECK, AREA, CHECK], "passed",
    ),
    "checked in a timed cell": (
        [f"%%time\n{AREA}\n{CHECK}", "area = None"], "passed",
    ),
    "checked in a loop and by keywords": (
        ["half = lambda: 0.5", HALF, "for _ in range(2):\n    check(exercise='1.9', answer=area)",
         "half = None"], "passed",
    ),
    "checked by another name": (
        [AREA, "verify = check\nverify('1.9', area)"], "passed",
    ),
    "checked by a function that is called below": (
        ["def all_checks():\n    return check('1.9', area)", AREA, "area = all_checks()"], "passed",
    ),
    "checked where it does not run": (
        [AREA, "half = lambda: 0.5", "if False:\n    check('1.9', area)"], "passed",
    ),
    "checked before it is defined": ([CHECK, AREA], "passed"),
    "blank where it is checked, and filled in below": ([BLANK, CHECK, AREA], "passed"),
    "answered above the blank cell": ([AREA, BLANK, CHECK], "passed"),
    "the blank cells come again below": ([AREA, CHECK, BLANK, CHECK], "passed"),
    "blank at the end, after an answer that needs a name from below": (
        [HALF, CHECK, BLANK, CHECK, "def half(): return 0.5"], "passed",
    ),
    "a value is awaited": (
        ["async def table(): return {'half': 0.5}", "table = await table()",
         HALF.replace("half()", "table['half']"), CHECK], "passed",
    ),
    "wrong where it is checked, and blank below": (
        [AREA.replace("/ 2", "/ 3"), CHECK, BLANK], "wrong",
    ),
    "blank": ([BLANK, CHECK], "blank"),
    "no function": (["area = 3\ncheck('1.9', area)"], "missing"),
    "checked before its cell ends the process": (
        [AREA, f"{CHECK}\nos._exit(0)"], "passed",
    ),
}  # fmt: skip


def copy(cell: str, name: str) -> str:
    """Return a cell whose exercise, and whatever else it names, is this notebook's own."""
    for word in ("area", "half", "table", "all_checks", "verify"):
        cell = cell.replace(word, f"{word}_{name}")
    return cell.replace("'1.9'", f"'{name}'").replace(f"'half_{name}'", "'half'")


def copies(names) -> dict:
    """Return an exercise for each name."""
    one = EXERCISES["1.9"]
    return {name: replace(one, id=name, name=f"area_{name}") for name in names}


def rng(_: str) -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    return sandbox.stage(tmp_path_factory.mktemp("staged")).parent


@pytest.fixture(scope="module")
def states(staged):
    """Return the verdicts of one notebook with all of the above in it."""
    numbers = {str(number): cells for number, (cells, _) in enumerate(STATES.values())}
    cells = [copy(cell, name) for name, cells in numbers.items() for cell in cells]
    with Session([IMPORTS, *cells], copies(numbers), staged=staged, level="none") as session:
        return session.judge(rng)


@pytest.mark.parametrize("name", STATES)
def test_an_exercise_is_judged_in_the_state_that_its_check_saw(states, name):
    verdict = states[str(list(STATES).index(name))]
    assert verdict.status == STATES[name][1], verdict


# Harmless lines, as a notebook has them.
MAGICS = [
    "%matplotlib inline", "%matplotlib notebook", "%pylab inline",
    "%config InlineBackend.figure_format = 'retina'", "%load_ext autoreload\n%autoreload 2",
    "%time x = 3\nassert x == 3", "%%time\ny = 3", "assert y == 3", "%timeit -n1 -r1 y",
    "%%capture out\nz = 3", "assert z == 3", "%%html\n<b>z</b>", "%%bash\necho z", "%pwd", "%who",
    "!echo hello", "names = !ls\nassert 'helper.py' not in names", "y?", "display(y)", "exit()",
    "%%writefile helper.py\ndef three(): return 3", "import helper\nassert helper.three() == 3",
    "%run helper.py\nassert three() == 3", "import json, random\nrandom.random()",
]  # fmt: skip


def test_magics_do_what_they_do_in_a_notebook(staged):
    cells = [IMPORTS, *MAGICS, AREA, CHECK]
    with Session(cells, {"1.9": EXERCISES["1.9"]}, staged=staged, level="none") as session:
        assert session.judge(rng)["1.9"].status == "passed"
    assert not session.skipped
    assert [cells[number] for number in sorted(session.errors)] == []


def test_a_notebook_that_chose_a_gpu_is_graded_without_one(staged):
    gpu = "import jax\njax.config.update('jax_platform_name', 'gpu')"
    cells = [gpu, "jax.config.update('jax_platforms', 'cuda')", IMPORTS]
    cells += ["from practical import predict", "def change_of_probability(m, x, changed, targets):"
              "\n    return predict(m, x)", "check('2.2', change_of_probability)"]  # fmt: skip
    with Session(cells, {"2.2": EXERCISES["2.2"]}, staged=staged, level="none") as session:
        assert session.judge(rng)["2.2"].status == "wrong"  # and neither crashed nor raised


# What a submission writes on the wire, in a cell or when its function is called.
FRAMES = {
    "a list for an exercise": ("cell", b'{"kind": "checked", "exercise": []}'),
    "a cell that is not there": ("cell", b'{"kind": "cell", "number": 1e99}'),
    "half a character": ("call", rb'{"kind": "returned", "value": {"array": "\ud800"}}'),
    "half a character for a kind": ("call", rb'{"kind": "\ud800"}'),
    "a deep list": ("call", b'{"kind": ' + b"[" * 9999 + b"]" * 9999 + b"}"),
}


def test_what_a_submission_writes_is_its_own_fault(staged):
    names = [f"area_{number}" for number in range(len(FRAMES))]
    cells = [IMPORTS]
    for name, (where, text) in zip(names, FRAMES.values(), strict=True):
        line = "def area(fractions, scores):" if where == "call" else "if True:"
        cells.append(
            f"{line}\n    import struct, time\n    text = {text!r}\n"
            "    for number in range(3, 40):\n        try:\n"
            "            os.write(number, struct.pack('>IQ', len(text), 0) + text)\n"
            "        except OSError:\n            pass\n    time.sleep(0.3)".replace("area", name)
        )
    cells += [AREA.replace("area", "area_9"), "check('9', area_9)"]
    exercises = copies([name.removeprefix("area_") for name in (*names, "area_9")])
    with Session(cells, exercises, staged=staged, level="none") as session:
        verdicts = session.judge(rng)
        texts = [verdict.message for verdict in verdicts.values()] + [*session.skipped.values()]
    assert [verdicts[str(number)].status for number in range(2, 5)] == ["crashed"] * 3, verdicts
    assert "infrastructure" not in {verdict.status for verdict in verdicts.values()}, verdicts
    "".join(texts).encode()  # into a page


def test_more_cells_than_the_grader_can_send_are_refused(staged):
    cells = [""] * 1_000_000
    with Session(cells, {"1.9": EXERCISES["1.9"]}, staged=staged, level="none") as session:
        verdict = session.judge(rng)["1.9"]
    assert verdict.status == "refused"
    assert "Its code cells cannot be run: 4,0" in verdict.message


HALVES = replace(
    EXERCISES["1.9"],
    cases=lambda rng: [{"scores": rng.random(3)}],
    reference=lambda scores: scores / 2,
    mistakes=(),
    hidden=(
        Property("like an array", "", lambda call, rng: (call({"scores": np.ones(3)}) > 0).all()),
        Property("small", "", lambda call, rng: int(call({"scores": np.ones(3)})[0] * 1e300) > 0),
    ),
)


@given(wire_values)
def test_no_answer_breaks_the_judge(value):
    assert judge(HALVES, lambda given: value, rng(""), hidden=True).status == "wrong"


def test_the_form_of_an_answer_breaks_no_property():
    def judged(answer):
        return judge(HALVES, lambda given: answer(given["scores"]), rng(""), hidden=True)

    assert judged(lambda scores: tuple((scores / 2).tolist())).status == "passed"
    huge = judged(lambda scores: scores / 2 * np.where((scores == 1).all(), 1e100, 1))
    assert huge.message == "Not small: "
