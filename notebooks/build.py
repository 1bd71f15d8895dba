"""Generate the notebooks from their sources beside this file, and execute them.

    python notebooks/build.py sync [--check]
    python notebooks/build.py solutions [--out build]
    python notebooks/build.py run [--dataset shapes] [--out build]

A source, notebooks/NAME.py, becomes NAME.ipynb in the folder above: without solutions, no outputs,
and the same bytes on every machine. `solutions` writes them with the solutions. `run` executes a
copy of each and leaves it, with an HTML page that needs no network, in `--out`; the notebook that a
student works in is never written to.
"""

import argparse
import asyncio
import contextlib
import copy
import hashlib
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description="Generate and execute the notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    sync_parser = commands.add_parser("sync", help="write NAME.ipynb from notebooks/NAME.py")
    sync_parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    solutions_parser = commands.add_parser("solutions", help="write the notebooks with solutions")
    run_parser = commands.add_parser("run", help="execute the notebooks, and make HTML pages")
    run_parser.add_argument("--dataset", help="sets PRACTICAL_DATASET; 'shapes' without either")
    for one in (solutions_parser, run_parser):
        one.add_argument("--out", type=Path, default=Path("build"), metavar="FOLDER")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "sync":
            return sync(check=chosen.check)
        if chosen.command == "solutions":
            return solutions(ROOT / chosen.out)
        return run(chosen.dataset, ROOT / chosen.out)
    except KeyboardInterrupt:
        print("\nInterrupted: what was finished before is kept.", file=sys.stderr)
        return 130


def sources() -> list[Path]:
    """Return every notebook's source, in the order of their names."""
    return sorted(path for path in (ROOT / "notebooks").glob("*.py") if path.name != "build.py")


def target(source: Path) -> Path:
    """Return the notebook that `source` becomes."""
    return ROOT / f"{source.stem}.ipynb"


# --- generating ----------------------------------------------------------------------------------


