"""The paper's experiments, at any scale: which filters matter, pruning, and fixed filters.

Each is one function that writes its rows to a folder, goes on where it was stopped, takes more
seeds in another call, and is a command: `python -m practical explainfix zero-filters`, `prune`,
`fixed`.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import pandas as pd
import scipy.stats

from practical._files import fingerprint
from practical._inputs import check_count
from practical._names import listed
from practical._study import fingerprints, run_parts
from practical.data import Dataset
from practical.explainfix.fixed import INITIALISATIONS, STARTS, freeze_spatial, initialise_spatial
from practical.explainfix.pruning import (
    FILLS,
    channel_prune,
    filter_norms,
    filter_saliency,
    largest_percent,
    zero_filters,
)
from practical.explainfix.slopes import spatial_kernels
from practical.models import Classifier, size
from practical.training import accuracy, fit, seconds_per_step

ORDERS = ("least_salient", "most_salient", "smallest", "random")


def zero_filters_study(
    model: Classifier,
    training: Dataset,
    validation: Dataset,
    out: str | Path,
    *,
    percents: Sequence[float] = tuple(range(0, 101, 5)),
    seeds: int = 5,
    chunk_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure accuracy against the percent of filters that are 0, in several orders.

    Filters go least salient first, most salient first, those of the smallest length first (which
    asks no image), and at random.

    Args:
        model: Whose filters are zeroed.
        training: All its images are what saliency is measured on, for their true classes.
        validation: All its images are what accuracy is measured on.
        out: The folder: `results.csv`, and parts to go on from.
        percents: Of all spatial filters, in [0, 100].
        seeds: Random orders.
        chunk_size: Images in flight for the saliency.
        progress: Show a bar.

    Returns:
        A row per order, seed and percent: `order`, `seed`, `percent`, `accuracy`, and `low` and
        `high`, its 95 % interval over images (Wilson).

    Raises:
        ValueError: If an argument breaks its rule, or the folder holds results of other settings.
        RuntimeError: If another run is writing to the folder.
    """
    check_count("seeds", seeds)
    percents = _percents(percents)
    _check_classes(model, training, validation)
    for percent in percents:
        zero_filters(model, filter_norms(model), percent)  # before anything is computed
    runs = [(order, seed) for order in ORDERS for seed in range(seeds if order == "random" else 1)]

    @functools.cache
    def saliency():
        return filter_saliency(model, training.images[:], training.labels, chunk_size=chunk_size)

    def run(order: str, seed: int) -> pd.DataFrame:
        scores = filter_norms(model) if order in ("smallest", "random") else saliency()
        first = "least_salient" if order == "smallest" else order
        rows = []
        for percent in percents:
            zeroed = zero_filters(model, scores, percent, first=first, key=jax.random.key(seed))
            share = accuracy(zeroed, validation)
            rows.append(
                {"order": order, "seed": seed, "percent": percent}
                | _interval(share, len(validation))
            )
        return pd.DataFrame(rows)

    settings = _settings("zero-filters", model, training, validation, percents=percents)
    parts = {f"{order}-{seed}": functools.partial(run, order, seed) for order, seed in runs}
    return run_parts(Path(out), settings, parts, progress=progress)


