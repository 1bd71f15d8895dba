import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbgrader.nbgraderformat.v3 import MetadataValidatorV3

ROOT = Path(__file__).resolve().parents[1]

SOURCE = r"""# ---
# jupyter:
#   kernelspec:
#     display_name: somebody's own
#     language: python
#     name: mine
# ---

# %% [markdown]
# # A title
#
# Inline, $\frac{a}{b} < 1$, and in a line of its own:
#
# $$\int_0^1 \partial_i f \, d\alpha$$

# %%
import os
import sys

import matplotlib.pyplot as plt

print(os.environ["PRACTICAL_DATASET"], os.environ.get("PRACTICAL_MODEL"))
print(sys.executable)
print(os.getcwd())
plt.plot([1, 2])
plt.show()

# %% tags=["exercise"]
1 + 1

# %%
1 + 1
"""


BAD = """# %%
print('before')

# %%
value = 3
raise ValueError(f'the value is {value}')
"""
DEAD = """# %%
import os

os._exit(3)
"""
SLOW = """# %%
import os
import time

with open("pid.part", "w") as file:
    file.write(f"{os.getpid()} {os.environ['PRACTICAL_DATASET']}")
os.replace("pid.part", "pid")
time.sleep(1000)
"""


def make_project(folder, **sources):
    """Return a checkout with build.py and these notebook sources, and nothing else."""
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "notebooks/build.py", folder / "notebooks")
    for name, text in sources.items():
        (folder / f"notebooks/{name}.py").write_text(text, encoding="utf-8")
    return folder


