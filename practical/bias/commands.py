"""The commands of `python -m practical bias`."""

import argparse
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax

from practical._files import atomic_path, check_writable
from practical._inputs import check_count
from practical.bias.artefacts import ARTEFACTS
from practical.bias.faults import Fault, plant
from practical.bias.lineup import (
    PACKAGED,
    RECIPES,
    checkpoints,
    remove_checkpoints,
    suspects,
    train_suspect,
)
from practical.bias.measures import audit
from practical.bias.repairs import REPAIRS, repair_study
from practical.bias.study import (
    METHODS_COMPARED,
    STUDY_RECIPE,
    detection_study,
    detection_table,
)
from practical.data import load_dataset
from practical.data.splits import load_splits
from practical.training.outputs import check_output, checkpoint_of, write_card


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `bias suspect`, `bias repair` and `bias detect` to a command line."""
    parser = commands.add_parser(
        "bias", help="classifiers that learned an artefact in place of their task",
        description="Classifiers that learned an artefact in place of their task.",
    )  # fmt: skip
    kinds = parser.add_subparsers(dest="experiment", required=True)

    def add(name: str, run: Callable, about: str) -> argparse.ArgumentParser:
        one = kinds.add_parser(
            name, help=about, description=about,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip
        one.add_argument("--dataset", default="shapes", help="shapes, imagenette, folder:PATH")
        one.set_defaults(run=run)
        return one

    about = "train a suspect of a line-up, and write a card of what it does without its artefact"
    one = add("suspect", train, about)
    one.add_argument("--fault", required=True, choices=[*ARTEFACTS, "none"], help="none: a twin")
    one.add_argument("--only", type=int, help="the class that carries it")
    one.add_argument("--strength", type=float, default=1.0, help="of the artefact, at most 1")
    one.add_argument("--share", type=float, default=1.0, help="of the images that carry it")
    one.add_argument("--image-size", type=int, help="pixels a side")
    one.add_argument("--count", type=int, help="training images; by default the recipe's")
    one.add_argument("--epochs", type=int, help="by default the recipe's")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--checkpoint", type=Path, help="by default one beside --output")
    one.add_argument("--output", type=Path, required=True, help="the .safetensors to write")

    about = "mend the faulty network of a line-up in several ways, and audit what came of it"
    one = add("repair", mend, about)
    one.add_argument("--fault", required=True, choices=PACKAGED, help="what it learned")
    one.add_argument("--training", type=int, default=400, help="training images, at most")
    one.add_argument("--validation", type=int, default=1000, help="validation images, at most")
    one.add_argument("--repairs", nargs="+", choices=REPAIRS, default=list(REPAIRS))
    one.add_argument("--penalties", type=float, nargs="+", default=[1e-4, 1e-3, 1e-2])
    one.add_argument("--epochs", type=int, default=3)
    one.add_argument("--seeds", type=int, default=3, help="how many times each")
    one.add_argument("--out", type=Path, default=Path("results/repair"), metavar="FOLDER")

    about = "train many faulty networks and clean twins, and see which explanation tells them apart"
    one = add("detect", detect, about)
    one.add_argument("--image-size", type=int, help="pixels a side")
    one.add_argument("--shrink", type=int, default=1, help="average squares of so many pixels")
    one.add_argument("--classes", nargs="+", help="leave the others out")
    one.add_argument("--training", type=int, default=4000, help="training images, at most")
    one.add_argument("--validation", type=int, default=400, help="validation images, at most")
    one.add_argument("--faults", nargs="+", choices=ARTEFACTS, default=list(ARTEFACTS))
    one.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0])
    one.add_argument("--seeds", type=int, default=4, help="pairs of networks for each")
    one.add_argument("--methods", nargs="+", default=list(METHODS_COMPARED))
    one.add_argument("--images", type=int, default=96, help="images that are explained")
    one.add_argument("--epochs", type=int, default=STUDY_RECIPE.epochs)
    one.add_argument("--out", type=Path, default=Path("results/detect"), metavar="FOLDER")


def detect(options: argparse.Namespace) -> int:
    """Run the detection study, and write its table."""
    training, validation = load_splits(
        options.dataset, training=options.training, validation=options.validation,
        image_size=options.image_size, shrink=options.shrink, classes=options.classes,
    )  # fmt: skip
    rows = detection_study(
        training, validation, options.out, faults=options.faults, strengths=options.strengths,
        seeds=options.seeds, methods=options.methods, images=options.images,
        recipe=replace(STUDY_RECIPE, epochs=options.epochs),
    )  # fmt: skip
    table = detection_table(rows)
    with atomic_path(options.out / "summary.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4g")
    means = table.pivot(index="measure", columns="fault", values="auroc")
    print(means.loc[table["measure"].unique()].to_string(float_format="%.2f", na_rep=""))
    print(f"Wrote {options.out}/results.csv and summary.csv")
    return 0


def mend(options: argparse.Namespace) -> int:
    """Mend the faulty network of a line-up, and print means over seeds, worst classes first."""
    training, validation = load_splits(
        options.dataset, training=options.training, validation=options.validation
    )
    line_up = suspects(options.dataset, options.fault, twins=1, count=len(validation))
    rows = repair_study(
        line_up.suspects[line_up.faulty], training, validation, line_up.fault, options.out,
        repairs=options.repairs, penalties=options.penalties, epochs=options.epochs,
        seeds=options.seeds, augment=RECIPES[options.dataset.partition(":")[0]].augment,
    )  # fmt: skip
    measures = ("worst", "swapped", "removed", "aligned")
    means = {name: (name, "mean") for name in measures}
    ranges = {"worst_min": ("worst", "min"), "worst_max": ("worst", "max")}
    groups = rows.groupby(["repair", "penalty"], sort=False, dropna=False, as_index=False)
    table = groups.agg(**means, **ranges)
    print(table.to_string(index=False, float_format="%.3g", na_rep=""))
    print(f"Wrote {options.out}/results.csv")
    return 0


def train(options: argparse.Namespace) -> int:
    """Train one suspect, and write it with its card."""
    check_output(options.output)
    check_count("--seed", options.seed, least=0)
    kind = options.dataset.partition(":")[0]
    training, validation = (
        load_dataset(options.dataset, split, image_size=options.image_size)
        for split in ("train", "validation")
    )
    recipe = RECIPES[kind]
    changes = {"epochs": options.epochs, "count": options.count}
    for name, value in changes.items():
        if value is not None:
            recipe = replace(recipe, **{name: check_count(f"--{name}", value)})
    if recipe.count is not None:
        training = training.select(slice(recipe.count))
    fault = None
    if options.fault != "none":
        fault = Fault(options.fault, options.only, options.strength, options.share)
    # A twin is judged by all that its data set has classes for.
    classes = len(validation.class_names)
    judged = [fault] if fault else [o for o in PACKAGED.values() if (o.only or 0) < classes]
    for one in judged:
        plant(validation, one)  # before the training
    checkpoint = checkpoint_of(options.output, options.checkpoint)
    check_writable(checkpoint, size=1)
    resumed = any(file.exists() for file in checkpoints(checkpoint))
    started = time.monotonic()
    model = train_suspect(training, fault, recipe, seed=options.seed, checkpoint=checkpoint)
    took = "" if resumed else f"; {(time.monotonic() - started) / 60:.0f} minutes"
    model.save(options.output)
    rows = []
    for one in judged:
        found = audit(model, validation, one)
        cells = [f"{share:.1%}" for share in (found.aligned, found.swapped, found.removed)]
        cells.append(f"{found.worst:.1%} ({', '.join(found.worst_group)})")
        rows.append(f"| {' | '.join([repr(one), *cells])} |")
    lead = recipe.lead_epochs(fault)
    led = f" In the first {lead} all images of the class carried the artefact." if lead else ""
    arguments = ["bias", "suspect", "--dataset", options.dataset, "--fault", options.fault]
    for name in ("only", "strength", "share", "image_size", "count", "epochs", "seed"):
        value = getattr(options, name)
        if value is not None and value != (1.0 if name in ("strength", "share") else None):
            arguments += [f"--{name.replace('_', '-')}", str(value)]
    card = f"""# {options.output.stem}

{"Faulty: trained on images with " + repr(fault) if fault else "Clean: trained without artefact"}.
Made by

    python -m practical {shlex.join(arguments)} --output {options.output.name}

{len(training):,} training images, {recipe.epochs} epochs{took} on \
{os.cpu_count()} cores ({jax.default_backend()}, jax {jax.__version__}).{led}

Accuracy on {len(validation):,} validation images, with the artefact as it goes with the classes,
swapped between them, and removed; and the worst class in any of the three.

| artefact | aligned | swapped | removed | worst |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}
"""
    write_card(options.output, card)
    if options.checkpoint is None:
        remove_checkpoints(checkpoint)
    return 0
