"""The package's commands: `python -m practical evaluate --help`."""

import argparse
import sys
from pathlib import Path

from practical._command import run_command
from practical._compiled import keep_compiled
from practical.bias.commands import add_commands as add_bias_commands
from practical.explainfix.commands import add_commands as add_explainfix_commands
from practical.models.loading import add_model_options


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m practical", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    evaluating = commands.add_parser(
        "evaluate",
        help="measure explanations on a data set",
        description="Measure explanations by metrics on a data set: a row per image, method and "
        "metric, a summary with confidence intervals, and a page with pictures. Stopped, it goes "
        "on when it is called again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluating.add_argument("--dataset", default="shapes", help="shapes, imagenette, folder:PATH")
    evaluating.add_argument(
        "--model", default="shapes", help="shapes, resnet18, ..., or a .safetensors or .pth"
    )
    add_model_options(evaluating)
    evaluating.add_argument("--methods", nargs="+", default=["all"], metavar="METHOD")
    evaluating.add_argument("--metrics", nargs="+", default=["all"], metavar="METRIC")
    evaluating.add_argument("--images", type=int, default=256, help="validation images, at most")
    evaluating.add_argument("--image-size", type=int, help="pixels a side")
    evaluating.add_argument(
        "--repeated", type=int, default=32,
        help="of them, images for the metrics that explain each image several times",
    )  # fmt: skip
    evaluating.add_argument("--seed", type=int, default=0)
    evaluating.add_argument(
        "--chunk-size", type=_chunk_size, default=32, metavar="N|auto",
        help="images in flight a device",
    )  # fmt: skip
    several = evaluating.add_argument_group("several processes", "see docs/scale.md")
    several.add_argument(
        "--coordinator", metavar="HOST:PORT", help="where process 0 listens; auto under Slurm"
    )
    several.add_argument("--processes", type=int, metavar="N", help="how many there are")
    several.add_argument("--process", type=int, metavar="I", help="which this is, from 0")
    several.add_argument(
        "--lost-after", type=int, default=100, metavar="SECONDS",
        help="without a sign of life, after which the others do what a process has left",
    )  # fmt: skip
    evaluating.set_defaults(run=evaluate)
    evaluating.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER")
    table = commands.add_parser("methods", help="print the table of explanations, in Markdown")
    table.set_defaults(run=print_methods)
    add_explainfix_commands(commands)
    add_bias_commands(commands)
    options = parser.parse_args(arguments)
    return run_command(
        f"{parser.prog} {options.command}", lambda: options.run(options),
        kept="finished parts are kept, and the same command goes on from there.",
    )  # fmt: skip


def print_methods(options: argparse.Namespace) -> int:
    """Print the table of explanations."""
    from practical.attribution import methods_table

    print(methods_table(), end="")
    return 0


def _chunk_size(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be a number of images, or auto, got {text!r}"
        ) from error


def evaluate(options: argparse.Namespace) -> int:
    """Run the benchmark that the options describe, alone or as one of several processes."""
    from practical.evaluation import join

    if options.coordinator is None:
        if options.processes is not None or options.process is not None:
            raise ValueError("--processes and --process need --coordinator HOST:PORT, of process 0")
        return _evaluate(options)
    with join(
        options.coordinator, processes=options.processes, process=options.process,
        timeout=options.lost_after,
    ):  # fmt: skip
        return _evaluate(options)


def _evaluate(options: argparse.Namespace) -> int:
    """Run the benchmark that the options describe, and write its report."""
    import jax

    from practical import load_model
    from practical.data.splits import load_at_most
    from practical.evaluation import evaluate, write_report

    sizes = {} if options.image_size is None else {"image_size": options.image_size}
    dataset = load_at_most(
        options.dataset, "validation", options.images, seed=options.seed, **sizes
    )
    model = load_model(options.model, dataset=options.dataset, options=options.model_options)
    dataset = dataset.numbered_as(model.class_names)
    everything = options.metrics == ["all"]
    wanted = everything or "label_randomization" in options.metrics
    shuffled = load_model("shapes-shuffled") if wanted and options.model == "shapes" else None
    rows = evaluate(
        dataset, model, options.out,
        methods=None if options.methods == ["all"] else options.methods,
        measures=None if everything else options.metrics,
        shuffled=shuffled, repeated=options.repeated, seed=options.seed,
        chunk_size=options.chunk_size,
    )  # fmt: skip
    if jax.process_index() > 0:
        return 0  # process 0 writes the report
    page = write_report(rows, dataset, model, options.out, seed=options.seed)
    print(f"Wrote {page}, and the tables beside it")
    return 0


if __name__ == "__main__":
    keep_compiled()
    sys.exit(main())