def load(folder):
    """Return the module notebooks/build.py of `folder`."""
    spec = importlib.util.spec_from_file_location("build", folder / "notebooks/build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path):
    """A checkout with one small notebook source."""
    return make_project(tmp_path / "a check out", Tiny=SOURCE)


@pytest.fixture
def sync(project, capsys):
    """Runs `build.py sync` with some arguments: its exit status, output and errors."""
    module = load(project)

    def run(*arguments):
        status = module.main(["sync", *arguments])
        return (status, *capsys.readouterr())

    return run


def environment(folder, **changes):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRACTICAL_")}
    return {**kept, "HOME": str(folder.parent), **changes}


def build(folder, *arguments, **changes):
    """Run notebooks/build.py of `folder`, from another folder."""
    return subprocess.run(
        [sys.executable, str(folder / "notebooks/build.py"), *arguments],
        cwd=folder.parent,
        env=environment(folder, **changes),
        capture_output=True,
        text=True,
        timeout=300,
    )


def outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps([cell.get("outputs") for cell in notebook["cells"]])


# --- sync ----------------------------------------------------------------------------------------


def test_sync_writes_the_same_clean_notebook_each_time(project, sync):
    assert sync() == (0, "Wrote Tiny.ipynb\n", "")
    notebook = project / "Tiny.ipynb"
    first = notebook.read_bytes()
    notebook.unlink()
    assert build(project, "sync", PYTHONHASHSEED="7").stdout == "Wrote Tiny.ipynb\n"
    assert notebook.read_bytes() == first
    assert sync() == (0, "", ""), "nothing to do"

    read = nbformat.read(notebook, as_version=4)
    nbformat.validate(read)
    assert [cell.cell_type for cell in read.cells] == ["markdown", "code", "code", "code"]
    assert len({cell.id for cell in read.cells}) == 4, "two cells are alike, their ids are not"
    assert read.metadata.kernelspec.name == "python3"
    assert read.cells[2].metadata == {"tags": ["exercise"]}
    assert all(cell.outputs == [] for cell in read.cells[1:])


def test_a_cell_keeps_its_id_when_others_come_and_go(project, sync):
    sync()
    before = [cell.id for cell in nbformat.read(project / "Tiny.ipynb", as_version=4).cells]
    source = project / "notebooks/Tiny.py"
    source.write_text(SOURCE.replace("# %%\nimport os", "# %%\nnew = 1\n\n# %%\nimport os"))
    sync()
    after = [cell.id for cell in nbformat.read(project / "Tiny.ipynb", as_version=4).cells]
    assert [*after[:1], *after[2:]] == before


@pytest.mark.parametrize("damage", ["source edited", "notebook edited", "notebook missing"])
def test_check_names_what_differs_and_writes_nothing(project, sync, damage):
    sync()
    notebook, source = project / "Tiny.ipynb", project / "notebooks/Tiny.py"
    assert sync("--check") == (0, "", "")
    if damage == "source edited":
        source.write_text(SOURCE.replace("1 + 1", "1 + 2"))
    elif damage == "notebook edited":
        notebook.write_text(notebook.read_text().replace("1 + 1", "1 + 2"))
    else:
        notebook.unlink()
    before = {path: path.read_bytes() for path in project.rglob("*.*")}
    assert sync("--check") == (
        1,
        "",
        "Tiny.ipynb is not what notebooks/Tiny.py generates.\n"
        "Edit the source, then regenerate: make notebooks\n",
    )
    assert {path: path.read_bytes() for path in project.rglob("*.*")} == before


def test_the_projects_notebooks_are_what_their_sources_generate():
    """Compares the cells alone, so that having executed a notebook is no failure."""
    module = load(ROOT)
    assert module.sources()
    for source in module.sources():
        generated = nbformat.reads(module.generate(source), as_version=4)
        notebook = nbformat.read(module.target(source), as_version=4)
        cells, expected = (
            [(cell.cell_type, cell.source) for cell in one.cells] for one in (notebook, generated)
        )
        assert cells == expected, f"{source.name} and its notebook differ: make notebooks"


# --- run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of three notebooks, one of which works, one fails, and one takes Python down."""
    folder = tmp_path_factory.mktemp("run")
    project = make_project(folder / "a check out", Bad=BAD, Dead=DEAD, Tiny=SOURCE)
    load(project).sync(check=False)
    untouched = {path: path.read_bytes() for path in project.glob("*.ipynb")}
    other = folder / "jupyter/kernels/python3"  # not ours, whatever it is called
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(
        '{"argv": ["/bin/false"], "display_name": "other", "language": "python"}'
    )
    (project / "build").mkdir()
    (project / "build/Bad.html").write_text("of an older run")
    done = build(
        project, "run", "--dataset", "folder:/a b",
        JUPYTER_PATH=str(other.parents[1]), MPLBACKEND="Agg", PRACTICAL_MODEL="my model",
    )  # fmt: skip
    assert {path: path.read_bytes() for path in project.glob("*.ipynb")} == untouched
    return project, done


def test_run_leaves_the_executed_notebook(finished):
    project, done = finished
    assert "Tiny: cell 2 of 4, A title" in done.stdout
    assert "  build/Tiny.ipynb\n  build/Tiny.html\n" in done.stdout
    written = outputs(project / "build/Tiny.ipynb")
    assert "folder:/a b my model" in written
    assert sys.executable in written, "another kernel of the same name was taken"
    assert str(project) in written, "the working folder is the checkout"
    assert "image/png" in written, "MPLBACKEND of a shell hides the figures"


def test_run_leaves_a_page_that_needs_no_network(finished):
    project, _ = finished
    page = (project / "build/Tiny.html").read_text(encoding="utf-8")
    assert "<title>Tiny</title>" in page
    assert "data:image/png;base64," in page
    assert "<mfrac>" in page
    assert "<msubsup>" in page
    assert "<script" not in page
    assert '<link rel="stylesheet"' not in page


def test_a_failing_cell_is_shown_and_what_ran_before_is_kept(finished):
    project, done = finished
    assert done.returncode == 1
    assert "raise ValueError(f'the value is {value}')" in done.stderr
    assert "ValueError: the value is 3" in done.stderr
    assert "\x1b" not in done.stderr
    assert "The notebook up to there: build/Bad.ipynb" in done.stderr
    assert "Failed: Bad.ipynb, Dead.ipynb" in done.stderr
    assert "before" in outputs(project / "build/Bad.ipynb")
    names = ["Bad.ipynb", "Dead.ipynb", "Tiny.html", "Tiny.ipynb"]  # the old Bad.html is gone
    assert sorted(path.name for path in (project / "build").iterdir()) == names


def test_a_kernel_that_dies_is_said_to(finished):
    _, done = finished
    assert "Python ended while it executed this cell" in done.stderr
    assert "os._exit(3)" in done.stderr
    assert "DeadKernelError" not in done.stderr


def test_ctrl_c_leaves_nothing_half_written_and_no_kernel(tmp_path):
    project = make_project(tmp_path, Slow=SLOW)
    load(project).sync(check=False)
    untouched = (project / "Slow.ipynb").read_bytes()
    running = subprocess.Popen(
        [sys.executable, str(project / "notebooks/build.py"), "run", "--out", "other"],
        env=environment(project), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    pid, deadline = project / "pid", time.monotonic() + 200
    while not pid.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    kernel, dataset = pid.read_text().split()
    assert dataset == "shapes"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=200)
    assert running.returncode == 130
    assert errors == "\nInterrupted: what was finished before is kept.\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(kernel), 0)
    assert list((project / "other").iterdir()) == []
    assert (project / "Slow.ipynb").read_bytes() == untouched


def test_run_asks_for_a_notebook_that_is_missing(project, capsys):
    assert load(project).main(["run"]) == 1
    assert capsys.readouterr().err == "Tiny.ipynb is missing. Generate it: make notebooks\n"
    assert not (project / "build").exists()


def test_a_formula_that_cannot_be_drawn_stays_readable():
    module = load(ROOT)
    assert module._markdown_to_html(r"$\unknown{x} < 1$") == (
        "<p><code>\\unknown{x} &lt; 1</code></p>\n"
    )


def test_solutions_are_cleared_and_marked_for_nbgrader():
    module = load(ROOT)
    for source in module.sources():
        solved = nbformat.reads(module.generate(source, solved=True), as_version=4)
        cleared = nbformat.reads(module.generate(source), as_version=4)
        assert len(solved.cells) == len(cleared.cells)
        for notebook in (solved, cleared):  # nbgrader refuses what it does not like
            MetadataValidatorV3().validate_nb(notebook)
        kinds = {}
        for before, after in zip(solved.cells, cleared.cells, strict=True):
            about = after.metadata.get("nbgrader", {"grade_id": "none"})
            kind = about["grade_id"].partition("-")[0]
            kinds.setdefault(kind, []).append(about.get("points"))
            assert "SOLUTION" not in after.source
            if kind == "solution":
                assert "### BEGIN SOLUTION" in before.source
                assert after.source.endswith(
                    "    # YOUR CODE HERE\n    raise NotImplementedError()"
                )
            elif kind == "answer":
                assert after.source.startswith("**Your answer to question")
                assert after.source.endswith("-->\n\nYOUR ANSWER HERE")
                assert len(before.source) > 200
            else:
                assert before.source == after.source
        assert len(kinds["solution"]) == len(kinds["check"])
        assert all(kinds["check"])
        assert all(kinds["answer"])


def test_the_solutions_are_written_where_they_are_wanted(tmp_path, capsys):
    module = load(ROOT)
    assert module.solutions(tmp_path / "out") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["ExplanationMethods.solutions.ipynb", "ModelBias.solutions.ipynb"]
    assert "Wrote " in capsys.readouterr().out
