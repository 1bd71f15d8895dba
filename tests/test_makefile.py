import fcntl
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from practical import _files

ROOT = Path(__file__).resolve().parents[1]
MAKE = shutil.which("make") or "make"


def make(folder, *arguments, path="/usr/bin:/bin", **environment):
    """Run make in `folder`, with nothing of an outer make's in its environment."""
    environment = {"PATH": path, "HOME": str(folder.parent), **environment}
    return subprocess.run(
        [MAKE, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def checkout(tmp_path):
    """A folder with the project's Makefile, and a name that shells stumble over."""
    folder = tmp_path / "a student's check out"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_files._TAG if path.name == "CACHEDIR.TAG" else "content")
    return path


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- cleanup -------------------------------------------------------------------------------------

RUBBISH = [
    "downloads/imagenette/CACHEDIR.TAG",
    "downloads/imagenette/original/data.array_record",
    "downloads/hub/CACHEDIR.TAG",
    "downloads/hub/original/.locks/a b",
    "build/ExplanationMethods.html",
    ".pytest_cache/v/x",
    ".ruff_cache/x",
    ".hypothesis/x",
    "practical/__pycache__/x.pyc",
    "practical/data/__pycache__/x.pyc",
    "my_work/__pycache__/x.pyc",
    "my_work/two words/.ipynb_checkpoints/notes-checkpoint.ipynb",
    ".ipynb_checkpoints/ExplanationMethods-checkpoint.ipynb",
    "-rf/__pycache__/x.pyc",
    "new\nline/__pycache__/x.pyc",
]
KEPT = [
    "ExplanationMethods.ipynb",
    "my notes.ipynb",
    "my_work/downloads/photo.jpg",
    "my_work/build/result.csv",
    "my_work/imagenette/photo.jpg",
    "imagenette/photo.jpg",
    "downloads_of_mine/photo.jpg",
    "build.txt",
    "my_build/x",
    "*",
    "-rf/x",
    "new\nline/x",
    "äöü '\" $HOME `x`.txt",
    ".venv/lib/__pycache__/x.pyc",
    ".git/config",
]


def test_cleanup_removes_the_rubbish_and_nothing_else(checkout):
    for name in KEPT:
        write(checkout / name)
    before = files(checkout)
    for name in RUBBISH:
        write(checkout / name)
    for _ in range(2):
        done = make(checkout, "cleanup")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert files(checkout) == before
    for name in ("downloads", "build", ".pytest_cache", ".ruff_cache", ".hypothesis"):
        assert not (checkout / name).exists()
    assert not [*checkout.glob("[!.]*/**/__pycache__"), *checkout.rglob(".ipynb_checkpoints")]


@pytest.mark.parametrize("target", ["cleanup", "distclean"])
def test_cleanup_keeps_the_points_that_a_person_gave_and_says_so(checkout, target):
    before = files(checkout)
    mine = {
        "build/grades/answers.csv", "build/grades/of last year/answers 2.ods",
        "build/grades/Graded Answers.csv",
    }  # fmt: skip
    for name in mine:
        write(checkout / name)
    elsewhere = write(checkout.parent / "elsewhere/answers.csv")
    (checkout / "build/grades/linked").symlink_to(elsewhere.parent)
    for name in (*RUBBISH, "build/grades/grades.csv", "build/grades/cache/a b.json"):
        write(checkout / name)
    for _ in range(2):
        done = make(checkout, target)
        assert (done.returncode, done.stderr) == (0, "")
        said = {f"Left as it is, with points that somebody gave: {name}" for name in mine}
        assert set(done.stdout.splitlines()) == said
        assert files(checkout) == before | mine
    left = {path.name for path in (checkout / "build/grades").iterdir()}
    assert left == {"answers.csv", "of last year", "Graded Answers.csv"}
    assert elsewhere.exists()


OWN = [
    "build/answers.txt", "build/my report/figure.png", "build/-rf/x", "downloads/photo.jpg",
    "downloads/suspects/photo.jpg", "downloads/grading/CACHEDIR.TAG/x",
]  # fmt: skip


def test_cleanup_keeps_own_files_among_its_own_and_says_so(checkout):
    before = files(checkout)
    for name in (*RUBBISH, *OWN, "build/practical.zip", "build/practical/Makefile"):
        write(checkout / name)
    for _ in range(2):
        done = make(checkout, "cleanup")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            f"Left as it is, with files that make did not write: {name}"
            for name in ("build", "downloads")
        ]
        assert files(checkout) == before | set(OWN)


