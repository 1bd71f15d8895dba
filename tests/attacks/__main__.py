"""Grade every mutant in the sandbox, as a class: `python -m tests.attacks`.

The tests judge them in their own process, which is quicker. Here each of them loses its points and
nothing else, and is called by its name, by way of a worker.
"""

import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import nbformat

from practical.grading import classroom
from practical.grading.exercises import EXERCISES
from tests.attacks.mutants import MUTANTS, mutate
from tests.test_grading_exercises import solution

_IMPORTS = "import jax, jax.numpy as jnp, numpy as np\nfrom practical import predict\n"


def main() -> int:
    """Write notebooks with one mutant of each exercise, grade them, and say who was not caught."""
    expected: dict[tuple[str, str], str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in "12":
            for number in count():
                cells = [_IMPORTS]
                for exercise, mutants in MUTANTS.items():
                    if exercise[0] != part:
                        continue
                    names = list(mutants)
                    code = solution(exercise)
                    if number < len(names):
                        expected[f"{part}-{number}", exercise] = names[number]
                        code = mutate(code, mutants[names[number]])
                    cells.append(code)
                if not any(student == f"{part}-{number}" for student, _ in expected):
                    break
                notebook = nbformat.v4.new_notebook(
                    cells=list(map(nbformat.v4.new_code_cell, cells))
                )
                (Path(folder) / f"{part}-{number}.ipynb").write_text(nbformat.writes(notebook))
        everybody = classroom.students(Path(folder))
        start = time.monotonic()
        graded = classroom.grade_all(everybody, Path(folder) / "out", secret="of the mutants")
        took = time.monotonic() - start
    wrong = 0
    for one in graded:
        for exercise, verdict in one.reports[0].verdicts.items():
            mistake = expected.get((one.student.id, exercise), "")
            if (verdict.status, verdict.mistake) != ("wrong" if mistake else "passed", mistake):
                wrong += 1
                print(
                    f"{exercise}, {mistake or 'the solution'}: {verdict.status}. {verdict.message}"
                )
    points = sum(one.points for one in EXERCISES.values())
    print(
        f"{len(expected)} mutants of {len(EXERCISES)} exercises ({points} points) in {len(graded)} "
        f"notebooks: {wrong} not as they should be; {took:.0f} s"
    )
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
