"""Who handed in what: a class's folder as Canvas exports it, and Gradescope's."""

import json
import os
from pathlib import Path

import pytest

from practical.grading import classroom, reports
from practical.grading.__main__ import main
from practical.grading.classroom import Graded
from practical.grading.exercises import EXERCISES
from practical.grading.handed_in import gradescope_student, students
from practical.grading.submission import Report, seed
from practical.grading.verdicts import Verdict
from tests.oracles import refuses
from tests.test_grading_class import AREA, rows, write


def test_canvas(tmp_path):
    for name in (
        "doejane_LATE_11_900_ExplanationMethods-2.ipynb", "doejane_11_800_ExplanationMethods.ipynb",
        "doejane_11_801_ModelBias-1.ipynb", "roe_12_700_my homework.ipynb",
    ):  # fmt: skip
        write(tmp_path / name, [AREA if "Model" not in name else "def convict(): pass"])
    (tmp_path / "roe_12_701_notes.pdf").write_text("")
    jane, roe = students(tmp_path)
    assert (jane.id, jane.name, jane.late) == ("11", "doejane", True)
    assert (roe.id, roe.late) == ("12", False)

    def newest(student):
        parts = classroom._Parts(tmp_path / "parts.json", "code")
        return sorted(one.path.name for one in classroom._newest(student, parts))

    # What is no notebook of ours counts only where there is no other.
    write(tmp_path / "doejane_11_999_Untitled.ipynb", ["print(1)"])
    write(tmp_path / "poe_13_1_Untitled.ipynb", ["print(1)"])
    jane, _, poe = students(tmp_path)
    assert newest(poe) == ["poe_13_1_Untitled.ipynb"]
    assert newest(jane) == [
        "doejane_11_801_ModelBias-1.ipynb", "doejane_LATE_11_900_ExplanationMethods-2.ipynb",
    ]  # fmt: skip


def test_a_folder_for_each_student(tmp_path):
    write(tmp_path / "ann" / "a.ipynb", [AREA])
    write(tmp_path / "ann" / ".ipynb_checkpoints" / "a-checkpoint.ipynb", [AREA])
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "hers").symlink_to(tmp_path / "ann")  # a link is not followed
    write(tmp_path / "carl.ipynb", [AREA])
    found = {one.id: len(one.submissions) for one in students(tmp_path)}
    assert found == {"ann": 1, "bob": 0, "carl": 1}


def test_names_that_are_no_text(tmp_path):
    write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/bj\xf6rn")) / "a.ipynb", [AREA])
    (student,) = students(tmp_path)
    assert student.id == "bj\N{REPLACEMENT CHARACTER}rn"
    reports.write([Graded(student, [])], tmp_path / "out")


def test_a_folder_without_notebooks_is_refused(tmp_path):
    with refuses("SUBMISSIONS must be a folder, got .*none"):
        students(tmp_path / "none")
    with refuses("SUBMISSIONS must have notebooks .*got none in"):
        students(tmp_path)


def test_who_handed_in_no_notebook_has_a_row_that_says_so(tmp_path):
    folder = tmp_path / "class"
    write(folder / "ann_11_1_a.ipynb", [AREA])
    for name in ("bob_LATE_12_2_a.ipynb.txt", "bob_LATE_12_3_report.pdf", "carl_13_4_all.zip"):
        (folder / name).write_text("")
    (folder / "dora").mkdir()
    (folder / "erik").mkdir()
    (folder / "erik" / "a.html").write_text("")
    everybody = students(folder)
    assert [one.id for one in everybody] == ["11", "12", "13", "dora", "erik"]
    graded = [Graded(one, []) for one in everybody]
    reports.write(graded, tmp_path / "out")
    told = {
        row["student"]: (row["late"], row["status"]) for row in rows(tmp_path / "out/grades.csv")
    }
    assert told == {
        "11": ("", "complete"),
        "12": (
            "late",
            "no notebook (.ipynb), but bob_LATE_12_2_a.ipynb.txt, bob_LATE_12_3_report.pdf",
        ),
        "13": ("", "no notebook (.ipynb), but carl_13_4_all.zip"),
        "dora": ("", "nothing was handed in"),
        "erik": ("", "no notebook (.ipynb), but a.html"),
    }
    page = (tmp_path / "out/feedback/13.html").read_text()
    assert "Nothing could be graded: no notebook (.ipynb), but carl_13_4_all.zip." in page


# --- Gradescope ----------------------------------------------------------------------------------


