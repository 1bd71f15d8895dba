"""A class of cheats and accidents, graded as any class is: nobody gains, nobody else loses."""

import textwrap
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest

from practical.grading import classroom, sandbox
from practical.grading.exercises import EXERCISES
from practical.grading.handed_in import students
from practical.grading.process import Process
from practical.grading.session import Session
from practical.grading.verdicts import judge
from tests.attacks.zoo import (
    CALLS,
    CELLS,
    FILES,
    FRAMES,
    FUNCTIONS,
    HONEST,
    IMPORTS,
    PROMISES,
    STYLES,
    THIEVES,
    WIRE,
    function,
)
from tests.conftest import ROOT

LIMITS = replace(
    sandbox.Limits(),
    cell=10.0,  # to look at 200,000 files takes 2, and more when they were not read before
    call=15.0,
    submission=240.0,
    memory=1 << 30,
    disk=64 << 20,
    processes=200,
)
FIRST = [one for one in EXERCISES.values() if one.id[0] == "1"]
SECRET = "the secret of this test"
# What the worker's limits are called in the module `resource`.
RESOURCES = {
    "AS": LIMITS.address_space, "FSIZE": LIMITS.file, "CORE": 0, "NOFILE": LIMITS.open_files,
    "NPROC": LIMITS.processes,
}  # fmt: skip


def placed() -> dict[str, str]:
    """Return cheat -> the notebook that it is in, each with one answer of an exercise at most."""
    asked = [exercise for exercise, _ in FUNCTIONS.values()]
    return {
        name: f"functions-{asked[:number].count(exercise)}"
        for number, (name, (exercise, _)) in enumerate(FUNCTIONS.items())
    }


PLACED = placed()


def notebook(cells: list[str]) -> str:
    found = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    return nbformat.writes(found)


@pytest.fixture(scope="module")
def reports(sandboxed, tmp_path_factory):
    """Return everybody's report, by student."""
    folder = tmp_path_factory.mktemp("class")
    cheats: dict[str, list[str]] = {}
    for name, (exercise, body) in FUNCTIONS.items():
        cell = function(EXERCISES[exercise].name, body)
        cell += f"\npractical.check({exercise!r}, {EXERCISES[exercise].name})"
        cheats.setdefault(PLACED[name], [IMPORTS]).append(cell)
    cheats["calls"] = [IMPORTS, HONEST]
    cheats["calls"] += [function(EXERCISES[one].name, body) for one, (body, _) in CALLS.items()]
    for student, cells in cheats.items():
        (folder / f"{student}.ipynb").write_text(notebook(cells))
    for number, (cell, _) in enumerate(CELLS.values()):
        (folder / f"cells-{number}.ipynb").write_text(notebook([IMPORTS, cell, HONEST]))
    for number, content in enumerate(FILES.values()):
        (folder / f"files-{number}.ipynb").write_bytes(content)
    for number, promise in enumerate(PROMISES.values()):
        # Answers right only if nothing was raised.
        cell = f"broken = 'it was not looked'\n{IMPORTS}\nLIMITS = {RESOURCES}\n{promise}\n"
        cell += "broken = ''\n"
        cell = "try:\n" + textwrap.indent(cell, "    ") + "except BaseException as error:\n"
        cell += "    broken = repr(error)"
        honest = HONEST.replace("    return", "    assert not broken, broken\n    return")
        (folder / f"promises-{number}.ipynb").write_text(notebook([cell, honest]))
    (folder / "styles.ipynb").write_text(notebook([IMPORTS, *STYLES.values()]))
    (folder / "honest.ipynb").write_text(notebook([IMPORTS, HONEST]))
    (folder / "link.ipynb").symlink_to(folder / "honest.ipynb")
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADING_SECRET", SECRET)
        graded = classroom.grade_all(
            students(folder), out, secret=SECRET, limits=LIMITS, again=False, progress=False
        )
    return {one.student.id: one.reports for one in graded}


