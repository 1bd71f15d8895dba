"""A whole benchmark: every explanation by every metric on a data set, into one folder.

The work is cut into parts, one explanation on a few images each, and every part is a file that is
there whole or not at all. So a run can be stopped at any moment and goes on where it was, and no
row is lost or doubled.
"""

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm.auto import tqdm

from practical import metrics
from practical._files import atomic_path, fingerprint
from practical._inputs import check_count
from practical._study import study_folder, write_rows
from practical.attribution import METHODS, Method
from practical.data import Dataset, mosaics
from practical.evaluation.measures import MEASURES, NEEDS, Context, Measure
from practical.models import Classifier, predict

COLUMNS = ("image", "label", "target", "method", "metric", "value")
_SHOWN = 8  # images whose maps are kept, as pictures for the report
_PART = 16  # images a part; one shape for all of them, so that each method compiles once


def method_options(height: int, width: int) -> dict[str, dict[str, Any]]:
    """Return the options that differ from a method's defaults, for images of that size.

    Squares of a quarter of the image, as in the notebook; and fewer samples for the methods that
    would otherwise take most of the time.
    """
    side = min(height, width)
    window = max(1, side // 4)
    return {
        "occlusion": {"window": window, "stride": max(1, window // 2), "baseline": "mean"},
        "rise": {"samples": 1000},
        "lime": {"samples": 500},
        "kernel_shap": {"samples": 500},
        "expected_gradients": {"samples": 100},
    }


def evaluate(
    dataset: Dataset,
    model: Any,
    out: str | Path,
    *,
    methods: Sequence[str] | None = None,
    measures: Sequence[str] | None = None,
    shuffled: Any = None,
    repeated: int = 32,
    seed: int = 0,
    chunk_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure explanations of what `model` says of each image, and write the rows to a folder.

    Stopped, even by a kill, it goes on where it was when it is called again. More methods may be
    added to a folder; anything else that differs is refused.

    Args:
        dataset: All of its images are used.
        model: Images in [0, 1] to logits. The class that it predicts is explained.
        out: The folder. `results.csv` is written when all is done.
        methods: Names in `attribution.METHODS`; by default all that suit the model.
        measures: Names in `MEASURES`; by default all that data set and model have what they need
            for.
        shuffled: A model of the same classes, trained on shuffled labels, for
            "label_randomization".
        repeated: Images for the measures that explain each image several times, from the first.
        seed: Decides all random numbers.
        chunk_size: Images in flight.
        progress: Show a bar with the time left.

    Returns:
        A row per image, method and metric, with the columns `COLUMNS`. "focus" is measured on
        mosaics of the images, and its image is the mosaic's number.

    Raises:
        ValueError: If an argument breaks its rule, or the folder holds results of other settings.
        RuntimeError: If another run is writing to the folder.
    """
    out = Path(out)
    run = _Run(dataset, model, shuffled, repeated, seed, chunk_size)
    names = _choose_methods(methods, model)
    columns = _choose_measures(measures, run)
    with study_folder(out, run.settings(columns)):
        parts = list(run.parts(names, columns))
        with tqdm(
            total=sum(part.calls for part in parts), unit="call", unit_scale=True,
            disable=not progress, dynamic_ncols=True,
        ) as bar:  # fmt: skip
            done = [part for part in parts if (out / part.file).exists()]
            bar.update(sum(part.calls for part in done))
            bar.initial = bar.n  # the time left is reckoned from what this run does
            for part in parts:
                if part in done:
                    continue
                bar.set_description(part.method)
                rows, heatmaps = run.measure(part, columns)
                if part.kind == "images" and part.first == 0:  # for the report
                    with atomic_path(out / "maps" / f"{part.method}.npy") as temporary:
                        temporary.write_bytes(_npy(heatmaps[: min(_SHOWN, part.count)]))
                write_rows(out / part.file, rows)
                bar.update(part.calls)
        rows = pd.concat([pd.read_csv(out / part.file) for part in parts], ignore_index=True)
        order = {name: i for i, name in enumerate((*METHODS, *MEASURES))}
        rows = rows.sort_values(
            ["method", "metric", "image"], key=lambda c: c.map(order) if c.name != "image" else c
        ).reset_index(drop=True)
        write_rows(out / "results.csv", rows)
    return rows


class _Part(NamedTuple):
    method: str
    kind: str  # "images", or "mosaics" for the focus
    first: int  # image or mosaic
    count: int
    calls: int  # of the model, about: a gradient counts as three

    @property
    def file(self) -> Path:
        return Path("parts") / f"{self.method}-{self.kind}-{self.first:06d}.csv"


class _Run:
    """One benchmark: what is measured, and what all of its parts share."""

    def __init__(self, dataset, model, shuffled, repeated, seed, chunk_size):
        self.dataset, self.model, self.shuffled = dataset, model, shuffled
        self.repeated = min(check_count("repeated", repeated), len(dataset))
        self.chunk_size = check_count("chunk_size", chunk_size)
        self.seed = check_count("seed", seed, least=0)
        self.options = method_options(*dataset.images.shape[1:3])

    @functools.cached_property
    def randomised(self) -> Any:
        """The model with every layer shuffled: what is left of it is its architecture."""
        model, key = self.model, jax.random.key(self.seed)
        for number, layer in enumerate(metrics.classifier_layers(model).values()):
            model = layer(model, jax.random.fold_in(key, number))
        return model

    @functools.cached_property
    def mosaics(self) -> Dataset:
        return mosaics(self.dataset, count=self.repeated, seed=self.seed)

    @functools.cached_property
    def targets(self) -> np.ndarray:
        return predict(self.model, self.dataset.images).argmax(1)

    def has(self, measure: Measure) -> bool:
        classes = len(self.dataset.class_names)
        return {
            "": True,
            "masks": self.dataset.masks is not None,
            "pairs": bool(np.bincount(self.dataset.labels, minlength=classes).min() > 1),
            "layers": isinstance(self.model, Classifier),
            "shuffled": self.shuffled is not None,
        }[measure.needs]

    def settings(self, columns: Sequence[str]) -> dict[str, Any]:
        """Return all that a row depends on, but for the method."""
        return {
            "dataset": self.dataset.name,
            "images": list(self.dataset.images.shape),
            "content": fingerprint([np.asarray(self.dataset.images[:8]), self.dataset.labels]),
            "model": f"{type(self.model).__name__} {fingerprint(self.model)}",
            "shuffled": fingerprint(self.shuffled) if self.shuffled is not None else None,
            "metrics": list(columns),
            "options": self.options,
            "repeated": self.repeated,
            "seed": self.seed,
        }

    def parts(self, methods: Sequence[str], columns: Sequence[str]) -> Iterator[_Part]:
        height, width = self.dataset.images.shape[1:3]
        each = sum(MEASURES[name].calls for name in columns)
        again = sum(MEASURES[name].repeats for name in columns if name != "focus")
        for name in methods:
            forwards, gradients = METHODS[name].calls(
                min(height, width), **self.options.get(name, {})
            )
            explaining = forwards + 3 * gradients
            for first in range(0, len(self.dataset), _PART):
                count = min(_PART, len(self.dataset) - first)
                calls = count * (explaining + each)
                calls += max(0, min(self.repeated - first, count)) * again * explaining
                yield _Part(name, "images", first, count, max(calls, 1))
            if "focus" in columns:
                for first in range(0, self.repeated, _PART):
                    count = min(_PART, self.repeated - first)
                    yield _Part(name, "mosaics", first, count, max(4 * count * explaining, 1))

    def measure(
        self, part: _Part, columns: Sequence[str]
    ) -> tuple[pd.DataFrame, Float[np.ndarray, "b h w"]]:
        """Explain a part's images, and return its rows and its maps."""
        source = self.dataset if part.kind == "images" else self.mosaics
        method = METHODS[part.method]
        # Fewer images than a part has are filled up by the last one, whose rows are left out.
        index = np.arange(part.first, part.first + _PART).clip(max=part.first + part.count - 1)
        some = source.select(index)
        targets = self.targets[index] if part.kind == "images" else some.labels
        base = jax.random.fold_in(jax.random.key(self.seed), part.kind == "mosaics")
        keys = jax.vmap(functools.partial(jax.random.fold_in, base))(jnp.asarray(index))
        explain = self._explainer(part.method, method, keys)
        context = Context(
            model=self.model,
            method=explain,
            images=jnp.asarray(some.images),
            targets=np.asarray(targets),
            heatmaps=np.asarray(explain(self.model, some.images, targets)),
            masks=None if some.masks is None else np.asarray(some.masks),
            randomised=None,
            shuffled=self.shuffled,
            keys=keys,
        )
        if part.kind == "mosaics":
            wanted = ["focus"]
        else:
            repeating = part.first < self.repeated
            wanted = [n for n in columns if n != "focus" and (repeating or not MEASURES[n].repeats)]
        if "parameter_randomization" in wanted:
            context = context._replace(randomised=self.randomised)
        tables = []
        for name in wanted:
            values = np.asarray(MEASURES[name].function(context), np.float64)
            end = part.first + part.count
            if MEASURES[name].repeats:
                end = min(end, self.repeated)
            held = end - part.first
            tables.append(
                pd.DataFrame(
                    {
                        "image": index[:held],
                        "label": some.labels[:held],
                        "target": np.asarray(targets)[:held],
                        "method": part.method,
                        "metric": name,
                        "value": values[:held],
                    }
                )
            )
        return pd.concat(tables, ignore_index=True), context.heatmaps

    def _explainer(self, name: str, method: Method, keys: jax.Array) -> Callable:
        options: dict[str, Any] = dict(self.options.get(name, {}))
        if method.random:
            options["key"] = keys
        if method.needs != "nothing":
            options["chunk_size"] = self.chunk_size
        return functools.partial(method.heatmap, **options)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _choose_methods(names: Sequence[str] | None, model: Any) -> list[str]:
    if names is None:
        return [name for name, method in METHODS.items() if method.suits(model)]
    for name in names:
        if not METHODS[name].suits(model):
            raise ValueError(
                f"methods must suit the model: {name} needs {METHODS[name].needs}, which a "
                f"{type(model).__name__} does not have"
            )
    return list(dict.fromkeys(names))


def _choose_measures(names: Sequence[str] | None, run: _Run) -> list[str]:
    if names is None:
        return [name for name, measure in MEASURES.items() if run.has(measure)]
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"measures must be among {', '.join(MEASURES)}, got {name!r}")
        if not run.has(MEASURES[name]):
            wanted = NEEDS[MEASURES[name].needs]
            raise ValueError(f"measures must have what they need: {name} needs {wanted}")
    return [name for name in MEASURES if name in names]