def autograder(folder: Path, users) -> Path:
    """Make what Gradescope's container has, by its documentation."""
    about = {"id": 123456, "assignment": {"id": 25828}, "users": users}
    (folder / "submission").mkdir(parents=True)
    (folder / "submission_metadata.json").write_text(json.dumps(about))
    return folder


def test_on_gradescope_each_student_has_cases_of_their_own(tmp_path, monkeypatch, capsys):
    drawn = {}

    def grade(path, *, student, secret, **_):
        drawn[path.parents[1].name] = seed(secret, student, "1.9").random()
        return Report("1", {"1.9": Verdict("passed", "All checks passed.")})

    monkeypatch.setattr(classroom, "grade", grade)
    (tmp_path / "secret.txt").write_text("of this test")
    for name, users in {
        "ann": [{"id": 1, "email": "ann@kth.se", "name": "Ann"}],
        "bob": [{"id": 2, "email": "bob@kth.se", "name": "Bob"}],
        "ann again": [{"id": 1, "email": "ann@kth.se", "name": "Ann"}],
        "without an id": [{"email": "bob@kth.se"}],
        "a group": [{"id": 2}, {"id": 1}],
        "the same group": [{"id": 1}, {"id": 2}],
    }.items():
        folder = autograder(tmp_path / name, users)
        write(folder / "submission" / "a.ipynb", [AREA])
        arguments = ["gradescope", "--autograder", str(folder), "--sandbox", "none"]
        assert main([*arguments, "--secret-file", str(tmp_path / "secret.txt")]) == 0
        assert json.loads((folder / "results/results.json").read_text())["score"] == 2
    assert drawn["ann"] == drawn["ann again"]
    assert drawn["a group"] == drawn["the same group"]
    assert len(set(drawn.values())) == 4
    # A secret that was drawn in the container would give other cases each time.
    assert main([*arguments, "--secret-file", str(tmp_path / "none.txt")]) == 1
    assert "--secret-file must be in the container, got" in capsys.readouterr().err
    assert not (tmp_path / "none.txt").exists()


def test_on_gradescope_the_graders_failure_is_no_zero(tmp_path, monkeypatch, capsys):
    folder = autograder(tmp_path / "autograder", [{"id": 1}])
    write(folder / "submission" / "a.ipynb", [AREA])
    (tmp_path / "secret.txt").write_text("of this test")
    found = {one: Verdict("infrastructure", "The disk is full.") for one in ("1.1", "1.2")}
    monkeypatch.setattr(classroom, "grade", lambda *_, **__: Report("1", found))
    arguments = ["gradescope", "--autograder", str(folder), "--sandbox", "none"]
    arguments += ["--secret-file", str(tmp_path / "secret.txt")]
    assert main(arguments) == 1
    assert "so no results are written: The disk is full." in capsys.readouterr().err
    assert not (folder / "results").exists()
    found["1.1"] = Verdict("passed", "All checks passed.")
    assert main(arguments) == 0
    given = json.loads((folder / "results" / "results.json").read_text())
    assert given["score"] == EXERCISES["1.1"].points
    assert "The grader failed at 1.2: the score is of the rest alone" in given["output"]


@pytest.mark.parametrize("users", [[], None, [{}], [3], "ann"])
def test_on_gradescope_nobody_is_graded_as_nobody(tmp_path, users):
    folder = autograder(tmp_path / "autograder", users)
    with refuses("submission_metadata.json must have the submission's users, each with an id"):
        gradescope_student(folder)
    (folder / "submission_metadata.json").unlink()
    with refuses("submission_metadata.json must have .* got FileNotFoundError"):
        gradescope_student(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.ipynb", b"", "The file is empty."),
        ("a.ipynb", b"{", "It is not a notebook in the form that Jupyter writes"),
        ("a.ipynb", b'{"cells": []}', "It has none of the practical's exercises."),
        ("a.pdf", b"", "Nothing could be graded: no notebook (.ipynb), but a.pdf."),
        ("", b"", "Nothing could be graded: nothing was handed in."),
    ],
)
def test_on_gradescope_what_cannot_be_graded_has_a_score_and_words(tmp_path, name, content, words):
    folder = autograder(tmp_path / "autograder", [{"id": 1}])
    if name:
        (folder / "submission" / name).write_bytes(content)
    secret = tmp_path / "secret.txt"
    secret.write_text("of this test")
    arguments = ["gradescope", "--autograder", str(folder), "--sandbox", "none"]
    assert main([*arguments, "--secret-file", str(secret)]) == 0
    found = json.loads((folder / "results/results.json").read_text())
    assert (found["score"], found["tests"]) == (0, [])
    assert found["output"].startswith(words)