def test_cleanup_works_where_there_is_nothing_to_clean(checkout):
    before = files(checkout)
    assert make(checkout, "cleanup").returncode == 0
    assert files(checkout) == before


def test_cleanup_removes_a_link_and_not_what_it_points_at(checkout):
    photo = write(checkout.parent / "elsewhere/photo.jpg")
    pyc = write(checkout.parent / "elsewhere/__pycache__/x.pyc")
    for name in ("downloads", "build", ".hypothesis", "linked"):
        (checkout / name).symlink_to(photo.parent)
    (checkout / ".ruff_cache").symlink_to("nowhere")
    assert make(checkout, "cleanup").returncode == 0
    assert photo.exists()
    assert pyc.exists()
    left = {path.name for path in checkout.iterdir() if path.is_symlink()}
    assert left == {"linked"}


def test_cleanup_leaves_files_that_are_named_like_its_folders(checkout):
    for name in ("build", "downloads", "__pycache__"):
        write(checkout / name)
    assert make(checkout, "cleanup").returncode == 0
    assert (checkout / "build").exists()
    assert (checkout / "downloads").exists()
    assert (checkout / "__pycache__").exists()


@pytest.mark.parametrize("written", ["cache", "./cache/", "{checkout}/cache", "~/{name}/cache"])
def test_cleanup_empties_a_cache_folder_inside_the_checkout(checkout, written):
    home = written.format(checkout=checkout, name=checkout.name)
    for name in ("hub/original/weights", "imagenette/x", "suspects/shapes-clean", "grading/0/jit"):
        write(checkout / "cache" / name)
        write(checkout / "cache" / name.partition("/")[0] / "CACHEDIR.TAG")
    mine = write(checkout / "cache/mine.txt")
    for _ in range(2):
        done = make(checkout, "cleanup", PRACTICAL_HOME=home)
        assert (done.returncode, done.stderr) == (0, "")
        assert [path.name for path in (checkout / "cache").iterdir()] == ["mine.txt"]
    mine.unlink()
    assert make(checkout, "cleanup", PRACTICAL_HOME=home).returncode == 0
    assert not (checkout / "cache").exists()


@pytest.mark.parametrize("through", ["directly", "by a link", "by dots", "by a sibling's name"])
def test_cleanup_leaves_a_cache_folder_outside_and_says_so(checkout, through):
    outside = checkout.parent / "outside"
    weights = write(outside / "hub/weights.safetensors")
    home = str(outside)
    if through == "by a link":
        home = str(checkout / "link")
        (checkout / "link").symlink_to(outside)
    elif through == "by dots":
        home = "../outside"
    elif through == "by a sibling's name":
        home = f"{checkout}-of-mine"
        outside = outside.rename(home)
        weights = outside / "hub/weights.safetensors"
    write(outside / "hub/CACHEDIR.TAG")
    write(checkout / "downloads/hub/CACHEDIR.TAG")
    done = make(checkout, "cleanup", PRACTICAL_HOME=home)
    assert done.returncode == 0
    assert f"Left as it is: PRACTICAL_HOME, {home}, is not inside this folder." in done.stdout
    assert weights.exists()
    assert not (checkout / "downloads").exists()