@pytest.mark.slow
def test_the_honest_ones_marks_are_untouched(reports):
    (report,) = reports["honest"]
    assert report.verdicts["1.9"].status == "passed"
    assert report.points == {one.id: 2 if one.id == "1.9" else 0 for one in FIRST}
    assert not report.notes


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_cheating_function_gains_nothing(reports, name):
    exercise, _ = FUNCTIONS[name]
    (report,) = reports[PLACED[name]]
    assert report.verdicts[exercise].status in ("wrong", "raised", "crashed", "timed out"), (
        report.verdicts[exercise]
    )
    assert sum(report.points.values()) == 0
    assert not Path("/tmp/pwned").exists()


@pytest.mark.slow
def test_where_nothing_is_prevented_the_cheats_have_the_right_answer(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "practical").symlink_to(ROOT / "practical")
    exercises, cells = {}, [IMPORTS]
    for number, (exercise, body) in enumerate([*THIEVES.values(), ("1.3", WIRE)]):
        one = replace(EXERCISES[exercise], id=str(number), name=f"cheat_{number}")
        exercises[one.id] = one
        cells.append(function(EXERCISES[exercise].name, body, called=one.name))
    (case, _) = EXERCISES["1.2"].cases(np.random.default_rng(0))
    *thieves, reader = exercises
    send, right = Process.send, np.asarray(exercises[reader].reference(**case))

    def also(process, header, arrays):  # a grader that would send the answer along
        send(process, header, arrays)
        send(process, {"kind": "right"}, [right])

    found = {}
    with Session(cells, exercises, staged=tmp_path / "whole", level="none") as running:
        for one in running.exercises():
            if one.id == reader:
                monkeypatch.setattr(Process, "send", also)
            found[one.id] = running.call(one, case)
    for name, one in zip(THIEVES, thieves, strict=True):
        expected = exercises[one].reference(**case)
        np.testing.assert_allclose(found[one], expected, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(found[reader], right, atol=1e-4)


def test_in_the_graders_own_process_frames_have_the_right_answer():
    namespace = {}
    exec(IMPORTS + function("saliency", FRAMES), namespace)
    one = EXERCISES["1.2"]
    found = judge(
        one, lambda given: namespace["saliency"](*given.values()), np.random.default_rng(0)
    )
    assert found.status == "passed"


@pytest.mark.slow
def test_a_call_may_end_its_process_and_the_rest_is_graded(reports):
    (report,) = reports["calls"]
    statuses = {one: verdict.status for one, verdict in report.verdicts.items()}
    expected = dict.fromkeys(statuses, "missing") | {one: said for one, (_, said) in CALLS.items()}
    assert statuses == expected | {"1.9": "passed"}, report.verdicts
    assert "NotImplementedError: Differentiation rule for" in report.verdicts["1.2"].message
    assert "it took more than 1.0 GB of memory" in report.verdicts["1.10"].message


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_breaks_nothing_but_itself(reports, name):
    number = list(CELLS).index(name)
    (report,) = reports[f"cells-{number}"]
    statuses = {one: verdict.status for one, verdict in report.verdicts.items()}
    assert "infrastructure" not in statuses.values(), report.verdicts
    if CELLS[name][1]:
        assert statuses["1.9"] == "passed", report
    assert sum(report.points.values()) <= EXERCISES["1.9"].points


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISES)
def test_the_sandbox_is_what_it_is_said_to_be(reports, name):
    (report,) = reports[f"promises-{list(PROMISES).index(name)}"]
    found = report.verdicts["1.9"]
    assert found.status == "passed", found.message


@pytest.mark.slow
@pytest.mark.parametrize("exercise", STYLES)
def test_a_right_answer_is_right_in_whatever_style(reports, exercise):
    (report,) = reports["styles"]
    assert report.verdicts[exercise].status == "passed", report.verdicts[exercise]


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_notebook_gets_nothing_and_is_told_why(reports, name):
    (report,) = reports[f"files-{list(FILES).index(name)}"]
    assert not report.verdicts
    assert report.notes[0].startswith(("It is not", "The file is empty", "It cannot"))


@pytest.mark.slow
def test_a_link_is_not_followed(reports):
    (report,) = reports["link"]
    assert report.notes == ["It is a link, and not a file."]