def prune_study(
    model: Classifier,
    training: Dataset,
    validation: Dataset,
    out: str | Path,
    *,
    percents: Sequence[float] = (0, 20, 40, 60, 80, 90),
    fills: Sequence[str] = FILLS,
    saliency_images: int = 512,
    epochs: int = 2,
    seeds: int = 3,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    augment: str = "dihedral",
    chunk_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """Prune channels and fine-tune what is left: accuracy, size, and time per step.

    Args:
        model: Is pruned.
        training: Is learned from; saliency is measured on its first images.
        validation: What accuracy is measured on.
        out: The folder: `results.csv`, and parts to go on from.
        percents: Of all spatial filters; all must leave every layer a channel.
        fills: Of `channel_prune`.
        saliency_images: Images for the saliency.
        epochs: Of fine-tuning.
        seeds: Each is a run with draws, an order of the images, and an augmentation of its own.
        batch_size: Images a step.
        learning_rate: The schedule's peak.
        augment: One of `augmentation.AUGMENTATIONS`.
        chunk_size: Images in flight for the saliency.
        progress: Show a bar.

    Returns:
        A row per percent, fill, seed and epoch, 0 being before any learning: `percent`, `fill`,
        `seed`, `epoch`, `accuracy`, `low`, `high`, `parameters`, `flops`, `step_seconds`.

    Raises:
        ValueError: If an argument breaks its rule, a percent is too high, or the folder holds
            results of other settings.
        RuntimeError: If another run is writing to the folder.
    """
    check_count("seeds", seeds)
    check_count("saliency_images", saliency_images)
    fills = _choices("fills", fills, FILLS)
    percents = _percents(percents)
    _check_classes(model, training, validation)
    some = training.select(slice(saliency_images))
    saliency = filter_saliency(model, some.images[:], some.labels, chunk_size=chunk_size)
    most = largest_percent(model, saliency)
    if max(percents) > most:
        raise ValueError(
            f"percents must be numbers of at most {most}, where every layer keeps a channel, got "
            f"{percents}"
        )

    def run(percent: float, fill: str, seed: int) -> pd.DataFrame:
        pruned = channel_prune(
            model, some.images[:], some.labels, percent, fill=fill, key=jax.random.key(seed),
            saliency=saliency,
        )  # fmt: skip
        rows = _learn(
            pruned.model, training, validation, epochs=epochs, batch_size=batch_size,
            learning_rate=learning_rate, augment=augment, seed=seed,
        )  # fmt: skip
        about = {"percent": percent, "fill": fill, "seed": seed, **pruned.after._asdict()}
        return pd.DataFrame([about | row for row in rows])

    settings = _settings(
        "prune", model, training, validation, percents=percents, fills=fills, epochs=epochs,
        batch_size=batch_size, learning_rate=learning_rate, augment=augment,
        saliency_images=saliency_images,
    )  # fmt: skip
    parts = {
        f"{fill}-{percent}-{seed}": functools.partial(run, percent, fill, seed)
        for seed in range(seeds)
        for percent in percents
        for fill in fills
        # Where no filter is zeroed, the fills are the same run.
        if not (percent == 0 and fill != "none" and "none" in fills)
    }
    return run_parts(Path(out), settings, parts, progress=progress)


def fixed_study(
    model: Classifier,
    training: Dataset,
    validation: Dataset,
    out: str | Path,
    *,
    initialisations: Sequence[str] = INITIALISATIONS,
    starts: Sequence[str] = STARTS,
    epochs: int = 8,
    seeds: int = 3,
    batch_size: int = 64,
    learning_rate: float = 4e-3,
    augment: str = "dihedral",
    progress: bool = True,
) -> pd.DataFrame:
    """Train networks whose spatial filters are fixed, and learned ones beside them.

    Every initialisation of the filters is tried with the rest of the network from `model`
    ("pretrained") and random ("scratch"), and with filters that stay as they are ("fixed") and
    that are learned. "guided_steer" draws from `model`'s filters in both cases.

    Args:
        model: The pretrained network, and the architecture of all.
        training: Is learned from.
        validation: What accuracy is measured on, after each epoch.
        out: The folder: `results.csv`, and parts to go on from.
        initialisations: Of `initialise_spatial`.
        starts: "pretrained" and "scratch", or one of them.
        epochs: Of training.
        seeds: Each is a run with weights, an order of the images, and an augmentation of its own.
        batch_size: Images a step.
        learning_rate: The schedule's peak.
        augment: One of `augmentation.AUGMENTATIONS`.
        progress: Show a bar.

    Returns:
        A row per initialisation, start, filters, seed and epoch: `initialisation`, `start`,
        `filters`, `seed`, `epoch`, `accuracy`, `low`, `high`, `learned` (parameters),
        `step_seconds`.

    Raises:
        ValueError: If an argument breaks its rule, or the folder holds results of other settings.
        RuntimeError: If another run is writing to the folder.
    """
    check_count("seeds", seeds)
    initialisations = _choices("initialisations", initialisations, INITIALISATIONS)
    starts = _choices("starts", starts, STARTS)
    _check_classes(model, training, validation)
    for name in initialisations:
        _initialise(model, name, jax.random.key(0), source=model)  # before anything is computed
    spatial = sum(kernel.size for kernel in spatial_kernels(model).values())
    height, width, channels = training.images.shape[1:]
    parameters = size(model, (height, width, channels)).parameters

    def run(initialisation: str, start: str, filters: str, seed: int) -> pd.DataFrame:
        weights, draws = jax.random.split(jax.random.key(seed))
        network = model if start == "pretrained" else model.reset(key=weights)
        network = _initialise(network, initialisation, draws, source=model)
        rows = _learn(
            network, training, validation, epochs=epochs, batch_size=batch_size, seed=seed,
            learning_rate=learning_rate, augment=augment,
            freeze=freeze_spatial if filters == "fixed" else None,
        )  # fmt: skip
        about = {
            "initialisation": initialisation, "start": start, "filters": filters, "seed": seed,
            "learned": parameters - spatial if filters == "fixed" else parameters,
        }  # fmt: skip
        return pd.DataFrame([about | row for row in rows])

    settings = _settings(
        "fixed", model, training, validation, epochs=epochs,
        batch_size=batch_size, learning_rate=learning_rate, augment=augment,
    )  # fmt: skip
    parts = {
        f"{initialisation}-{start}-{filters}-{seed}": functools.partial(
            run, initialisation, start, filters, seed
        )
        for seed in range(seeds)
        for start in starts
        for initialisation in initialisations
        for filters in ("fixed", "learned")
    }
    return run_parts(Path(out), settings, parts, progress=progress)


def summarise(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the mean accuracy over seeds with its 95 % interval, and the median step time.

    The interval is Student's over seeds; where there is one run alone, Wilson's over images.
    """
    grouped = rows.groupby(list(by), sort=False)
    measured = {"accuracy": ("accuracy", "mean"), "sem": ("accuracy", "sem")}
    measured |= {"low": ("low", "min"), "high": ("high", "max"), "runs": ("accuracy", "size")}
    if "step_seconds" in rows:
        measured["step_seconds"] = ("step_seconds", "median")
    table = grouped.agg(**measured).reset_index()
    several = table["runs"] > 1
    half = scipy.stats.t.ppf(0.975, table["runs"] - 1) * table.pop("sem")
    table["low"] = table["low"].mask(several, (table["accuracy"] - half).clip(lower=0))
    table["high"] = table["high"].mask(several, (table["accuracy"] + half).clip(upper=1))
    return table


def _choices(name: str, chosen: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the choices, each once: a second one would pass for another run."""
    wrong = [one for one in chosen if one not in known]
    if isinstance(chosen, str) or wrong or not len(chosen):
        raise ValueError(f"{name} must be some of {', '.join(known)}, got {chosen!r}")
    return list(dict.fromkeys(chosen))


def _percents(percents: Sequence[float]) -> list[float]:
    """Return the percents as numbers that name files in one way, each once, from low to high."""
    if not len(percents):
        raise ValueError("percents must hold at least one, got none")
    return sorted({float(percent) for percent in percents})


def _initialise(network: Classifier, name: str, key: jax.Array, *, source: Classifier):
    trained = source if name == "guided_steer" else None
    return initialise_spatial(network, name, key=key, source=trained)


def _learn(
    model: Classifier,
    training: Dataset,
    validation: Dataset,
    *,
    freeze: Callable | None = None,
    batch_size: int,
    **options: Any,
) -> list[dict[str, float]]:
    """Return a row for before learning, and one for after each epoch."""
    seconds = seconds_per_step(model, training, batch_size=batch_size, freeze=freeze)
    before = accuracy(model, validation)
    fitted = fit(
        model, training, validation=validation, batch_size=batch_size, freeze=freeze,
        progress=False, **options,
    )  # fmt: skip
    after = [entry["validation_accuracy"] for entry in fitted.history]
    return [
        {"epoch": epoch, **_interval(share, len(validation)), "step_seconds": seconds}
        for epoch, share in enumerate([before, *after])
    ]


def _interval(share: float, images: int) -> dict[str, float]:
    """Return an accuracy with its 95 % interval over images."""
    counted = scipy.stats.binomtest(round(share * images), images)
    low, high = counted.proportion_ci(method="wilson")
    return {"accuracy": share, "low": low, "high": high}


def _check_classes(model: Classifier, training: Dataset, validation: Dataset) -> None:
    for name, dataset in (("training", training), ("validation", validation)):
        if dataset.class_names != model.class_names:
            raise ValueError(
                f"{name} must have the model's classes, {listed(model.class_names)}; got "
                f"{listed(dataset.class_names)}"
            )


def _settings(
    experiment: str, model: Classifier, training: Dataset, validation: Dataset, **options: Any
) -> dict[str, Any]:
    """Return all that a row depends on."""
    data = fingerprints(training=training, validation=validation)
    about = {"architecture": str(model.architecture), "classes": list(model.class_names)}
    about["experiment"] = experiment
    return {"dataset": training.name, **data, "model": fingerprint(model), **about, **options}
