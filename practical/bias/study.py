"""How well an explanation tells faulty classifiers from clean ones, over many that we trained.

For every fault, strength and seed, one network is trained with the artefact going with the class,
and a clean one with as many artefacts that go with no class, each with random numbers and a part
of the training images of its own. An auditor who does not know which is which sees both on the data
where the artefact goes with the class, and measures how suspicious each looks. `detection_study`
trains and measures, `detection_table` says how well each measure tells them apart.
"""

import zlib
from collections.abc import Sequence
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import cast

import jax
import numpy as np
import pandas as pd
from scipy.optimize import root_scalar

from practical._inputs import check_count
from practical._names import listed
from practical._outputs import predicted_classes, probabilities
from practical._study import fingerprints, read_rows, run_parts
from practical.attribution import METHODS
from practical.bias.artefacts import ARTEFACTS, PLACELESS
from practical.bias.discovery import coarse
from practical.bias.faults import Biased, Fault, plant
from practical.bias.frequencies import frequency_occlusion
from practical.bias.lineup import Recipe, train_suspect
from practical.bias.measures import LEARNED, audit, relevance_density
from practical.data import Dataset
from practical.explainfix import diagonal_order, filter_spectra, saliency_spectra
from practical.models import Classifier, predict

METHODS_COMPARED = (
    "occlusion", "saliency", "gradient_x_input", "integrated_gradients", "grad_cam", "random",
)  # fmt: skip
STUDY_RECIPE = Recipe(
    epochs=15, batch_size=32, augment="none",
    architecture={"stage_sizes": (1, 1, 1), "widths": (16, 32, 64), "stem_width": 16},
)  # fmt: skip
_SIDE = 8  # of the grid on which heatmaps are compared
_BANDS = 4  # of frequencies, in each direction
_TWO_SIDED = 1.96  # standard errors of a 95 % interval
_CAUGHT = 0.8  # at least this share of the faulty networks, where false alarms are counted
# Of the training images: laboratories differ in how much they have, and so does the accuracy of
# their networks. Few values, since each is compiled once.
_PARTS = (0.5, 0.75, 1.0)


