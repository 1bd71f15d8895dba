"""What students get: all that they need, and nothing that they must not see."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path, PurePosixPath

_ROOT = Path(__file__).resolve().parents[2]
# In any text file, what stands between two such lines is for whoever grades.
_BLOCKS = ("HIDDEN TESTS", "INSTRUCTOR")
# Of the files that git knows, these are given away, and of these not those.
_GIVEN = (
    "ExplanationMethods.ipynb", "ModelBias.ipynb", "practical/*", "tests/*", "docs/*", "LICENSE",
    "Makefile", "README.md", "constraints.txt", "environment.yml", "notebooks/build.py",
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

    Args:
        out: The folder, which is made anew; the zip lies beside it.
        root: The project's folder.

    Raises:
        ValueError: If the folder has something in it that no release wrote, or a block no end.
        RuntimeError: If git cannot say which files are the project's.
    """
    mark = out / ".release"
    if out.exists() and any(out.iterdir()) and not mark.exists():
        raise ValueError(
            f"out must be empty, or a release of before, got {out}, which has other files"
        )
    contents = {path: _content(root / path) for path in _given(root)}
    if out.exists():
        shutil.rmtree(out)
    for path, content in contents.items():
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    mark.write_text("Written by `make release`, which removes this folder when it is run again.\n")
    archive = out.with_name(f"{out.name}.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(contents):
            entry = zipfile.ZipInfo(f"{out.name}/{path}", _EPOCH)
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, contents[path], zipfile.ZIP_DEFLATED)
    return archive


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


def _given(root: Path) -> list[str]:
    found = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise RuntimeError(f"git must know the project's files: {found.stderr.strip()}")
    return [path for path in found.stdout.split("\0") if path and _is_given(path)]


def _is_given(path: str) -> bool:
    inside = PurePosixPath(path)
    if inside.is_relative_to("practical/grading"):
        return any(_matches(path, f"practical/grading/{one}") for one in _GRADING)
    return any(_matches(path, one) for one in _GIVEN) and not any(
        _matches(path, one) for one in _KEPT_BACK
    )


def _matches(path: str, pattern: str) -> bool:
    """Return whether a pattern fits, in which * stands for anything, folders too."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), path) is not None


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix in (".png", ".safetensors", ".csv"):
        return content
    # The module that strips has the marks in its own lines, and is not given away.
    return strip(content.decode(), name=str(path)).encode()
