"""Training and fine-tuning with optax.

A run is a function of its arguments: the same seed gives the same network on the same machine, and
a run that was interrupted goes on from its checkpoint to the result that it would have had.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool
from tqdm.auto import tqdm

from practical._checkpoint import resume, save
from practical._files import fingerprint, fingerprint_images
from practical._inputs import Model, check_count, check_images
from practical._jit import jit
from practical._names import listed
from practical._outputs import predicted_classes
from practical.augmentation import AUGMENTATIONS
from practical.data import Dataset
from practical.models import Classifier
from practical.models.predict import predict

Freeze = Callable[[Any], Any]
_CHECKED = 16  # images whose layout and range are checked before the training


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
    avoid: Bool[np.ndarray, "n h w"] | None = None,
    penalty: float = 1.0,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> Fitted:
    """Train `model`'s weights on `dataset` with AdamW under a one-cycle cosine schedule.

    Args:
        model: Where to start: random (`models.new_resnet`) or pretrained (`models.load_model`).
        dataset: Images and labels; each epoch takes them in a new order.
        epochs: Passes over the data.
        validation: Measured after each epoch, `batch_size` images at a time; never learned from.
        batch_size: Images a step; a shorter last batch is left out of its epoch.
        learning_rate: The schedule's peak, after a warm-up over the first tenth of the steps.
        weight_decay: AdamW's, on kernels alone.
        augment: One of `AUGMENTATIONS`.
        freeze: From the weights to the same structure of booleans, True at those that stay as they
            are, such as `explainfix.freeze_spatial`; by default all are learned.
        avoid: (N, H, W) bool, True where a network must not look for its answer, such as on an
            artefact. What the log-probabilities of all classes, added up, change with these pixels
            (of [0, 1]) is squared, and its sum over an image added to the loss.
        penalty: What that is multiplied by.
        seed: Decides the order of the images and the augmentation.
        checkpoint: File that the state goes to after each epoch. When it is there already, the
            run goes on from it; it must come from a run with the same arguments.
        progress: Show a progress bar.

    Raises:
        ValueError: If an argument is out of its range, the images are not in [0, 1], the data
            set's classes are not the model's, or the checkpoint belongs to another run.
        FloatingPointError: If the loss is no longer finite.

    References:
        Ross et al., Right for the Right Reasons: Training Differentiable Models by Constraining
        their Explanations, IJCAI 2017, for `avoid`.
    """
    _check(model, dataset, batch_size, learning_rate, augment)
    if avoid is not None:
        _check_avoid(avoid, penalty, dataset, augment)
    check_count("epochs", epochs)
    if validation is not None and validation.class_names != dataset.class_names:
        raise ValueError(
            f"validation must have the data set's classes {listed(dataset.class_names)}, got "
            f"{listed(validation.class_names)}"
        )
    validated_at_once, batch_size = batch_size, min(batch_size, len(dataset))
    steps = len(dataset) // batch_size
    weight = 0.0 if avoid is None else penalty
    run = _Run(epochs * steps, learning_rate, weight_decay, augment, freeze, weight)
    state = {
        "variables": model.variables,
        "optimizer": _optimizer(run).init(model.variables["params"]),
    }
    history: list[dict[str, float]] = []
    settings = ""
    if checkpoint is not None:
        settings = _settings(model, dataset, run, epochs, batch_size, seed, avoid)
        state, history = resume(checkpoint, settings, state)

    def validate() -> None:
        if validation is not None:
            trained = replace(model, variables=state["variables"])
            share = accuracy(trained, validation, chunk_size=validated_at_once)
            history[-1]["validation_accuracy"] = share
            save(checkpoint, settings, state, history)

    if history and "validation_accuracy" not in history[-1]:
        validate()  # it was interrupted here
    with tqdm(
        total=epochs * steps, initial=len(history) * steps, unit="step", disable=not progress
    ) as bar:
        for epoch in range(len(history), epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(dataset))
            batches = np.sort(order[: steps * batch_size].reshape(steps, batch_size), axis=1)
            numbers = range(epoch * steps, (epoch + 1) * steps)
            keys = [jax.random.fold_in(jax.random.key(seed), number) for number in numbers]
            state, entry = _train_epoch(model, state, dataset, avoid, batches, keys, run, bar)
            if not math.isfinite(entry["loss"]):
                raise FloatingPointError(
                    f"the loss became {entry['loss']} in epoch {epoch + 1}: choose a "
                    f"learning_rate below {learning_rate}"
                )
            history.append(entry)
            save(checkpoint, settings, state, history)  # before the validation, which may fail
            validate()
            bar.set_postfix({name: f"{value:.3f}" for name, value in history[-1].items()})
    return Fitted(replace(model, variables=state["variables"]), history)


def _settings(model, dataset, run: _Run, epochs, batch_size, seed, avoid) -> str:
    """Return what decides a run's result, as the text by which its checkpoint is known."""
    freeze = run.freeze
    return (
        f"{model.architecture} images={dataset.images.shape} "
        f"pixels={fingerprint_images(dataset.images)} epochs={epochs} "
        f"batch_size={batch_size} learning_rate={run.learning_rate} "
        f"weight_decay={run.weight_decay} "
        f"augment={run.augment} seed={seed} labels={fingerprint(dataset.labels)} "
        f"start={fingerprint(model)}"
        + (f" frozen={fingerprint(freeze(model.variables['params']))}" if freeze else "")
        + (f" avoid={fingerprint(avoid)} penalty={run.penalty}" if avoid is not None else "")
    )