def detection_study(
    training: Dataset,
    validation: Dataset,
    out: str | Path,
    *,
    faults: Sequence[str] = tuple(ARTEFACTS),
    strengths: Sequence[float] = (0.5, 1.0),
    seeds: int = 4,
    methods: Sequence[str] = METHODS_COMPARED,
    images: int = 96,
    recipe: Recipe = STUDY_RECIPE,
    progress: bool = True,
) -> pd.DataFrame:
    """Train faulty and clean networks, and measure how suspicious each looks.

    Every fault is carried by class 0 alone; the other classes have to be learned in both kinds of
    network. Each learns from a half, three quarters or all of the training images, at random, so
    that its accuracy has other reasons than a fault, too. The measures are, where a higher value is
    to be more suspicious:

    - without explanation: `accuracy` and `confidence` (the mean largest probability) on the data
      shown, and `class_gap`, the best class's accuracy less the mean. The artefact gives a class
      away, so a fault makes a network better on the data shown.
    - of each method, for who knows the artefact's place: `METHOD density`, `relevance_density` of
      the images that carry it. Faults without a place have none.
    - of "random", which knows nothing of a network, other noise for each: what chance looks like.
    - of each method, for who knows nothing: `METHOD agreement`, how alike the heatmaps of the one
      class are whose are most alike: the mean correlation of pairs, on a grid of 8x8.
    - of the stem's spectra: `filters high` and `saliency high`, the share of energy in the finer
      half of the basis; `filters finest` and `saliency finest`, that of the finest basis filter
      alone, for saliency of the class where it is largest; `saliency gap`, how far the spectrum
      of the class that is farthest from the others' is from theirs (half of the summed
      differences of shares).
    - of the input's frequencies, in 4x4 bands: `frequency occlusion`, the share of the finer half
      in what hiding each band costs the logit, of the class whose share is largest.
    - for comparison, what no auditor without the artefact has: `removed drop`, by how much
      accuracy falls when the artefact is removed, and `swapped drop`.

    Args:
        training: Is learned from, without artefacts; with masks, if "background" is a fault.
        validation: What the networks are shown and measured on.
        out: The folder: `results.csv`, and parts to go on from.
        faults: Names in `ARTEFACTS`.
        strengths: Of each, in (0, 1].
        seeds: Pairs of networks for each fault and strength.
        methods: Names in `attribution.METHODS`.
        images: How many of the images shown are explained.
        recipe: Of the training.
        progress: Show a bar.

    Returns:
        A row per network and measure: `fault`, `strength`, `seed`, `faulty`, `measure`, `value`.

    Raises:
        ValueError: If an argument breaks its rule, or the folder holds results of other settings.
        RuntimeError: If another run is writing to the folder.
    """
    check_count("seeds", seeds)
    check_count("images", images)
    unknown = [name for name in faults if name not in ARTEFACTS]
    unknown += [name for name in methods if name not in METHODS]
    if unknown or isinstance(faults, str) or isinstance(methods, str):
        raise ValueError(
            f"faults must be some of {', '.join(ARTEFACTS)}, and methods of "
            f"{', '.join(METHODS)}; got {unknown or (faults, methods)}"
        )
    if training.class_names != validation.class_names:
        raise ValueError(
            f"validation must have the training set's classes {listed(training.class_names)}, got "
            f"{listed(validation.class_names)}"
        )
    cells = [(name, float(strength)) for name in faults for strength in strengths]
    if not cells:
        raise ValueError(
            f"faults and strengths must name at least one each, got {faults} and {strengths}"
        )
    explained = validation.select(slice(images))
    if min(np.bincount(explained.labels, minlength=len(validation.class_names))) < 2:
        raise ValueError(
            f"images must take two of each class, got {images}, the first {len(explained)} of "
            "validation"
        )
    for name, strength in cells:
        plant(explained, Fault(name, 0, strength))  # before any training
    settings = fingerprints(training=training, validation=validation)
    settings |= {"methods": list(methods), "images": images, "recipe": str(recipe)}
    settings |= {"parts": list(_PARTS)}

    def run(name: str, strength: float, seed: int, faulty: bool) -> pd.DataFrame:
        fault = Fault(name, 0, strength)
        way = "aligned" if faulty else "shuffled"
        # No two networks have anything in common but their data: neither their first weights, nor
        # the images' order. Else what comes of chance in one comes of it in all.
        own = zlib.crc32(f"{name} {strength:g} {seed} {way}".encode()) >> 1
        rng = np.random.default_rng([own, 4])
        count = round(rng.choice(_PARTS) * len(training))
        some = training.select(np.sort(rng.permutation(len(training))[:count]))
        network = train_suspect(some, fault, recipe, way=way, seed=own, progress=False)
        measured = _measure(network, validation, fault, methods, images, own)
        about = {"fault": name, "strength": strength, "seed": seed, "faulty": faulty}
        rows = [about | {"measure": m, "value": value} for m, value in measured.items()]
        return pd.DataFrame(rows)

    parts = {
        f"{name}-{strength}-{seed}-{kind}": partial(run, name, strength, seed, kind == "faulty")
        for seed in range(seeds)
        for name, strength in cells
        for kind in ("faulty", "clean")
    }
    return run_parts(Path(out), settings, parts, progress=progress)


def packaged_study(dataset: str = "shapes") -> pd.DataFrame:
    """Return the rows of a study that was run for the package, as `detection_study` does.

    The commands that made them, and what they show, are in docs/model-bias.md.

    Args:
        dataset: The name of the data set that the networks were trained on.

    Raises:
        ValueError: If there is none for this data set.
    """
    with as_file(files("practical.bias") / "studies") as folder:
        known = sorted(path.stem for path in folder.glob("*.csv"))
        if dataset not in known:
            raise ValueError(
                f"dataset must be one of {', '.join(known)}, got {dataset!r}; "
                "`python -m practical bias detect` runs the study on any other"
            )
        return read_rows(folder / f"{dataset}.csv")


