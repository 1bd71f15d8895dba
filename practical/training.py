"""Training and fine-tuning with optax; `python -m practical.training --help` is the same by hand.

A run is a function of its arguments: the same seed gives the same network on the same machine, and
a run that was interrupted goes on from its checkpoint to the result that it would have had.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

from practical._checkpoint import resume, save
from practical._files import atomic_path, fingerprint
from practical._inputs import Model, check_count
from practical._jit import jit
from practical.augmentation import AUGMENTATIONS
from practical.data import Dataset, load_dataset
from practical.models import Classifier, load_model, new_resnet
from practical.models.predict import predict

Freeze = Callable[[Any], Any]


class Fitted(NamedTuple):
    """What `fit` returns."""

    model: Classifier  # the trained network
    history: list[dict[str, float]]  # an entry per epoch: loss, accuracy, validation_accuracy


def fit(
    model: Classifier,
    dataset: Dataset,
    *,
    epochs: int,
    validation: Dataset | None = None,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    augment: str = "flip",
    freeze: Freeze | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> Fitted:
    """Train `model`'s weights on `dataset` with AdamW under a one-cycle cosine schedule.

    Args:
        model: Where to start: random (`models.new_resnet`) or pretrained (`models.load_model`).
        dataset: Images and labels; each epoch takes them in a new order.
        epochs: Passes over the data.
        validation: Measured after each epoch, and never learned from.
        batch_size: Images a step; a shorter last batch is left out of its epoch.
        learning_rate: The schedule's peak, after a warm-up over the first tenth of the steps.
        weight_decay: AdamW's, on kernels alone.
        augment: One of `AUGMENTATIONS`.
        freeze: From the weights to the same structure of booleans, True at those that stay as they
            are, such as `explainfix.freeze_spatial`; by default all are learned.
        seed: Decides the order of the images and the augmentation.
        checkpoint: File that the state goes to after each epoch. When it is there already, the
            run goes on from it; it must come from a run with the same arguments.
        progress: Show a progress bar.

    Raises:
        ValueError: If an argument is out of its range, the data set's classes are not the
            model's, or the checkpoint belongs to another run.
        FloatingPointError: If the loss is no longer finite.
    """
    _check(model, dataset, batch_size, learning_rate, augment)
    check_count("epochs", epochs)
    if validation is not None and validation.class_names != dataset.class_names:
        raise ValueError(
            f"validation must have the data set's classes {dataset.class_names}, got "
            f"{validation.class_names}"
        )
    batch_size = min(batch_size, len(dataset))
    steps = len(dataset) // batch_size
    run = _Run(epochs * steps, learning_rate, weight_decay, augment, freeze)
    state = {
        "variables": model.variables,
        "optimizer": _optimizer(run).init(model.variables["params"]),
    }
    settings = (
        f"{model.architecture} images={dataset.images.shape} epochs={epochs} "
        f"batch_size={batch_size} learning_rate={learning_rate} weight_decay={weight_decay} "
        f"augment={augment} seed={seed} labels={fingerprint(dataset.labels)} "
        f"start={fingerprint(model.variables)}"
        + (f" frozen={fingerprint(freeze(model.variables['params']))}" if freeze else "")
    )
    state, history = resume(checkpoint, settings, state)
    bar = tqdm(
        total=epochs * steps, initial=len(history) * steps, unit="step", disable=not progress
    )
    with bar:
        for epoch in range(len(history), epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(dataset))
            sums = []
            for step in range(steps):
                chosen = np.sort(order[step * batch_size : (step + 1) * batch_size])
                key = jax.random.fold_in(jax.random.key(seed), epoch * steps + step)
                state, measured = _step(
                    model, state, dataset.images[chosen], dataset.labels[chosen], key, run=run
                )
                sums.append(measured)
                bar.update()
            loss, right = np.mean(jax.device_get(sums), axis=0)
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss became {loss} in epoch {epoch + 1}: choose a learning_rate below "
                    f"{learning_rate}"
                )
            entry = {"loss": float(loss), "accuracy": float(right)}
            model = replace(model, variables=state["variables"])
            if validation is not None:
                entry["validation_accuracy"] = accuracy(model, validation)
            history.append(entry)
            bar.set_postfix({name: f"{value:.3f}" for name, value in entry.items()})
            save(checkpoint, settings, state, history)
    return Fitted(replace(model, variables=state["variables"]), history)


def seconds_per_step(
    model: Classifier,
    dataset: Dataset,
    *,
    batch_size: int = 128,
    freeze: Freeze | None = None,
    steps: int = 10,
) -> float:
    """Return how long a step of `fit` takes: the median of some, without their compilation.

    Args:
        model: Is left as it is.
        dataset: Its first `batch_size` images are learned from.
        batch_size: Images a step.
        freeze: As for `fit`.
        steps: How many are timed.

    Raises:
        ValueError: If an argument is out of its range, or the data set's classes are not the
            model's.
    """
    _check(model, dataset, batch_size, 1e-3, "none")
    check_count("steps", steps)
    run = _Run(steps, 1e-3, 0.0, "none", freeze)
    params = model.variables["params"]
    state = {"variables": model.variables, "optimizer": _optimizer(run).init(params)}
    images, labels = dataset.images[:batch_size], dataset.labels[:batch_size]
    seconds = []
    for step in range(steps + 1):
        started = time.perf_counter()
        state, _ = jax.block_until_ready(
            _step(model, state, images, labels, jax.random.key(step), run=run)
        )
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:]))


def shuffle_labels(dataset: Dataset, *, seed: int = 0) -> Dataset:
    """Return the data set with its labels permuted: images and labels have nothing in common.

    A network that has memorised them has learned to see, but nothing of the classes. Adebayo et
    al. (Sanity Checks for Saliency Maps, NeurIPS 2018, section 4) compare explanations with its.
    """
    # A third number, so that this is not the order in which some epoch of `fit` takes the images.
    order = np.random.default_rng([seed, 0, 1]).permutation(len(dataset))
    return replace(dataset, labels=dataset.labels[order])


def accuracy(model: Model, dataset: Dataset, *, chunk_size: int = 250) -> float:
    """Return the share of images, in [0, 1], that the model puts in their own class."""
    return float(np.mean(_right(model, dataset, chunk_size)))


def accuracy_per_class(
    model: Model, dataset: Dataset, *, chunk_size: int = 250
) -> dict[str, float]:
    """Return for each class the share of its images, in [0, 1], that the model recognises."""
    right = _right(model, dataset, chunk_size)
    return {
        name: float(np.mean(right[dataset.labels == label]))
        for label, name in enumerate(dataset.class_names)
    }


def _right(model: Model, dataset: Dataset, chunk_size: int) -> np.ndarray:
    return predict(model, dataset.images, chunk_size=chunk_size).argmax(1) == dataset.labels


class _Run(NamedTuple):
    """What is compiled into a step."""

    steps: int
    learning_rate: float
    weight_decay: float
    augment: str
    freeze: Freeze | None


def _optimizer(run: _Run) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=run.learning_rate / 25,
        peak_value=run.learning_rate,
        warmup_steps=max(1, run.steps // 10),
        decay_steps=max(2, run.steps),
    )

    def kernels(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    learn = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, weight_decay=run.weight_decay, mask=kernels),
    )
    if run.freeze is None:
        return learn
    # Before, so that the norm is of what is learned alone; after, because of the weight decay.
    frozen = optax.masked(optax.set_to_zero(), run.freeze)
    return optax.chain(frozen, learn, frozen)


def _update(model, state, images, labels, key, *, run: _Run):
    images = AUGMENTATIONS[run.augment](key, jnp.asarray(images))
    images = (images - model.mean) / model.std
    module = model.architecture.module()

    def loss(params):
        logits, changed = module.apply(
            {**state["variables"], "params": params}, images, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, changed)

    gradient, (logits, changed) = jax.grad(loss, has_aux=True)(state["variables"]["params"])
    updates, optimizer = _optimizer(run).update(
        gradient, state["optimizer"], state["variables"]["params"]
    )
    params = optax.apply_updates(state["variables"]["params"], updates)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    measured = jnp.stack([losses.mean(), (logits.argmax(1) == labels).mean()])
    return {"variables": {"params": params, **changed}, "optimizer": optimizer}, measured


_step = jit(_update, static_argnames=["run"])


def _check(model, dataset, batch_size, learning_rate, augment) -> None:
    check_count("batch_size", batch_size)
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be a positive number, got {learning_rate!r}")
    if augment not in AUGMENTATIONS:
        raise ValueError(f"augment must be one of {', '.join(AUGMENTATIONS)}, got {augment!r}")
    if augment == "dihedral" and dataset.images.shape[1] != dataset.images.shape[2]:
        raise ValueError(
            f'augment="dihedral" needs square images, got {dataset.images.shape[1:3]} pixels'
        )
    if model.class_names != dataset.class_names:
        raise ValueError(
            f"model must answer for the data set's classes {dataset.class_names}, got "
            f"{model.class_names}; model.reset_head(dataset.class_names, key=...) gives it a new "
            "head"
        )


def main(arguments: list[str] | None = None) -> None:
    """Train from the command line, save the network, and write a model card beside it."""
    parser = argparse.ArgumentParser(
        prog="python -m practical.training", description=main.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--dataset", required=True, help="shapes, imagenette, or folder:PATH")
    parser.add_argument("--output", required=True, type=Path, help="the .safetensors to write")
    parser.add_argument("--start", help="a network to fine-tune, as for load_model; else a new one")
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
    parser.add_argument("--checkpoint", type=Path, help="go on from this file, and write it")
    options = parser.parse_args(arguments)
    if options.output.suffix != ".safetensors":
        parser.error(f"--output must end in .safetensors, got {options.output}")

    sizes = {} if options.image_size is None else {"image_size": options.image_size}
    train = load_dataset(options.dataset, "train", count=options.count, **sizes)
    train = train.shrink(options.shrink)
    if options.shuffle_labels:
        train = shuffle_labels(train, seed=options.seed)
    validation = load_dataset(
        options.dataset, "validation", count=options.validation_count, **sizes
    ).shrink(options.shrink)
    key = jax.random.key(options.seed)
    if options.start is None:
        model = new_resnet(
            train.class_names, key=key, block=options.block, stage_sizes=options.stages,
            widths=options.widths, stem_width=options.widths[0],
        )  # fmt: skip
    else:
        model = load_model(options.start, dataset=options.dataset)
        if model.class_names != train.class_names:
            model = model.reset_head(train.class_names, key=key)
    started = time.monotonic()
    fitted = fit(
        model, train, validation=validation, epochs=options.epochs, batch_size=options.batch_size,
        learning_rate=options.learning_rate, weight_decay=options.weight_decay,
        augment=options.augment, seed=options.seed, checkpoint=options.checkpoint,
    )  # fmt: skip
    minutes = (time.monotonic() - started) / 60
    fitted.model.save(options.output)
    card = _card(arguments or sys.argv[1:], fitted, len(train), validation, options.seed, minutes)
    if options.shuffle_labels:
        # What was learned from shuffled labels shows in no measurement on others.
        card += (
            f"\nAccuracy on the {len(train):,} training images, whose labels were shuffled: "
            f"{accuracy(fitted.model, train):.2%}\n"
        )
    with atomic_path(options.output.with_suffix(".md")) as temporary:
        temporary.write_text(card)
    print(card)


def _card(
    arguments: list[str],
    fitted: Fitted,
    images: int,
    validation: Dataset,
    seed: int,
    minutes: float,
) -> str:
    overall = accuracy(fitted.model, validation)
    rows = "\n".join(
        f"| {name} | {share:.1%} |"
        for name, share in accuracy_per_class(fitted.model, validation).items()
    )
    parameters = sum(leaf.size for leaf in jax.tree.leaves(fitted.model.variables["params"]))
    return f"""# {validation.name} classifier

Made by

    python -m practical.training {shlex.join(arguments)}

Seed {seed}; {images:,} training images; {len(fitted.history)} epochs in {minutes:.0f} minutes on \
{os.cpu_count()} cores ({jax.default_backend()}, jax {jax.__version__}); {parameters:,} parameters.

Accuracy on {len(validation):,} validation images: {overall:.2%}

| class | accuracy |
| --- | --- |
{rows}
"""


if __name__ == "__main__":
    main()