def _train_epoch(
    model, state, dataset, avoid, batches, keys, run: _Run, bar: tqdm
) -> tuple[dict, dict[str, float]]:
    """Return the state after a step for each batch of indices, and means over the epoch."""
    sums = []
    for batch, key in zip(batches, keys, strict=True):
        images = dataset.images[batch]
        if avoid is not None:
            images = np.concatenate([images, avoid[batch][..., None]], 3, dtype=np.float32)
        state, measured = _step(model, state, images, dataset.labels[batch], key, run=run)
        sums.append(measured)
        bar.update()
    loss, right = np.mean(jax.device_get(sums), axis=0)
    return state, {"loss": float(loss), "accuracy": float(right)}


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
    logits = predict(model, dataset.images, chunk_size=chunk_size)
    return predicted_classes(logits) == dataset.labels


class _Run(NamedTuple):
    """What is compiled into a step."""

    steps: int
    learning_rate: float
    weight_decay: float
    augment: str
    freeze: Freeze | None
    penalty: float = 0.0  # above 0, a fourth channel of the images is what to avoid


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
    # What is to be avoided is turned and mirrored with its image.
    augmented = AUGMENTATIONS[run.augment](key, jnp.asarray(images))
    images, avoid = augmented[..., :3], augmented[..., 3:]
    module = model.architecture.module()

    def loss(params):
        def forward(images):
            return module.apply(
                {**state["variables"], "params": params},
                (images - model.mean) / model.std,
                mutable=["batch_stats"],
            )

        if run.penalty:
            logits, pull, changed = jax.vjp(forward, images, has_aux=True)
            (slopes,) = pull(jax.grad(lambda x: jax.nn.log_softmax(x).sum())(logits))
            wrong_reasons = (avoid * slopes**2).sum((1, 2, 3)).mean()
        else:
            (logits, changed), wrong_reasons = forward(images), 0.0
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean() + run.penalty * wrong_reasons, (logits, changed)

    gradient, (logits, changed) = jax.grad(loss, has_aux=True)(state["variables"]["params"])
    updates, optimizer = _optimizer(run).update(
        gradient, state["optimizer"], state["variables"]["params"]
    )
    params = optax.apply_updates(state["variables"]["params"], updates)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    measured = jnp.stack([losses.mean(), (logits.argmax(1) == labels).mean()])
    return {"variables": {"params": params, **changed}, "optimizer": optimizer}, measured


# Training forgives rounding; the explanations' exact products would cost a GPU much of its speed.
_step = jit(_update, static_argnames=["run"], precision="tensorfloat32")


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
    check_images(dataset.images[:_CHECKED])
    if model.class_names != dataset.class_names:
        raise ValueError(
            f"model must answer for the data set's classes {listed(dataset.class_names)}, got "
            f"{listed(model.class_names)}; model.reset_head(dataset.class_names, key=...) gives it "
            "a new head"
        )


def _check_avoid(avoid, penalty, dataset, augment) -> None:
    shape = dataset.images.shape[:3]
    if np.shape(avoid) != shape or np.asarray(avoid).dtype != bool:
        raise ValueError(
            f"avoid must be a mask for each image, bool of shape {shape}, got "
            f"{np.asarray(avoid).dtype} of shape {np.shape(avoid)}"
        )
    if not (math.isfinite(penalty) and penalty > 0):
        raise ValueError(f"penalty must be a positive number, got {penalty!r}")
    if augment == "photo":
        raise ValueError(
            "augment must be none, flip or dihedral where avoid is given, got 'photo', which "
            "changes brightness, and a mask has none"
        )