@pytest.mark.parametrize("home", [".", "my_work", "practical"])
def test_cleanup_takes_only_the_folders_that_carry_our_tag(checkout, home):
    """Others are called the same: `practical/grading`, a student's `hub`."""
    mine = [write(checkout / home / name) for name in ("grading/checks.py", "imagenette/a.jpg")]
    write(checkout / home / "hub/CACHEDIR.TAG").write_text("Signature: of another program")
    elsewhere = write(checkout.parent / "elsewhere/original/x")
    write(checkout.parent / "elsewhere/CACHEDIR.TAG")
    (checkout / home / "suspects").symlink_to(elsewhere.parents[1])
    write(checkout / home / "compiled/CACHEDIR.TAG")
    done = make(checkout, "cleanup", PRACTICAL_HOME=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(path.exists() for path in (*mine, elsewhere, checkout / "Makefile"))
    left = {path.name for path in (checkout / home).iterdir()}
    assert left >= {"grading", "imagenette", "hub"}
    assert not left & {"suspects", "compiled"}


def test_a_cache_folder_gets_its_tag_only_when_it_is_new(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICAL_HOME", str(tmp_path))
    photo = write(tmp_path / "hub/photo.jpg")
    for kind in ("hub", "suspects"):
        assert _files.cache_folder(kind) == tmp_path / kind / "original"
    assert list(photo.parent.iterdir()) == [photo]
    assert (tmp_path / "suspects/CACHEDIR.TAG").read_text() == _files._TAG


def test_cleanup_knows_every_kind_of_download():
    text = "\n".join(path.read_text() for path in (ROOT / "practical").rglob("*.py"))
    kinds = set(re.findall(r'cache_folder\("(\w+)"\)', text))
    removed = re.search(r"for kind in (.*); do", (ROOT / "Makefile").read_text())
    assert removed
    assert set(removed[1].split()) == kinds, "the Makefile's cleanup and cache_folder() disagree"


def test_distclean_also_removes_the_environment(checkout):
    write(checkout / ".venv/bin/python")
    mine = write(checkout / "mine.txt")
    assert make(checkout, "distclean").returncode == 0
    assert not (checkout / ".venv").exists()
    assert mine.exists()


def test_make_from_another_folder_is_refused(checkout):
    write(checkout.parent / "other/build/mine.txt")
    done = make(checkout.parent / "other", "-f", "../a student's check out/Makefile", "cleanup")
    assert done.returncode == 2
    assert "Run make in the practical's own folder" in done.stderr
    assert (checkout.parent / "other/build/mine.txt").exists()


# --- help ----------------------------------------------------------------------------------------


def test_help_is_the_default_and_has_one_line_a_target(checkout):
    done = make(checkout)
    assert done.stdout == make(checkout, "help").stdout
    text = (ROOT / "Makefile").read_text()
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)).split()
    listed = re.findall(r"^  make (\w+) +\S", done.stdout, re.MULTILINE)
    assert len(listed) > 10
    assert sorted(listed) == sorted(set(phony) - {"FORCE"})
    assert max(map(len, done.stdout.splitlines())) <= 100


# --- env -----------------------------------------------------------------------------------------

# Stands in for python3 and .venv/bin/python: writes down how it is called, and installs nothing.
FAKE = f"""#!/bin/sh
case "$*" in *fcntl*) exec '{sys.executable}' "$@" ;; esac
"""
FAKE += """case "$*" in -c*) ;; *) echo "$* [$PRACTICAL_DATASET|$PRACTICAL_MODEL]" >> "$LOG" ;; esac
case "$*" in
    *version_info\\ *) [ -z "$OLD" ] ;;
    *%d.%d*) echo 3.8 ;;
    *ensurepip*) [ -z "$NO_VENV" ] ;;
    "-m venv "*)
        if [ -L "$3" ]; then exit 1; fi  # as venv does
        mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip install"*)
        if [ -n "$KILLED" ]; then kill -9 $PPID; fi
        again=$AGAIN; unset AGAIN; eval "$again"
        exit "${PIP_EXIT:-0}" ;;
esac
"""