def detection_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how well each measure tells faulty networks from clean ones.

    What a network did not learn, nothing can find in it. So of the networks that were trained with
    an artefact, those count whose accuracy falls by a tenth at least when it is swapped.

    Args:
        rows: Of `detection_study` or `packaged_study`.

    Returns:
        A row per fault and measure, over strengths and seeds: `fault`, `measure`; `faulty` and
        `clean`, how many networks are compared, and `trained`, how many were trained with the
        artefact; `auroc`, the share of pairs of a faulty and a clean network of one strength in
        which the faulty one's value is higher, equal ones counting half; `low` and `high`, its
        95 % interval, which is not a point where a few networks are told apart perfectly; and
        `false_alarms`, the share of clean networks that are at or above the highest threshold at
        or above which at least four in five of the faulty ones are. Where no network learned its
        artefact, `auroc` and what follows it are NaN.

    Raises:
        ValueError: If a value is not finite, a cell lacks faulty networks or clean ones, or there
            is no "swapped drop" of a network.

    References:
        Newcombe, Confidence Intervals for an Effect Size Measure Based on the Mann-Whitney
        Statistic, part 2, Statistics in Medicine 25, 2006 (method 5), for the interval.
    """
    finite = np.isfinite(rows["value"].to_numpy(float))
    unusable: list[object] = [rows.iloc[row].to_dict() for row in np.flatnonzero(~finite)]
    for cell, some in rows.groupby(["fault", "measure", "strength"], sort=False):
        if len(set(some["faulty"])) < 2:
            unusable.append(cell)
    if unusable:
        raise ValueError(
            "rows must have finite values of faulty and of clean networks for each fault, measure "
            f"and strength, got none for {unusable[:3]}"
        )
    network = ["fault", "strength", "seed", "faulty"]
    falls = rows[rows["measure"] == "swapped drop"].set_index(network)["value"]
    fall = falls.reindex(pd.MultiIndex.from_frame(pd.DataFrame(rows[network]))).to_numpy()
    if np.isnan(fall).any():
        raise ValueError(
            f"rows must have the measure 'swapped drop' of each network, got none for "
            f"{rows.loc[np.isnan(fall), network].iloc[0].to_dict()}"
        )
    learned = ~rows["faulty"].to_numpy(bool) | (fall >= LEARNED)
    table = []
    for names, some in rows.assign(learned=learned).groupby(["fault", "measure"], sort=False):
        fault, measure = cast(tuple[str, str], names)
        cells = []
        for _, cell in some[some["learned"]].groupby("strength"):
            values = [
                cell.loc[cell["faulty"] == kind, "value"].to_numpy() for kind in (True, False)
            ]
            if len(values[0]):
                cells.append(values)
        table.append(
            {"fault": fault, "measure": measure}
            | {"faulty": sum(len(faulty) for faulty, _ in cells)}
            | {"clean": sum(len(clean) for _, clean in cells)}
            | {"trained": int(np.sum(some["faulty"].to_numpy()))}
            | _told_apart(cells)
        )
    return pd.DataFrame(table)


def _told_apart(cells: list[list[np.ndarray]]) -> dict[str, float]:
    """Return the AUROC, its interval and the false alarms over cells of faulty and clean values."""
    if not cells:
        return dict.fromkeys(("auroc", "low", "high", "false_alarms"), np.nan)
    found = float(np.mean([auroc(*cell) for cell in cells]))
    low, high = auroc_interval(found, [(len(faulty), len(clean)) for faulty, clean in cells])
    alarms = [
        np.mean(clean >= np.sort(faulty)[int((1 - _CAUGHT) * len(faulty) + 1e-9)])
        for faulty, clean in cells
    ]
    return {"auroc": found, "low": low, "high": high, "false_alarms": float(np.mean(alarms))}


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the share of pairs in which the positive one is higher, equal ones counting half."""
    difference = np.asarray(positive)[:, None] - np.asarray(negative)[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def auroc_interval(found: float, sizes: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return the 95 % interval of a mean AUROC over cells of so many positives and negatives.

    Hanley and McNeil's variance, at the limit and not at the estimate (there it would be 0 for
    networks that are told apart perfectly).
    """

    def error(area: float) -> float:
        curved = (1 - area) / (2 - area) + area / (1 + area)
        variances = [
            area * (1 - area) * (1 + ((m + n) / 2 - 1) * curved) / (m * n) for m, n in sizes
        ]
        return _TWO_SIDED * float(np.sqrt(np.sum(variances))) / len(sizes)

    # At 0 and 1 the error is 0, so that they solve their own equation, and are not what is wanted.
    inside = min(max(found, 1e-9), 1 - 1e-9)

    def limit(*bracket: float) -> float:
        return root_scalar(lambda area: abs(found - area) - error(area), bracket=bracket).root

    return limit(0, inside) if found > 0 else 0.0, limit(inside, 1) if found < 1 else 1.0


def _measure(
    network: Classifier,
    validation: Dataset,
    fault: Fault,
    methods: Sequence[str],
    images: int,
    seed: int,
) -> dict[str, float]:
    shown = plant(validation, fault, seed=seed)
    logits = predict(network, shown.dataset.images)
    right = predicted_classes(logits) == shown.dataset.labels
    labels = np.unique(shown.dataset.labels)
    by_class = [right[shown.dataset.labels == label].mean() for label in labels]
    measured = {
        "accuracy": float(right.mean()),
        "confidence": float(probabilities(logits).max(1).mean()),
        "class_gap": float(max(by_class) - np.mean(by_class)),
    }
    some = Biased(shown.dataset.select(slice(images)), shown.masks[:images])
    carriers = some.masks.any((1, 2))
    pixels, classes = np.asarray(some.dataset.images), some.dataset.labels
    for name in methods:
        options = {"key": jax.random.key(seed)} if METHODS[name].random else {}
        maps = np.asarray(METHODS[name].heatmap(network, pixels, classes, **options))
        if fault.artefact not in PLACELESS:
            found = relevance_density(maps[carriers], some.masks[carriers])
            measured[f"{name} density"] = float(found.density.mean())
        measured[f"{name} agreement"] = _agreement(maps, classes)
    spectra = saliency_spectra(network, pixels, classes, chunk_size=32)
    stem = next(iter(spectra.energies))
    rows, columns = spectra.shapes[stem]
    frequency = np.add.outer(np.arange(rows), np.arange(columns)).ravel()
    finer = frequency[diagonal_order((rows, columns))] > (rows + columns - 2) / 2
    energies = np.asarray(spectra.energies[stem])
    # A class that an image has no slope for has no shares either.
    shares = energies / np.maximum(energies.sum(1, keepdims=True), 1e-12)
    own = np.asarray(filter_spectra(network)[stem].ed)
    measured["filters high"] = float(own[finer].sum() / own.sum())
    measured["saliency high"] = float(shares[:, finer].sum(1).mean())
    shown_labels = np.unique(classes)
    measured["filters finest"] = float(own[-1] / own.sum())
    measured["saliency finest"] = float(
        max(shares[classes == label, -1].mean() for label in shown_labels)
    )
    gaps = [
        np.abs(shares[classes == label].mean(0) - shares[classes != label].mean(0)).sum() / 2
        for label in shown_labels
    ]
    measured["saliency gap"] = float(max(gaps))
    falls = frequency_occlusion(network, pixels, classes, bands=_BANDS)
    measured["frequency occlusion"] = max(
        _finer_share(falls[classes == label].mean(0)) for label in shown_labels
    )
    found = audit(network, validation, fault, seed=seed)
    measured["removed drop"] = found.aligned - found.removed
    measured["swapped drop"] = found.aligned - found.swapped
    return measured


def _finer_share(falls: np.ndarray) -> float:
    """Return the share of positive falls that is in the finer half of the bands."""
    positive = np.maximum(falls, 0)
    rows, columns = np.indices(falls.shape)
    return float(positive[rows + columns >= len(falls)].sum() / max(positive.sum(), 1e-12))


def _agreement(maps: np.ndarray, classes: np.ndarray) -> float:
    """Return how alike the maps are of the class whose maps are most alike."""
    grids = coarse(np.maximum(maps, 0), min(_SIDE, *maps.shape[1:])).reshape(len(maps), -1)
    centred = grids - grids.mean(1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    means = []
    for label in np.unique(classes):
        rows = unit[classes == label]
        if len(rows) > 1:
            pairs = rows @ rows.T
            means.append((pairs.sum() - np.trace(pairs)) / (len(rows) * (len(rows) - 1)))
    return float(max(means))