def generate(source: Path, *, solved: bool = False) -> str:
    """Return the notebook of a py:percent `source` as JSON, a function of its cells alone.

    The solutions are cleared unless `solved`; what is left of them raises NotImplementedError.
    """
    from nbconvert.exporters.exporter import ResourcesDict
    from nbgrader.preprocessors import ClearSolutions  # which students do not have

    read: Any = jupytext.read(source, fmt="py:percent")
    for cell in read.cells:
        _mark(cell)
    if not solved:
        # enforce_metadata is for nbgrader's own pipeline, which fills in what ours does not have.
        read, _ = ClearSolutions(enforce_metadata=False).preprocess(read, ResourcesDict())
    seen: dict[str, int] = {}
    for cell in read.cells:
        # A cell keeps its id while it moves, so that a diff shows what changed and nothing else.
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook = nbformat.v4.new_notebook(
        cells=read.cells, metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _mark(cell: Any) -> None:
    """Give an exercise's cells nbgrader's metadata, by which its formgrader knows them."""
    from practical.grading.exercises import EXERCISES, QUESTIONS

    kind, points = "", 0
    if cell.cell_type == "code" and "### BEGIN SOLUTION" in cell.source:
        kind, name = "solution", re.findall(r"^def (\w+)", cell.source, re.MULTILINE)[-1]
    elif found := re.search(r"\bcheck\(\"([\d.]+)\"", cell.source):
        kind, name, points = "check", found[1], EXERCISES[found[1]].points
    elif found := re.search(r"<!-- answer (\d\.[A-Z]) -->", cell.source):
        kind, name, points = "answer", found[1], QUESTIONS[found[1]].points
    if kind:
        cell.metadata["nbgrader"] = {
            "schema_version": 3, "grade_id": f"{kind}-{name}".replace(".", "-"), "task": False,
            "solution": kind != "check", "grade": kind != "solution", "locked": kind == "check",
        }  # fmt: skip
        if points:
            cell.metadata["nbgrader"]["points"] = points


def solutions(out: Path) -> int:
    """Write every notebook with its solutions, for instructors."""
    out.mkdir(parents=True, exist_ok=True)
    for source in sources():
        notebook = out / f"{source.stem}.solutions.ipynb"
        with replacing(notebook) as temporary:
            temporary.write_text(generate(source, solved=True), encoding="utf-8")
        print(f"Wrote {_shown(notebook)}")
    return 0


def sync(*, check: bool) -> int:
    """Write every notebook, or with `check` name those that differ from their sources."""
    stale = []
    for source in sources():
        notebook, text = target(source), generate(source)
        if notebook.is_file() and notebook.read_text(encoding="utf-8") == text:
            continue
        if check:
            stale.append(f"{notebook.name} is not what {source.relative_to(ROOT)} generates.")
        else:
            with replacing(notebook) as temporary:
                temporary.write_text(text, encoding="utf-8")
            print(f"Wrote {notebook.name}")
    if stale:
        print(*stale, sep="\n", file=sys.stderr)
        print("Edit the source, then regenerate: make notebooks", file=sys.stderr)
    return 1 if stale else 0


# --- executing -----------------------------------------------------------------------------------


class _ThisInterpreter(KernelSpecManager):
    """Knows one kernel: ours, whatever is installed under the name "python3" on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())  # its command is sys.executable


class _Kernel(AsyncKernelManager):
    """Starts `_ThisInterpreter` where nbclient would look for a kernel by name."""

    def __init__(self, **options: Any) -> None:
        options["kernel_spec_manager"] = _ThisInterpreter()
        if zmq.has("curve"):  # without it each kernel warns that others could listen in
            options["transport_encryption"] = "auto"
        super().__init__(**options)


def run(dataset: str | None, out: Path) -> int:
    """Execute every notebook and write it and its page to `out`; 1 if a cell failed."""
    notebooks = [target(source) for source in sources()] or sorted(ROOT.glob("*.ipynb"))
    for notebook in notebooks:
        if not notebook.is_file():
            print(f"{notebook.name} is missing. Generate it: make notebooks", file=sys.stderr)
            return 1
    dataset = dataset or os.environ.get("PRACTICAL_DATASET") or "shapes"
    # The other PRACTICAL_ variables go to the kernels as they are.
    environment = {**os.environ, "PRACTICAL_DATASET": dataset}
    environment.pop("MPLBACKEND", None)  # "Agg" from a shell would keep figures out of the notebook
    environment.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning about the debugger
    # A panel of widgets would be dead in a page; its picture is not.
    environment.setdefault("PRACTICAL_STATIC", "1")
    out.mkdir(parents=True, exist_ok=True)
    print(f"Data set: {dataset}", flush=True)
    failed = [notebook.name for notebook in notebooks if not _execute(notebook, out, environment)]
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _execute(path: Path, out: Path, environment: dict[str, str]) -> bool:
    """Execute one notebook; whether it succeeded, what it has by then is in `out`."""
    notebook: Any = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # a student's own outputs are not this run's
            cell.outputs, cell.execution_count = [], None
    executed, page = out / path.name, out / f"{path.stem}.html"
    for old in (executed, page):  # nobody should take an older run's for this one's
        old.unlink(missing_ok=True)
    progress = _Progress(notebook, path.stem)
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_manager_class=_Kernel,
        resources={"metadata": {"path": str(ROOT)}},
        shutdown_kernel="immediate",
        store_widget_state=False,  # a page shows widgets as text: their code is on the network
        on_cell_start=progress.start,
    )
    started, error = time.monotonic(), None
    with tempfile.TemporaryDirectory(prefix="ipython-") as profile:
        # No start-up files, history or configuration of the user's: a run is the same everywhere.
        environment = {**environment, "IPYTHONDIR": profile}
        try:
            if not asyncio.run(_drive(client, environment)):
                raise KeyboardInterrupt
        except CellExecutionError as caught:
            error = strip_ansi(str(caught)).rstrip()
        except DeadKernelError:
            error = (
                "Python ended while it executed this cell, maybe for want of memory:\n"
                f"------------------\n{progress.source}\n------------------"
            )
        finally:
            progress.end()
    with replacing(executed) as temporary:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    took = f"{minutes} min {seconds} s"
    if error:
        print(f"{error}\n\n{path.name} failed after {took}.", file=sys.stderr)
        print(f"The notebook up to there: {_shown(executed)}", file=sys.stderr)
        return False
    with replacing(page) as temporary:
        temporary.write_text(to_html(notebook, path.stem), encoding="utf-8")
    print(f"{path.name} took {took}.\n  {_shown(executed)}\n  {_shown(page)}", flush=True)
    return True


async def _drive(client: NotebookClient, environment: dict[str, str]) -> bool:
    """Execute all cells; False if Ctrl-C or SIGTERM came between, and then the kernel is gone.

    nbclient's own handlers for the two end the kernel and then fail in several ways. It sets them
    before its notebook-start hook.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    def handle_signals(**_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)

    client.on_notebook_start = handle_signals
    try:
        await client.async_execute(env=environment)
    except (asyncio.CancelledError, DeadKernelError):
        if not interrupted:
            raise
    return not interrupted


class _Progress:
    """Says which section is being executed: one line in a terminal, one a section in a log."""

    def __init__(self, notebook: Any, name: str) -> None:
        self._cells, self._name = notebook.cells, name
        self._live = sys.stdout.isatty()
        self._told, self.source = "", ""

    def start(self, *, cell: Any, cell_index: int) -> None:
        self.source = cell.source
        prose = [one.source for one in self._cells[:cell_index] if one.cell_type == "markdown"]
        headings = re.findall(r"^#+ +(.+)$", "\n".join(prose), re.MULTILINE)
        heading = headings[-1] if headings else "start"
        line = f"{self._name}: cell {cell_index + 1} of {len(self._cells)}, {heading}"
        if self._live:
            print(f"\r\x1b[K{line[:100]}", end="", flush=True)
        elif heading != self._told:
            print(line, flush=True)
        self._told = heading

    def end(self) -> None:
        if self._live:
            print("\r\x1b[K", end="", flush=True)


# --- the page ------------------------------------------------------------------------------------


def to_html(notebook: Any, title: str) -> str:
    """Return `notebook` as one HTML page that shows pictures and formulas without a network."""
    shown = copy.deepcopy(notebook)
    shown.metadata.title = title
    for cell in shown.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    text, _ = _Page(embed_images=True).from_notebook_node(shown)
    return text


class _Page(HTMLExporter):
    """nbconvert's page without the scripts that it loads from elsewhere."""

    def __init__(self, **options: Any) -> None:
        blocks = "requirejs", "mathjax", "mermaidjs"
        super().__init__(
            raw_template="{% extends 'lab/index.html.j2' %}"
            + "".join(f"{{% block html_head_js_{name} %}}{{% endblock %}}" for name in blocks),
            **options,
        )

    def default_filters(self) -> Iterator[tuple[str, Any]]:
        yield from super().default_filters()
        yield "markdown2html", _markdown_to_html


def _markdown_to_html(source: str) -> str:
    return MarkdownWithMath(renderer=_Formulas(escape=False)).render(source)


class _Formulas(IPythonRenderer):
    """TeX as MathML, which browsers draw themselves."""

    def block_math(self, body: str) -> str:
        return f"<p>{_mathml(body, display='block')}</p>"

    def multiline_math(self, text: str) -> str:
        return self.block_math(text.strip().removeprefix("$$").removesuffix("$$"))

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def inline_math(self, body: str) -> str:
        return _mathml(body, display="inline")


def _mathml(tex: str, *, display: str) -> str:
    from latex2mathml.converter import convert

    # What the converter does not know it passes on as letters: the TeX is easier to read then.
    with contextlib.suppress(Exception):
        mathml = convert(tex.strip(), display=display)
        if not re.search(r"<m[io]>(\\|&<)", mathml):
            return mathml
    escaped = tex.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<code>{escaped}</code>"


# --- files ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` on success: Ctrl-C leaves no half of a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
