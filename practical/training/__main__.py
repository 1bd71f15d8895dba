"""`python -m practical.training`: train a network by hand."""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

import jax

from practical._command import run_command
from practical._compiled import keep_compiled
from practical.augmentation import AUGMENTATIONS
from practical.data import Dataset, load_dataset
from practical.data.files import check_readable
from practical.models import Classifier, load_model, new_resnet
from practical.models.loading import add_model_options
from practical.training.fitting import (
    Fitted,
    accuracy,
    accuracy_per_class,
    fit,
    shuffle_labels,
)
from practical.training.outputs import check_output, check_room, checkpoint_of, write_card


def main(arguments: list[str] | None = None) -> int:
    """Train from the command line, save the network, and write a model card beside it."""
    parser = argparse.ArgumentParser(
        prog="python -m practical.training", description=main.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", required=True, help="shapes, imagenette, or folder:PATH")
    parser.add_argument("--output", required=True, type=Path, help="the .safetensors to write")
    parser.add_argument("--start", help="a network to fine-tune, as for load_model; else a new one")
    add_model_options(parser)
    parser.add_argument(
        "--block", choices=("basic", "bottleneck"), default="basic", help="of a new network"
    )
    parser.add_argument("--stages", type=int, nargs="+", default=[1, 2, 2], help="blocks a stage")
    parser.add_argument("--widths", type=int, nargs="+", default=[24, 48, 96], help="of the stages")
    parser.add_argument("--image-size", type=int, help="pixels a side")
    parser.add_argument(
        "--shrink", type=int, default=1,
        help="average squares of so many pixels a side: smaller images train faster",
    )  # fmt: skip
    parser.add_argument("--count", type=int, help="learn from the first so many images alone")
    parser.add_argument(
        "--shuffle-labels", action="store_true",
        help="permute the training images' labels by the seed, to be memorised",
    )  # fmt: skip
    parser.add_argument("--validation-count", type=int, help="measure on so many images alone")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--augment", choices=AUGMENTATIONS, default="flip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--checkpoint", type=Path,
        help="file with the state after each epoch, from which the same command goes on; by "
        "default it is beside --output until the network is written",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    checkpoint = checkpoint_of(options.output, options.checkpoint)
    return run_command(
        parser.prog, lambda: _train(options, given, checkpoint),
        kept=f"finished epochs are kept in {checkpoint}, and the same command goes on from there.",
    )  # fmt: skip


def _train(options: argparse.Namespace, arguments: list[str], checkpoint: Path) -> int:
    """Train the network that the options describe, and write it with its card."""
    check_output(options.output)
    train, validation = _splits(options)
    model = _start(options, train)
    check_room(model, options.output, checkpoint)
    for dataset in (train, validation):
        check_readable(dataset.images, progress=True)
    resumed, started = checkpoint.exists(), time.monotonic()
    fitted = fit(
        model, train, validation=validation, epochs=options.epochs, batch_size=options.batch_size,
        learning_rate=options.learning_rate, weight_decay=options.weight_decay,
        augment=options.augment, seed=options.seed, checkpoint=checkpoint,
    )  # fmt: skip
    minutes = None if resumed else (time.monotonic() - started) / 60
    fitted.model.save(options.output)
    card = _card(arguments, fitted, len(train), validation, options, minutes)
    if options.shuffle_labels:
        # What was learned from shuffled labels shows in no measurement on others.
        share = accuracy(fitted.model, train, chunk_size=options.batch_size)
        card += (
            f"\nAccuracy on the {len(train):,} training images, whose labels were shuffled: "
            f"{share:.2%}\n"
        )
    write_card(options.output, card)
    if options.checkpoint is None:
        checkpoint.unlink()
    return 0


def _splits(options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    sizes = {} if options.image_size is None else {"image_size": options.image_size}
    train = load_dataset(options.dataset, "train", count=options.count, **sizes)
    train = train.shrink(options.shrink)
    if options.shuffle_labels:
        train = shuffle_labels(train, seed=options.seed)
    validation = load_dataset(
        options.dataset, "validation", count=options.validation_count, **sizes
    ).shrink(options.shrink)
    return train, validation


def _start(options: argparse.Namespace, train: Dataset) -> Classifier:
    key = jax.random.key(options.seed)
    if options.start is None:
        return new_resnet(
            train.class_names, key=key, block=options.block, stage_sizes=options.stages,
            widths=options.widths, stem_width=options.widths[0],
        )  # fmt: skip
    model = load_model(options.start, dataset=options.dataset, options=options.model_options)
    if model.class_names != train.class_names:
        model = model.reset_head(train.class_names, key=key)
    return model


def _card(
    arguments: list[str],
    fitted: Fitted,
    images: int,
    validation: Dataset,
    options: argparse.Namespace,
    minutes: float | None,
) -> str:
    at_once = options.batch_size
    overall = accuracy(fitted.model, validation, chunk_size=at_once)
    rows = "\n".join(
        f"| {name} | {share:.1%} |"
        for name, share in accuracy_per_class(fitted.model, validation, chunk_size=at_once).items()
    )
    took = "" if minutes is None else f" in {minutes:.0f} minutes"
    parameters = sum(leaf.size for leaf in jax.tree.leaves(fitted.model.variables["params"]))
    return f"""# {validation.name} classifier

Made by

    python -m practical.training {shlex.join(arguments)}

Seed {options.seed}; {images:,} training images; {len(fitted.history)} epochs{took} on \
{os.cpu_count()} cores ({jax.default_backend()}, jax {jax.__version__}); {parameters:,} parameters.

Accuracy on {len(validation):,} validation images: {overall:.2%}

| class | accuracy |
| --- | --- |
{rows}
"""


if __name__ == "__main__":
    keep_compiled()
    sys.exit(main())
