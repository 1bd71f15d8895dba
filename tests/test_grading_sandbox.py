"""What the worker gets to see of the package: nothing that answers an exercise, or checks one."""

import ast
import sys

import pytest

from practical.grading import sandbox
from practical.grading.exercise import ABSENT
from practical.grading.exercises import EXERCISES
from tests.conftest import ROOT

FILES = sorted((ROOT / "practical" / "grading" / "exercises").glob("*.py"))
GRADING = {
    "__init__.py", "asking.py", "stand_ins.py", "unused.py", "wire.py", "worker.py",
}  # fmt: skip
# What exercises take of the package that is no answer to any: what questions are asked about.
NO_ANSWERS = {"practical.models.Classifier", "practical.models.architecture.Architecture"}


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    return sandbox.stage(tmp_path_factory.mktemp("staged"))


@pytest.mark.usefixtures("sandboxed")
def test_a_python_whose_folder_is_around_the_answers_is_refused(staged, monkeypatch):
    assert sandbox.problem("bwrap", staged.parent) == ""
    folders = [*sandbox._python_folders(), ROOT]
    monkeypatch.setattr(sandbox, "_python_folders", lambda: folders)
    told = sandbox.problem("bwrap", staged.parent)
    assert told.startswith(f"the answers in {ROOT / 'practical'} can be read inside")


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")
def test_a_bubblewrap_that_may_make_no_namespace_is_named(staged, monkeypatch, tmp_path):
    for name in ("prlimit", "setpriv"):
        (tmp_path / name).symlink_to("/bin/true")
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = sandbox.problem("bwrap", staged.parent)
    assert told.startswith(
        "bubblewrap does not work here (bwrap: No permissions). Containers often"
    )


def test_the_worker_gets_no_reference_no_check_and_no_test(staged):
    files = {path.relative_to(staged) for path in staged.rglob("*") if path.is_file()}
    grading = {str(one.relative_to("grading")) for one in files if one.parts[0] == "grading"}
    assert grading == GRADING
    assert "stand_ins import check" in (staged / "grading" / "__init__.py").read_text()
    for name in ABSENT:
        assert [str(one) for one in files if one.parts[0] == name] == [f"{name}/__init__.py"]
    assert not [one for one in files if "test" in str(one)]
    assert {one.name for one in staged.parent.iterdir()} == {"practical", "compiled", "seccomp.bpf"}


def test_the_worker_gets_no_function_by_an_exercises_name(staged):
    asked = {one.name for one in EXERCISES.values()}
    found = [
        (path.name, node.name)
        for path in staged.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name in asked
    ]
    assert not found


@pytest.mark.parametrize("name", [path.name for path in FILES])
def test_what_answers_an_exercise_is_absent_in_the_worker(name):
    used = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse((FILES[0].parent / name).read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "practical"
        for alias in node.names
    }
    present = {one for one in used - NO_ANSWERS if one.split(".")[1] not in (*ABSENT, "grading")}
    assert not present, f"{name} uses {present}: its folder has to be in ABSENT, exercise.py"
