"""What an instructor calls: `python -m practical.grading grade FOLDER`, and others."""

import argparse
import sys
import tempfile
from pathlib import Path

from joblib import cpu_count  # of the cores that this process may use

from practical._command import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m practical.grading", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    about = "grade a folder of submissions; stopped, it goes on when it is called again"
    one = commands.add_parser(
        "grade", help=about, description=about,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    one.add_argument("submissions", type=Path, help="Canvas's export, or a folder per student")
    one.add_argument("--out", type=Path, default=Path("build/grades"), metavar="FOLDER")
    one.add_argument("--jobs", type=int, default=cpu_count(), help="workers at once")
    _add_how(one)
    one.add_argument(
        "--gradescope", action="store_true", help="also write a results.json per student"
    )
    one.set_defaults(run=grade)

    about = "in Gradescope's container: grade what it was given, and write its results.json"
    one = commands.add_parser(
        "gradescope", help=about, description=about,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    one.add_argument("--autograder", type=Path, default=Path("/autograder"), metavar="FOLDER")
    _add_how(one)
    one.set_defaults(run=gradescope)

    about = "write the folder that students get, and a zip of it"
    one = commands.add_parser("release", help=about, description=about)
    one.add_argument("--out", type=Path, default=Path("build/practical"), metavar="FOLDER")
    one.set_defaults(run=release)

    options = parser.parse_args(arguments)
    return run_command(
        f"{parser.prog} {options.command}", lambda: options.run(options),
        kept="graded submissions are kept, and the same command goes on from there.",
    )  # fmt: skip


def _add_how(one: argparse.ArgumentParser) -> None:
    one.add_argument("--sandbox", default="bwrap", choices=("bwrap", "none"))
    one.add_argument("--secret-file", type=Path, default=Path("grading-secret.txt"))


def grade(options: argparse.Namespace) -> int:
    """Grade a folder of submissions, and write the reports."""
    from practical._inputs import check_count
    from practical.grading import classroom, handed_in, reports, sandbox
    from practical.grading.verdicts import STATUSES

    check_count("--jobs", options.jobs)
    everybody = handed_in.students(options.submissions, unpacked=options.out / "unpacked")
    if files := handed_in.left_out(options.submissions):
        print(f"Left out, because they are nobody's: {', '.join(files)}", file=sys.stderr)
    secret = classroom.load_secret(options.secret_file)
    options.out.mkdir(parents=True, exist_ok=True)
    # Before the work, not after it.
    reports.read_sheet(options.out / reports.SHEET, {one.id for one in everybody})
    print(f"sandbox: {sandbox.describe(options.sandbox)}")
    graded = classroom.grade_all(
        everybody, options.out, secret=secret, level=options.sandbox, jobs=options.jobs
    )
    counted = reports.write(graded, options.out)
    if options.gradescope:
        for one in graded:
            name = reports.file_name(one.student.id)
            reports.write_gradescope(one, options.out / "gradescope" / name / "results.json")
    print(", ".join(f"{counted[one]} {one}" for one in STATUSES if one in counted))
    print(f"Wrote grades.csv, statuses.csv, {reports.SHEET} and feedback/ in {options.out}")
    return 1 if counted.get("infrastructure") else 0


def gradescope(options: argparse.Namespace) -> int:
    """Grade one submission, and write what Gradescope reads."""
    from practical.grading import classroom, handed_in, reports, sandbox

    if not options.secret_file.exists():
        raise ValueError(
            f"--secret-file must be in the container, got {options.secret_file}, which is not: "
            "one that is drawn there is gone with it, and the next submission has other cases"
        )
    secret = classroom.load_secret(options.secret_file)
    print(f"sandbox: {sandbox.describe(options.sandbox)}")
    with tempfile.TemporaryDirectory() as out:
        student = handed_in.gradescope_student(options.autograder, unpacked=Path(out) / "unpacked")
        (graded,) = classroom.grade_all(
            [student], Path(out), secret=secret, level=options.sandbox, progress=False
        )
    found = [verdict for report in graded.reports for verdict in report.verdicts.values()]
    if found and all(verdict.status == "infrastructure" for verdict in found):
        # Without results Gradescope says that the autograder failed, and gives no zero.
        raise RuntimeError(
            f"nothing could be graded, so no results are written: {found[0].message}"
        )
    path = options.autograder / "results" / "results.json"
    reports.write_gradescope(graded, path)
    print(f"Wrote {path}")
    return 0


def release(options: argparse.Namespace) -> int:
    """Write the students' folder."""
    from practical.grading.release import release, uncommitted

    changed, unknown = uncommitted()
    if changed:
        print(f"Released with changes that are not committed: {', '.join(changed)}")
    if unknown:
        print(f"Left out, because git does not know them (git add): {', '.join(unknown)}")
    print(f"Wrote {release(options.out)} and the folder beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