@pytest.fixture
def fake(checkout):
    """Runs make with a pretended Python alone, and returns what that was asked for."""
    tools = checkout.parent / "bin"
    tools.mkdir()
    for name in "sh echo awk cat cksum cp ls mkdir mv readlink rm touch find sed".split():
        (tools / name).symlink_to(shutil.which(name) or name)
    (tools / "python3").write_text(FAKE)
    (tools / "python3").chmod(0o755)
    log = checkout.parent / "log"

    def run(*arguments, folder=checkout, **environment):
        log.write_text("")
        done = make(folder, *arguments, path=str(tools), LOG=str(log), **environment)
        asked = [line for line in log.read_text().splitlines() if "pip --version" not in line]
        return done, [line.rpartition(" [")[0] for line in asked]

    run.log, run.tools = log, tools
    return run


VENV = "-m venv .venv"
PIP = "-m pip install --quiet --disable-pip-version-check -c constraints.txt -e "


def test_env_installs_once(fake, checkout):
    done, asked = fake("env")
    assert done.returncode == 0, done.stderr
    assert asked == [VENV, PIP + ".[dev]"]
    assert fake("env")[1] == []
    (checkout / "pyproject.toml").touch()
    assert fake("env")[1] == [], "the content did not change"
    with (checkout / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert fake("env")[1] == [PIP + ".[dev]"]
    assert fake("env")[1] == []


def test_env_adds_an_extra_and_keeps_it(fake, checkout):
    assert fake("env")[0].returncode == 0
    assert fake("env", "EXTRA=cuda13")[1] == [PIP + ".[dev,cuda13]"]
    assert fake("env", "EXTRA=cuda13")[1] == []
    assert fake("env")[1] == []
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert fake("env")[1] == [PIP + ".[dev,cuda13]"]
    done, asked = fake("env", "EXTRA=cuda11")
    assert done.returncode == 2
    assert "EXTRA must be cuda12 or cuda13, got 'cuda11'" in done.stderr
    assert asked == []


def test_an_interrupted_installation_starts_over(fake, checkout):
    assert fake("env", KILLED="1")[0].returncode == 2
    assert fake("env")[1] == [VENV, PIP + ".[dev]"]
    assert fake("env")[1] == []
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert fake("env", KILLED="1")[0].returncode == 2
    assert fake("env")[1] == [VENV, PIP + ".[dev]"]


@pytest.mark.parametrize("before", [True, False])
def test_an_installation_under_way_is_not_disturbed(fake, checkout, before):
    if before:
        assert fake("env")[0].returncode == 0
        (checkout / "pyproject.toml").write_text("# changed")
    with (checkout / "Makefile").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done, asked = fake("env")
        assert done.returncode == 2
        assert "Another make is installing into .venv: wait for it." in done.stderr
        assert asked == []
    assert fake("env")[1] == [VENV, PIP + ".[dev]"][before:]


def test_the_lock_is_held_until_the_installation_ends(fake, checkout):
    """A second make that the first one's pip starts is refused."""
    done, asked = fake("env", AGAIN=f"{MAKE} env 2> second")
    assert done.returncode == 0
    assert asked == [VENV, PIP + ".[dev]"]
    assert "Another make is installing" in (checkout / "second").read_text()


@pytest.mark.parametrize("there", [True, False])
def test_the_environment_behind_a_link_is_made_and_made_again(fake, checkout, there):
    disk = checkout.parent / "big disk/venv"
    if there:
        disk.mkdir(parents=True)
    (checkout / ".venv").symlink_to(disk)
    assert fake("env")[1] == [f"-m venv {disk}", PIP + ".[dev]"]
    assert (disk / ".installed").exists()
    (disk / "bin/python").unlink()
    write(disk / "lib/half a package")
    assert fake("env")[1] == [f"-m venv {disk}", PIP + ".[dev]"]
    assert not (disk / "lib").exists()
    assert make(checkout, "distclean").returncode == 0
    assert (disk / "bin/python").exists()
    assert not (checkout / ".venv").is_symlink()


@pytest.mark.parametrize("link", [True, False])
def test_files_of_others_are_not_made_room_of(fake, checkout, link):
    folder = checkout.parent / "big disk" if link else checkout / ".venv"
    mine = write(folder / "thesis/photo.jpg")
    if link:
        (checkout / ".venv").symlink_to(folder)
    done, asked = fake("env")
    assert done.returncode == 2
    assert ".venv holds files that make did not put there. Rename it, or" in done.stderr
    assert asked == []
    assert list(folder.iterdir()) == [mine.parent]


def test_a_failed_installation_is_tried_again(fake, checkout):
    done, _ = fake("env", PIP_EXIT="1")
    assert done.returncode == 2
    assert "Nothing was installed: pip says above why. Try again: make env" in done.stderr
    assert PIP + ".[dev]" in fake("env")[1]
    before = (checkout / "pyproject.toml").read_text()
    (checkout / "pyproject.toml").write_text(before + "# changed\n")
    assert fake("env", PIP_EXIT="1")[0].returncode == 2
    assert fake("env", PIP_EXIT="1")[1] == [PIP + ".[dev]"], "what works is not thrown away"
    (checkout / "pyproject.toml").write_text(before)
    assert fake("env")[1] == [], "and goes on working, also without a network"


def test_a_moved_checkout_is_installed_again(fake, checkout):
    assert fake("env")[0].returncode == 0
    moved = checkout.rename(checkout.parent / "moved")
    assert fake("env", folder=moved)[1] == [PIP + ".[dev]"]
    (moved / ".venv/bin/python").unlink()
    assert fake("env", folder=moved)[1] == [VENV, PIP + ".[dev]"]


def test_an_old_python_is_named_with_a_way_out(fake, checkout):
    done, asked = fake("env", OLD="1")
    assert done.returncode == 2
    assert "The practical needs Python 3.11 or newer, and python3 is 3.8." in done.stderr
    assert "Install a newer one and name it: make env PYTHON=" in done.stderr
    assert asked == []
    (fake.tools / "python3.12").symlink_to(shutil.which("true") or "true")
    done, _ = fake("env", OLD="1")
    assert "Another is installed here: make env PYTHON=python3.12\n" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_missing_python_or_venv_module_is_named_with_a_way_out(fake):
    done, _ = fake("env", "PYTHON=python3.99")
    assert done.returncode == 2
    assert "No Python called 'python3.99' runs here. Install Python 3.11 or newer" in done.stderr
    done, asked = fake("env", NO_VENV="1")
    assert done.returncode == 2
    assert "sudo apt install python3-venv" in done.stderr
    assert asked == []


# --- run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "told"),
    [
        ([], {}, "shapes|"),
        (["DATASET=imagenette"], {}, "imagenette|"),
        ([], {"PRACTICAL_DATASET": "imagenette", "PRACTICAL_MODEL": "m"}, "imagenette|m"),
        (["DATASET=shapes"], {"PRACTICAL_DATASET": "imagenette"}, "shapes|"),
        (
            ["DATASET=folder:/a b's/c", "MODEL=/x y.safetensors"],
            {},
            "folder:/a b's/c|/x y.safetensors",
        ),
    ],
)
def test_run_passes_on_the_data_set_and_the_model(fake, arguments, environment, told):
    done, _ = fake("run", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    assert fake.log.read_text().splitlines()[-1] == f"notebooks/build.py run --out build [{told}]"


def test_every_recipe_calls_the_environments_python(fake):
    for target in ("notebooks", "lab", "test", "lint", "format"):
        done, asked = fake(target)
        assert done.returncode == 0, done.stderr
        assert asked, target
