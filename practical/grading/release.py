"""What students get: all that they need, and nothing that they must not see."""

import importlib.util
import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from practical._files import atomic_path

_ROOT = Path(__file__).resolve().parents[2]
# In any text file, what stands between two such lines is for whoever grades.
_BLOCKS = ("HIDDEN TESTS", "INSTRUCTOR")
# Of the files that git knows, these are given away, and of these not those. A notebook or a table
# in docs/ or tests/ may be somebody's work, so the kinds of files are named.
_GIVEN = (
    "ExplanationMethods.ipynb", "ModelBias.ipynb", "practical/*.py", "practical/*.safetensors",
    "practical/bias/studies/*.csv", "tests/*.py", "tests/*.npz", "docs/*.md", "docs/*.png",
    "LICENSE", "Makefile", "README.md", "constraints.txt", "environment.yml", "notebooks/build.py",
    "pyproject.toml", ".gitignore",
)  # fmt: skip
_KEPT_BACK = (
    "docs/instructor.md", "docs/*.py", "tests/attacks/*", "tests/test_grading*",
    "tests/test_build.py", "tests/test_makefile.py", "tests/test_environment.py",
    "tests/test_benchmarks.py",
    "practical/grading/*",
)  # fmt: skip
_GRADING = (
    "__init__.py", "asking.py", "checks.py", "exercise.py", "verdicts.py", "questions.py",
    "exercises/*",
)  # fmt: skip
_EPOCH = (2020, 1, 1, 0, 0, 0)  # the same release has the same bytes


def release(out: Path, *, root: Path = _ROOT) -> Path:
    """Write the students' folder and a zip of it, and return the zip.

    The notebooks are generated from their sources, and the zip is searched for every line of every
    solution, model answer and hidden check before it takes the place of an older one.

    Args:
        out: The folder, which is written again from nothing; the zip lies beside it.
        root: The project's folder.

    Raises:
        ValueError: If the folder holds files that no release wrote, if a notebook differs from what
            its source generates, if a block has no end, or if the zip holds a line of a solution.
        RuntimeError: If git cannot list the project's files.
    """
    mark = out / ".release"
    if out.exists() and any(out.iterdir()) and not mark.exists():
        raise ValueError(
            f"out must be empty, or a release of before, got {out}, which has other files"
        )
    notebooks = _notebooks(root)
    contents = {path: _content(root / path) for path in _given(root) if path not in notebooks}
    contents |= notebooks
    archive = out.with_name(f"{out.name}.zip")
    with atomic_path(archive) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in sorted(contents):
                entry = zipfile.ZipInfo(f"{out.name}/{path}", _EPOCH)
                entry.external_attr = 0o644 << 16
                packed.writestr(entry, contents[path], zipfile.ZIP_DEFLATED)
        if leaks := find_solutions(temporary, root=root):
            raise ValueError(
                "the release must not have a line of a solution, got\n"
                + "\n".join(f"  {name}: {line}" for name, line in leaks[:10])
                + "\nNothing was written: remove these lines from the files named"
            )
    if out.exists():
        shutil.rmtree(out)
    for path, content in contents.items():
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    mark.write_text("Written by `make release`, which removes this folder when it is run again.\n")
    return archive


def find_solutions(archive: Path, *, root: Path = _ROOT) -> list[tuple[str, str]]:
    """Return the lines of solutions, model answers and hidden checks in a zip, with their files."""
    hidden = set(hidden_lines(root))
    if not hidden:
        raise ValueError(f"root must have the notebooks' sources with solutions, got {root}")
    found = []
    with zipfile.ZipFile(archive) as packed:
        for name in packed.namelist():
            content = packed.read(name)
            text = content.decode(errors="replace")
            least = 30  # characters; a shorter line of code may be anybody's
            if name.endswith(".ipynb"):  # as its readers see it, without JSON's escapes
                text, least = "\n".join(_strings(json.loads(text))), 0
            found += [(name, line) for line in hidden if len(line) > least and line in text]
    return sorted(found)


