"""Who handed in what: a class's folder as Canvas exports it, and Gradescope's."""

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from practical.grading import classroom, reports, unpacking
from practical.grading.__main__ import main
from practical.grading.classroom import Graded
from practical.grading.exercises import EXERCISES
from practical.grading.handed_in import gradescope_student, left_out, students
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


E, M = "ExplanationMethods.ipynb", "ModelBias.ipynb"
EXPORTS = {  # what Canvas makes of the names, by its source: the files, and who they are of
    "anonymous": {
        f"anon_aB3dE_41_{E}": "anon_aB3dE", f"anon_aB3dE_42_{M}": "anon_aB3dE",
        f"LATE_anon_Zz9Qx_52_{E}": "anon_Zz9Qx late", "anon_Kk1Lm_60_work.pdf": "anon_Kk1Lm",
        f"anon_12345_61_{E}": "anon_12345", f"anon_LATE9_LATE_62_{E}": "anon_LATE9 late",
    },
    "groups with numbers": {
        f"monday_1_901_456_{E}": "901", f"tuesday_1_902_470_{E}": "902",
        f"monday_1_901_457_{M}": "901", f"tuesday_1_LATE_903_480_{E}": "903 late",
    },
    "one group with a number": {
        f"monday_1_901_456_{E}": "901", f"monday_1_901_457_{M}": "901", f"b_902_1_{E}": "902",
    },
    "underscores": {
        f"jane_doe_123_456_{E}": "123 late", f"jane_doe_LATE_123_457_{M}": "123 late",
        f"_roe_124_458_{E}": "124", "jane_doe_125_text.html": "125",
        "x_LATE_126_link.html": "126 late",
    },
    "files with numbers": {
        "doejane_11_900_2024_11_28.ipynb": "11", "doejane_11_901_2024_11_28-1.ipynb": "11",
        "roe_12_902_1_E.ipynb": "12", "roe_12_903_1_M.ipynb": "12",
    },
    "another name by now": {f"doejane_11_900_1_{E}": "11", f"roejane_11_901_{M}": "11"},
}  # fmt: skip


@pytest.mark.parametrize("case", EXPORTS)
def test_canvas_makes_no_two_students_one_and_none_two(tmp_path, case):
    for name in EXPORTS[case]:
        write(tmp_path / name, [AREA])
    found = {
        one.path.name: f"{student.id} late" if student.late else student.id
        for student in students(tmp_path)
        for one in (*student.submissions, *student.others)
    }
    assert found == EXPORTS[case]


def test_what_is_nobodys_is_listed(tmp_path):
    write(tmp_path / "ann.ipynb", [AREA])
    for name in ("grades.xlsx", ".DS_Store", "doe_1_2_a.pdf"):
        (tmp_path / name).write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    assert left_out(tmp_path) == ["grades.xlsx", "link"]


