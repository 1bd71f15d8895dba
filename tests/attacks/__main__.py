"""Grade every mutant in the sandbox, as a class: `python -m tests.attacks`.

The tests judge them in their own process, which is quicker. Here each of them loses its points and
nothing else, and is called by its name, by way of a worker.
"""

import sys
import tempfile
from itertools import zip_longest
from pathlib import Path

from practical.grading import classroom
from practical.grading.handed_in import students
from tests.attacks.changes import mutate
from tests.attacks.mutants import MUTANTS
from tests.attacks.zoo import IMPORTS
from tests.test_grading_attacks import notebook
from tests.test_grading_exercises import solution


def main() -> int:
    """Write notebooks with one mutant of each exercise, grade them, and say who was not caught."""
    expected: dict[tuple[str, str], str] = {}  # student, exercise -> the mistake
    with tempfile.TemporaryDirectory() as folder:
        for part in "12":
            exercises = [exercise for exercise in MUTANTS if exercise[0] == part]
            # Of exercises with fewer mistakes, the later notebooks have the solution.
            for number, mistakes in enumerate(zip_longest(*(MUTANTS[one] for one in exercises))):
                student, cells = f"{part}-{number}", [IMPORTS + "from practical import predict"]
                for exercise, mistake in zip(exercises, mistakes, strict=True):
                    changes = MUTANTS[exercise][mistake] if mistake else []
                    cells.append(mutate(solution(exercise), changes))
                    expected[student, exercise] = mistake or ""
                (Path(folder) / f"{student}.ipynb").write_text(notebook(cells))
        graded = classroom.grade_all(
            students(Path(folder)), Path(folder) / "out", secret="of the mutants"
        )
    wrong = 0
    for one in graded:
        for exercise, verdict in one.reports[0].verdicts.items():
            mistake = expected[one.student.id, exercise]
            if (verdict.status, verdict.mistake) != ("wrong" if mistake else "passed", mistake):
                wrong += 1
                print(
                    f"{exercise}, {mistake or 'the solution'}: {verdict.status}. {verdict.message}"
                )
    mutants = sum(map(bool, expected.values()))
    print(f"{mutants} mutants in {len(graded)} notebooks: {wrong} not as they should be")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
