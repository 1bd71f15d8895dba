"""Count what a notebook compiles, and how much of it a second run finds compiled.

    python benchmarks/compilations.py [ExplanationMethods ModelBias]

Executes the notebook's source twice, each time in a new process, with an empty `PRACTICAL_HOME`
before the first, and prints seconds, programs and programs found. Exits with status 1 if the first
process compiled any program of one name and one set of shapes more than `MOST` times: then a loop
compiles anew what it has. Needs `practical` alone; takes ten minutes on 2 cores.
"""

import argparse
import collections
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = 3  # JAX tells programs apart by more than the names and shapes that it prints


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", default=["ExplanationMethods", "ModelBias"])
    parser.add_argument("--execute", metavar="SOURCE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.execute:
        print(json.dumps(execute(Path(options.execute))))
        return 0
    worst = 0
    print("| notebook | run | seconds | of them compiling | programs | found compiled | repeated |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.notebooks:
        with tempfile.TemporaryDirectory() as home:
            for run in ("first", "second"):
                found = in_a_process(ROOT / "notebooks" / f"{name}.py", home)
                cells = [found[key] for key in ("seconds", "compiling", "programs", "hits")]
                repeated = {key: n for key, n in found["repeated"].items() if n > 1}
                print(f"| {name} | {run} |", " | ".join(f"{one:.0f}" for one in cells), end=" | ")
                print(f"{len(repeated)}, at most {max(repeated.values(), default=1)} times |")
                worst = max(worst, *repeated.values(), 1)
                for key, times in sorted(repeated.items(), key=lambda pair: -pair[1]):
                    if times > MOST:
                        print(f"{times} times: {key}", file=sys.stderr)
    return int(worst > MOST)


def in_a_process(source: Path, home: str) -> dict:
    """Execute a notebook's source in a process of its own, and return what it counted."""
    environment = {
        **os.environ, "PRACTICAL_HOME": home, "PRACTICAL_DATASET": "shapes", "MPLBACKEND": "Agg",
        "PRACTICAL_STATIC": "1",
    }  # fmt: skip
    command = [sys.executable, __file__, "--execute", str(source)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def execute(source: Path) -> dict:
    """Execute a notebook's cells here, and count what JAX compiles."""
    import jax
    import jupytext
    from IPython.core.interactiveshell import InteractiveShell
    from matplotlib import pyplot as plt

    compiled: collections.Counter[str] = collections.Counter()
    total = collections.Counter()

    class Listen(logging.Handler):
        def emit(self, record):
            text = record.getMessage()
            if text.startswith("Compiling"):
                compiled[text[:300]] += 1

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
        "programs": sum(compiled.values()),
        "hits": total["/jax/compilation_cache/cache_hits"],
        "repeated": compiled,
    }


if __name__ == "__main__":
    sys.exit(main())
