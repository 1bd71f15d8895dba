"""The answers in words: found in a notebook wherever a student put them.

An answer's cell has a comment, `<!-- answer 1.A -->`, and a visible prompt, nbgrader's `grade_id`,
and an id that follows from its first text. One of these survives nearly all that happens to a cell.
Words in other cells are shown to a person, who decides; no word is dropped and none is judged.
"""

import functools
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jupytext

from practical.grading.exercises import QUESTIONS
from practical.grading.staging import SOURCES

if TYPE_CHECKING:
    from practical.grading.submission import Notebook

_MOST = 20_000  # characters of an answer
_MOST_OTHER = 2_000  # characters of words that belong to no question
_BLANK = "YOUR ANSWER HERE"  # what nbgrader leaves of an answer that is cleared
_PROMPT = "**Your answer to question {}** (double-click and write below this line):"
_MARK = re.compile(
    r"<!--\s*answer\s+(\d\.[A-Z])\b[ \t]*(?:-->)?|"
    + re.escape(_PROMPT).replace(r"\{\}", r"(\d\.[A-Z])"),
    re.IGNORECASE,
)
_ASKED = re.compile(r"\*\*Question (\d\.[A-Z])\b")
_NAMED = re.compile(r"(?<![\w.])[12]\.[A-Z](?!\w)")


class Cell(NamedTuple):
    """A cell of a notebook that was handed in."""

    kind: str  # "code", "markdown", "raw", or whatever the file says
    text: str
    id: str = ""
    grade_id: str = ""  # nbgrader's

    @property
    def question(self) -> str:
        """The question whose answer belongs here by the cell's metadata or id; "" for none."""
        known = self.grade_id.removeprefix("answer-").replace("-", ".")
        return known if known in QUESTIONS else _ids().get(self.id, "")

    @property
    def untouched(self) -> bool:
        """Whether it is as students got it: `notebooks/build.py` makes the id from the text."""
        return self.id.partition("-")[0] == _digest(self.kind, self.text)


@dataclass(frozen=True)
class Answers:
    """The answers of a notebook."""

    words: dict[str, str]  # by question; "" where nothing was found
    unclear: dict[str, str]  # by question: why a person has to look whether the words belong there
    other: str  # the student's words that belong to no question, if a question has no answer

    def __getitem__(self, question: str) -> str:
        return self.words[question]


class _Text(NamedTuple):
    """Words of the student."""

    text: str
    question: str  # that they were put to; "" for none
    cell: Cell


def answers(notebook: "Notebook", part: str) -> Answers:
    """Return the answers of one of the practical's notebooks, "1" or "2"."""
    words: dict[str, list[str]] = {q: [] for q in QUESTIONS if q[0] == part}
    unclear: dict[str, list[str]] = defaultdict(list)
    texts: list[_Text] = []  # all that the student wrote
    near = ""  # the last question, if only cells of the student's own came since
    for cell in notebook.cells:
        if pieces := _pieces(cell, part):
            near = list(pieces)[-1]
            for question, text in pieces.items():
                if text and question in words:
                    words[question].append(text)
                    if cell.question not in ("", question):
                        unclear[question].append(f"it is in the cell of {cell.question}")
                if text:
                    texts.append(_Text(text, question, cell))
        elif cell.untouched:
            near = _asked(cell)
        elif cell.text.strip():
            text, asked = _without_ours(cell.text, part), _asked(cell)
            if asked or text != cell.text.strip():  # a cell that everybody has, changed
                near = asked
            if text and near in words:
                words[near].append(text)
                unclear[near].append("a part of it is outside its cell")
            if text:
                texts.append(_Text(text, near if near in words else "", cell))
    return _completed(words, unclear, texts)


def _completed(
    words: dict[str, list[str]], unclear: dict[str, list[str]], texts: list[_Text]
) -> Answers:
    """Look for answers that are missing in all that the student wrote."""
    for question in [question for question, found in words.items() if not found]:
        named = [one for one in texts if question in (*_NAMED.findall(one.text), one.cell.question)]
        if named:
            words[question] = [one.text for one in named]
            unclear[question].append("its cell is empty, and these words mention the question")
            texts = [one if one not in named else one._replace(question=question) for one in texts]
    for question, found in words.items():
        if len(set(found)) > 1 and not unclear[question]:
            unclear[question].append("it is in several cells")
    missing = not all(words.values())
    other = [
        one.text
        for one in texts
        if one.question not in words and (one.question or (missing and one.cell.kind != "code"))
    ]
    return Answers(
        {question: _cut("\n\n".join(dict.fromkeys(found)), _MOST)
         for question, found in words.items()},
        {question: "; ".join(dict.fromkeys(why)) for question, why in unclear.items() if why},
        _cut("\n\n".join(other), _MOST_OTHER),
    )  # fmt: skip


def _pieces(cell: Cell, part: str) -> dict[str, str]:
    """Return the answers in a cell by question; {} if it is not an answer's."""
    first, *rest = _MARK.split(cell.text)  # before, id or None, None or id, answer, ...
    ids = [(comment or prompt).upper() for comment, prompt in zip(rest[::3], rest[1::3])]  # noqa: B905
    found: dict[str, list[str]] = {}
    if not ids and cell.question:
        found[cell.question] = [first]
    elif ids:
        found[ids[0]] = [_without_ours(first, part)]
    for question, text in zip(ids, rest[2::3], strict=True):
        # A comment that was changed by mistake names a question that there is not.
        known = question if question in QUESTIONS else cell.question or question
        found.setdefault(known, []).append(text)
    return {
        question: "\n\n".join(texts).replace(_BLANK, "").strip()
        for question, texts in found.items()
    }


def _asked(cell: Cell) -> str:
    found = _ASKED.search(cell.text) if cell.kind == "markdown" else None
    return found[1] if found else ""


def _without_ours(text: str, part: str) -> str:
    """Return a text without the lines that everybody's notebook has."""
    ours = _lines(part)
    return "\n".join(line for line in text.split("\n") if line.strip() not in ours).strip()


def _cut(text: str, most: int) -> str:
    """Return a text of limited length; a pasted picture has millions of characters."""
    return text if len(text) <= most else f"{text[:most]} [... and {len(text) - most:,} more]"


@functools.cache
def _lines(part: str) -> frozenset[str]:
    """Return the lines of one of the practical's notebooks, without the model answers."""
    cells = jupytext.read(SOURCES[part], fmt="py:percent")["cells"]
    ours = [c for c in cells if c["cell_type"] == "code" or "### BEGIN SOLUTION" not in c["source"]]
    lines = {line.strip() for cell in ours for line in cell["source"].split("\n")}
    return frozenset(lines - {""})


def _digest(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()[:12]


@functools.cache
def _ids() -> dict[str, str]:
    """Return the question of each answer's cell, by the id that it has in a new notebook."""
    blank = f"{_PROMPT} <!-- answer {{}} -->\n\n{_BLANK}"
    return {_digest("markdown", blank.format(one, one)): one for one in QUESTIONS}
