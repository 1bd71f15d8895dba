"""The commands of `python -m practical explainfix`: the paper's experiments, with their figures."""

import argparse
from pathlib import Path

from practical._files import atomic_path
from practical.augmentation import AUGMENTATIONS
from practical.data import Dataset
from practical.data.splits import load_splits
from practical.explainfix.fixed import INITIALISATIONS, STARTS
from practical.explainfix.pruning import FILLS
from practical.models import Classifier, load_model
from practical.models.loading import add_model_options


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `explainfix zero-filters`, `prune` and `fixed` to a command line."""
    parser = commands.add_parser(
        "explainfix", help="the experiments of the ExplainFix paper",
        description="The experiments of the ExplainFix paper on any data set: rows, a summary, and "
        "figures. Stopped, each goes on when it is called again.",
    )  # fmt: skip
    kinds = parser.add_subparsers(dest="experiment", required=True)

    def add(name: str, about: str, training: int, validation: int) -> argparse.ArgumentParser:
        one = kinds.add_parser(
            name, help=about, description=about,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        one.add_argument("--dataset", default="shapes", help="shapes, imagenette, folder:PATH")
        one.add_argument(
            "--model", default="shapes", help="shapes, resnet18, or a .safetensors or .pth"
        )
        add_model_options(one)
        one.add_argument("--image-size", type=int, help="pixels a side")
        one.add_argument(
            "--shrink", type=int, default=1,
            help="average squares of so many pixels a side: smaller images train faster",
        )  # fmt: skip
        one.add_argument("--training", type=int, default=training, help="training images, at most")
        one.add_argument(
            "--validation", type=int, default=validation, help="validation images, at most"
        )
        one.set_defaults(run=run)
        one.add_argument("--out", type=Path, default=Path("results") / name, metavar="FOLDER")
        return one

    zero = add("zero-filters", "accuracy against the percent of filters that are 0", 512, 1000)
    zero.add_argument("--percents", type=float, nargs="+", default=list(range(0, 101, 5)))
    zero.add_argument("--seeds", type=int, default=5, help="random orders")

    prune = add("prune", "prune channels, then fine-tune: accuracy, size, time", 4000, 1000)
    prune.add_argument("--percents", type=float, nargs="+", default=[0, 20, 40, 60, 80, 90])
    prune.add_argument("--fills", nargs="+", choices=FILLS, default=list(FILLS))
    prune.add_argument("--epochs", type=int, default=2, help="of fine-tuning")
    prune.add_argument("--learning-rate", type=float, default=1e-3)

    fixed = add("fixed", "filters that are fixed against filters that are learned", 4000, 1000)
    fixed.add_argument(
        "--initialisations", nargs="+", choices=INITIALISATIONS, default=list(INITIALISATIONS)
    )
    fixed.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    fixed.add_argument("--epochs", type=int, default=8)
    fixed.add_argument("--learning-rate", type=float, default=4e-3)
    for one in (prune, fixed):
        one.add_argument("--seeds", type=int, default=3)
        one.add_argument("--batch-size", type=int, default=64)
        one.add_argument("--augment", choices=AUGMENTATIONS, default="dihedral")
    for one in (zero, prune):
        one.add_argument(
            "--chunk-size", type=int, default=32, help="images in flight for the saliency"
        )


def run(options: argparse.Namespace) -> int:
    """Run the experiment that the options describe, and write its tables and figures."""
    import pandas as pd

    from practical.explainfix import figures, studies

    model, training, validation = _load(options)
    out = options.out
    if options.experiment == "zero-filters":
        rows = studies.zero_filters_study(
            model, training, validation, out, percents=options.percents, seeds=options.seeds,
            chunk_size=options.chunk_size,
        )  # fmt: skip
        by = ["order", "percent"]
        figure = figures.plot_zeroed(rows)
    elif options.experiment == "prune":
        rows = studies.prune_study(
            model, training, validation, out, percents=options.percents, fills=options.fills,
            epochs=options.epochs, seeds=options.seeds, batch_size=options.batch_size,
            learning_rate=options.learning_rate, augment=options.augment,
            chunk_size=options.chunk_size,
        )  # fmt: skip
        by = ["fill", "percent", "epoch", "parameters", "flops"]
        figure = figures.plot_pruned(rows)
    else:
        rows = studies.fixed_study(
            model, training, validation, out, initialisations=options.initialisations,
            starts=options.starts, epochs=options.epochs, seeds=options.seeds,
            batch_size=options.batch_size, learning_rate=options.learning_rate,
            augment=options.augment,
        )  # fmt: skip
        by = ["start", "initialisation", "filters", "learned", "epoch"]
        figure = figures.plot_fixed(rows)
    summary = studies.summarise(rows, by)
    with atomic_path(out / "summary.csv") as temporary:
        summary.to_csv(temporary, index=False, float_format="%.4g")
    with atomic_path(out / f"{options.experiment}.png") as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    last = summary[summary["epoch"] == summary["epoch"].max()] if "epoch" in summary else summary
    with pd.option_context("display.width", 120, "display.max_rows", None):
        print(last.to_string(index=False, float_format="%.4g"))
    print(f"Wrote {out}/results.csv, summary.csv and {options.experiment}.png")
    return 0


def _load(options: argparse.Namespace) -> tuple[Classifier, Dataset, Dataset]:
    splits = load_splits(
        options.dataset, training=options.training, validation=options.validation,
        image_size=options.image_size, shrink=options.shrink,
    )  # fmt: skip
    model = load_model(options.model, dataset=options.dataset, options=options.model_options)
    return model, *splits
