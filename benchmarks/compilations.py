"""Count what a notebook compiles, and how much of it a second run finds compiled.

    python benchmarks/compilations.py [ExplanationMethods ModelBias]

Executes the notebook's source twice, each time in a new process, with an empty `PRACTICAL_HOME`
before the first, and prints seconds, programs and programs found. What the first process finds, it
has compiled itself: exits with status 1 if it asked for a program more than `MOST` times again, as
a loop does that compiles anew what it has, or compiled a function for more than `KINDS` kinds of
arrays, as a loop does whose arrays have ever other shapes. Needs `practical` alone; takes ten
minutes on 2 cores.
"""

import argparse
import collections
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 3  # some cells define a function anew, once for each of few models
KINDS = 80  # of one function's arrays; the first notebook has 63, of a broadcast of `jnp`


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", default=["ExplanationMethods", "ModelBias"])
    parser.add_argument("--execute", metavar="SOURCE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.execute:
        print(json.dumps(execute(Path(options.execute))))
        return 0
    bad = False
    print(
        "| notebook | run | seconds | of them compiling | programs | found | most often again "
        "| most kinds |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.notebooks:
        with tempfile.TemporaryDirectory() as home:
            for run in ("first", "second"):
                found = in_a_process(ROOT / "notebooks" / f"{name}.py", Path(home))
                again = found["again"] if run == "first" else {}
                cells = [round(found[key]) for key in ("seconds", "compiling", "programs", "hits")]
                cells += [max(again.values(), default=""), max(found["kinds"].values())]
                print(f"| {name} | {run} |", " | ".join(map(str, cells)), "|", flush=True)
                wrong = [f"{n} times again: {program}" for program, n in again.items() if n > MOST]
                wrong += [f"{n} kinds: {kind}" for kind, n in found["kinds"].items() if n > KINDS]
                for line in wrong:
                    print(line, file=sys.stderr)
                bad |= bool(wrong)
    return int(bad)


def in_a_process(source: Path, home: Path, **options: str) -> dict:
    """Execute a notebook's source in a process of its own, and return what it counted.

    `options` are of its environment.
    """
    environment = {
        **os.environ, "PRACTICAL_HOME": str(home), "PRACTICAL_DATASET": "shapes",
        "MPLBACKEND": "Agg", "PRACTICAL_STATIC": "1", **options,
    }  # fmt: skip
    command = [sys.executable, __file__, "--execute", str(source)]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:  # IPython prints what a cell raised
        raise RuntimeError(f"{source.name} failed:\n{done.stdout[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def execute(source: Path) -> dict:
    """Execute a notebook's cells here, and count what JAX compiles."""
    import jax
    import jupytext
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib import pyplot as plt

    found: collections.Counter[str] = collections.Counter()
    kinds: collections.Counter[str] = collections.Counter()
    total: collections.Counter[str] = collections.Counter()

    class Listen(logging.Handler):
        def emit(self, record):
            text = record.getMessage()
            if compiling := re.match(r"Compiling (\S+) with global shapes", text):
                kinds[compiling[1]] += 1
            # JAX's cache of programs knows them by all that they are.
            if hit := re.match(r"Persistent compilation cache hit for '.*' with key '(.*)'", text):
                found[hit[1]] += 1

    logging.getLogger("jax").addHandler(Listen())
    logging.getLogger("jax").propagate = False
    jax.config.update("jax_log_compiles", True)
    jax.monitoring.register_event_listener(lambda event, **_: total.update([event]))
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: total.update({event: seconds})
    )
    shell = InteractiveShell.instance()
    start = time.monotonic()
    for cell in jupytext.read(source, fmt="py:percent")["cells"]:
        if cell["cell_type"] == "code":
            answer = shell.run_cell(cell["source"], silent=True)
            answer.raise_error()
            plt.close("all")
    return {
        "seconds": time.monotonic() - start,
        "compiling": total["/jax/core/compile/backend_compile_duration"],
        "programs": kinds.total(),
        "kinds": kinds,
        "hits": sum(found.values()),
        "again": found,
    }


if __name__ == "__main__":
    sys.exit(main())