def pack(path, entries):
    """Write a zip of names, or of entries with attributes, and their contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    return path


def link_to(name):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


def test_a_zip_and_capitals_are_handled_as_a_person_would(tmp_path):
    folder = tmp_path / "class"
    first = write(tmp_path / "a.ipynb", [AREA]).read_bytes()
    second = write(tmp_path / "b.ipynb", ["def convict(a, b, c):\n    pass"]).read_bytes()
    pack(folder / "doe_11_900_all.ZIP", {"lab/A.IPYNB": first, "lab/b.ipynb": second, "x.png": b""})
    pack(folder / "roe_12_901_E.zip", {"__MACOSX/._E.ipynb": b"", "E.ipynb": first})
    write(folder / "roe_12_902_M.IPYNB", ["def convict(a, b, c):\n    pass"])
    pack(folder / "ann" / "deep" / "work.zip", {"build/E.ipynb": first, "E.ipynb": first + b" "})
    pack(folder / "bob.zip", {"notes.txt": b""})
    everybody = students(folder, unpacked=tmp_path / "unpacked")
    parts = classroom._Parts(tmp_path / "parts.json", "code")
    found = {
        one.id: [parts.of(each.path) for each in classroom._newest(one, parts)] for one in everybody
    }
    assert found == {"11": ["1", "2"], "12": ["1", "2"], "ann": ["1"], "bob": []}
    told = {one.id: one.problems for one in everybody}
    assert told["11"] == told["12"] == []
    assert told["ann"] == ["two files hold notebook 1: 01-E.ipynb is graded, and 00-E.ipynb is not"]
    assert told["bob"][1] == "bob.zip cannot be used: there is no notebook in it"
    assert students(folder, unpacked=tmp_path / "unpacked") == [
        replace(one, choices=[]) for one in everybody
    ]


@pytest.mark.parametrize("damage", ["cut", "bomb", "long", "many", "random", "locked", "text"])
def test_a_hostile_zip_costs_its_student_alone(tmp_path, monkeypatch, damage):
    path = pack(tmp_path / "class" / "eve.zip", {"a.ipynb": b"{}" * 5000})
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "bomb":
        monkeypatch.setattr(unpacking, "_MOST_BYTES", 9_000)
    elif damage == "long":
        monkeypatch.setattr(unpacking, "_MOST_DIRECTORY", 20)
    elif damage == "many":
        pack(path, {f"{number}.ipynb": b"{}" for number in range(21)})
    elif damage == "locked":
        path.write_bytes(
            content.replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1")
        )
    elif damage == "text":
        path.write_bytes(b"no zip")
    write(tmp_path / "class" / "ann.ipynb", [AREA])
    rng = np.random.default_rng(0)
    for _ in range(300 if damage == "random" else 1):
        if damage == "random":
            changed = np.frombuffer(content, np.uint8).copy()
            changed[rng.integers(0, len(content), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(changed.tobytes())
        ann, eve = students(tmp_path / "class", unpacked=tmp_path / "unpacked")
        assert not ann.problems
        if damage != "random":
            assert not eve.submissions
            assert "eve.zip cannot be used: " in " ".join(eve.problems)


def test_a_zip_writes_nothing_outside_and_follows_no_link(tmp_path):
    entries = {"../../evil.ipynb": b"1", "/tmp/evil.ipynb": b"2", "..\\evil.ipynb": b"3"}
    path = pack(tmp_path / "class" / "eve.zip", entries | {link_to("link.ipynb"): "/etc/passwd"})
    (eve,) = students(path.parent, unpacked=tmp_path / "unpacked")
    assert sorted(one.path.read_bytes() for one in eve.submissions) == [b"1", b"2", b"3"]
    assert {one.path.parents[1] for one in eve.submissions} == {tmp_path / "unpacked"}
    assert not list(tmp_path.glob("evil*"))
    os.mkfifo(path.parent / "pipe.zip")
    (path.parent / "linked.zip").symlink_to(path)
    for one in students(path.parent, unpacked=tmp_path / "unpacked")[1:]:
        assert one.problems[1] == f"{one.id}.zip cannot be used: it is not a file"


def test_a_folder_for_each_student(tmp_path):
    write(tmp_path / "ann" / "a.ipynb", [AREA])
    write(tmp_path / "ann" / ".ipynb_checkpoints" / "a-checkpoint.ipynb", [AREA])
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "hers").symlink_to(tmp_path / "ann")  # a link is not followed
    write(tmp_path / "carl.ipynb", [AREA])
    found = {one.id: len(one.submissions) for one in students(tmp_path)}
    assert found == {"ann": 1, "bob": 0, "carl": 1}


def test_names_that_are_not_text_stay_apart(tmp_path):
    for name in (b"/bj\xf6rn", b"/bj\xe4rn"):
        write(Path(os.fsdecode(os.fsencode(tmp_path) + name)) / "a.ipynb", [AREA])
    _, student = students(tmp_path)
    assert student.id == r"bj\xf6rn"
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