def hidden_lines(root: Path) -> Iterator[str]:
    """Yield each line of a solution, a model answer or a hidden check that is nobody else's."""
    exercises = root / "practical" / "grading" / "exercises"
    for path in [*root.glob("notebooks/[A-Z]*.py"), *exercises.glob("*.py")]:
        inside = False
        # A short line is anybody's: `np.allclose(` of a hidden check, a closing bracket.
        least = 30 if path.parent == exercises else 12
        for line in path.read_text(encoding="utf-8").splitlines():
            if found := re.fullmatch(r"[# ]*(BEGIN|END) (SOLUTION|HIDDEN TESTS)", line):
                inside = found[1] == "BEGIN"
            elif inside and len(words := line.strip().removeprefix("# ")) > least:
                yield words


def uncommitted(root: Path = _ROOT) -> tuple[list[str], list[str]]:
    """Return the files that are released as they lie here, changed, and those that git lacks."""
    lines = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    named = [(line[:2], line[3:]) for line in lines if _is_given(line[3:])]
    named = [(state, name) for state, name in named if not name.endswith(".ipynb")]  # generated
    changed = [name for state, name in named if state != "??" and (root / name).exists()]
    return changed, [name for state, name in named if state == "??"]


def strip(text: str, *, name: str = "text") -> str:
    """Return a text without what stands between the marks, and without the marks' lines.

    Raises:
        ValueError: If a mark has no partner.
    """
    for block in _BLOCKS:
        kept, inside = [], False
        for line in [*text.splitlines(keepends=True), None]:
            mark = line and re.fullmatch(rf"\W*(BEGIN|END) {block}\W*", line)
            if (mark and inside == (mark[1] == "BEGIN")) or (line is None and inside):
                raise ValueError(f"{name} must have an end for each begin of {block!r}")
            if mark:
                inside = not inside
            elif line and not inside:
                kept.append(line)
        text = "".join(kept)
    return text


def _notebooks(root: Path) -> dict[str, bytes]:
    """Return the notebooks by name, generated from their sources.

    A notebook that somebody worked in is not overwritten, and nobody should take it for released.
    """
    spec = importlib.util.spec_from_file_location("build", root / "notebooks" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    texts = {build.target(source): build.generate(source) for source in build.sources()}
    if changed := [
        path.name
        for path, text in texts.items()
        if path.is_file() and path.read_text(encoding="utf-8") != text
    ]:
        raise ValueError(
            f"the notebooks must be what notebooks/*.py generate, got {', '.join(changed)} with "
            "changes. Move a copy of yours that you want to keep out of this folder, and restore "
            "them: make notebooks"
        )
    return {path.name: text.encode() for path, text in texts.items()}


def _given(root: Path) -> list[str]:
    return [path for path in _git(root, "ls-files", "-z") if _is_given(path)]


def _git(root: Path, *arguments: str) -> list[str]:
    found = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise RuntimeError(f"git must know the project's files: {found.stderr.strip()}")
    return [line for line in found.stdout.split("\0") if line]


def _strings(parsed: Any) -> Iterator[str]:
    """Yield the texts in a notebook; a list of texts is one, in lines."""
    if isinstance(parsed, str):
        yield parsed
    elif isinstance(parsed, dict):
        for value in parsed.values():
            yield from _strings(value)
    elif isinstance(parsed, list) and all(isinstance(value, str) for value in parsed):
        yield "".join(parsed)
    elif isinstance(parsed, list):
        for value in parsed:
            yield from _strings(value)


def _is_given(path: str) -> bool:
    if PurePosixPath(path).is_relative_to("practical/grading"):
        return any(_matches(path, f"practical/grading/{one}") for one in _GRADING)
    return any(_matches(path, one) for one in _GIVEN) and not any(
        _matches(path, one) for one in _KEPT_BACK
    )


def _matches(path: str, pattern: str) -> bool:
    """Return whether a pattern fits, in which * stands for anything, folders too."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), path) is not None


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix in (".png", ".safetensors", ".csv", ".npz"):
        return content
    # The module that strips has the marks in its own lines, and is not given away.
    return strip(content.decode(), name=str(path)).encode()
