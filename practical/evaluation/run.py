"""A whole benchmark: every explanation by every metric on a data set, into one folder.

The work is cut into parts, one explanation on a few images each, and every part is a file that is
there whole or not at all. So a run can be stopped at any moment and goes on where it was, and no
row is lost or doubled. Each device computes a part at a time, and nothing depends on how many
devices or processes there are.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm.auto import tqdm

from practical import metrics
from practical._files import atomic_path, fingerprint, fingerprint_images
from practical._inputs import ChunkSize, check_chunk_size, check_count
from practical._jit import asked_precision
from practical._outputs import predicted_classes
from practical._sharding import device_mesh, spread
from practical._study import Parts, fingerprint_model, study_folder, write_rows
from practical.attribution import METHODS, Method
from practical.data import Dataset, mosaics
from practical.data.files import check_readable
from practical.evaluation.choices import choose_measures, choose_methods, method_options
from practical.evaluation.hosts import Job, Team
from practical.evaluation.measures import MEASURES, Context
from practical.models import check_rows, predict

COLUMNS = ("image", "label", "target", "method", "metric", "value")
_SHOWN = 8  # images whose maps are kept, as pictures for the report
_PART = 16  # images a part; one shape for all of them, so that each method compiles once


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
    chunk_size: ChunkSize = 32,
    devices: Sequence[Any] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Measure explanations of what `model` says of each image, and write the rows to a folder.

    Stopped, even by a kill, it goes on where it was when it is called again. More methods may be
    added to a folder; anything else that differs is refused. Under `join` several processes share
    the work, and what a lost one leaves; all of them must see the folder.

    Args:
        dataset: All of its images are used.
        model: Images in [0, 1] to logits. The class that it predicts is explained.
        out: The folder. `results.csv` is written when all is done, by process 0.
        methods: Names in `attribution.METHODS`; by default all that suit the model.
        measures: Names in `MEASURES`; by default all that data set and model have what they need
            for.
        shuffled: A model of the same classes, trained on shuffled labels, for
            "label_randomization".
        repeated: Images for the measures that explain each image several times, from the first.
        seed: Decides all random numbers.
        chunk_size: Images in flight ("auto": as many as fit) on each device, explained or measured.
        devices: Of this process, each of which computes 16 images at a time; by default all.
        progress: Show a bar with the time left, in process 0.

    Returns:
        A row per image, method and metric, with the columns `COLUMNS`; none in the processes
        beside process 0. "focus" is measured on mosaics of the images, and its image is the
        mosaic's number.

    Raises:
        ValueError: If an argument breaks its rule, or the folder holds results of other settings.
        RuntimeError: If another run is writing to the folder, or not all processes see it.
    """
    out = Path(out)
    run = _Run(dataset, model, shuffled, repeated, seed, chunk_size, devices)
    names = choose_methods(methods, model)
    columns = choose_measures(measures, dataset, model, shuffled)
    settings = run.settings(columns)
    parts = {part.file: part for part in run.parts(names, columns)}
    files = Parts(out, settings)
    team = Team(out, {**settings, "methods": names})
    with (
        team.leading(lambda: _folder(out, settings, files, run, names, progress)),
        tqdm(
            unit="call", unit_scale=True, disable=not progress or team.index > 0,
            dynamic_ncols=True,
        ) as bar,
    ):  # fmt: skip
        work = {name: Job((part.kind, part.first), part.calls) for name, part in parts.items()}
        for share in team.shares(work):
            _show_start(bar, parts, share, files)
            for step in run.steps((parts[name] for name in share), columns):
                bar.set_description(step[0].method)
                for part, rows, maps in run.measure(step, columns):
                    if part.kind == "images" and part.first == 0:  # for the report
                        path = out / "maps" / f"{part.method}.npy"
                        with atomic_path(path) as temporary, temporary.open("wb") as file:
                            np.save(file, maps[:_SHOWN])
                    files.write(part.file, rows)
                    bar.update(part.calls)
        if team.index > 0:
            return pd.DataFrame(columns=list(COLUMNS))
        tables = [files.read(name) for name in parts]
        rows = pd.concat([table for table in tables if len(table)])
        order = {name: i for i, name in enumerate((*METHODS, *MEASURES))}
        rows = rows.sort_values(
            ["method", "metric", "image"], key=lambda c: c.map(order) if c.name != "image" else c
        ).reset_index(drop=True)
        write_rows(out / "results.csv", rows)
    return rows


@contextlib.contextmanager
def _folder(
    out: Path,
    settings: Mapping[str, Any],
    files: Parts,
    run: "_Run",
    methods: Sequence[str],
    progress: bool,
) -> Iterator[None]:
    """Hold the folder, with all that can fail of it behind."""
    with study_folder(out, settings):
        if not files.names():
            check_readable(run.dataset.images, progress=progress)
            run.check_models()
        for name in methods:
            first = _Part(name, "images", 0, 1, 1).file
            if first in files and not _is_array(out / "maps" / f"{name}.npy"):
                files.set_aside(first, "its maps are lost or damaged")
        yield


def _is_array(path: Path) -> bool:
    try:
        np.load(path)
    except (OSError, ValueError, EOFError):
        return False
    return True


def _show_start(bar: tqdm, parts: dict[str, "_Part"], share: Sequence[str], files: Parts) -> None:
    """Let the bar stand at what is done, with this process's share before it."""
    there = files.names()
    done = sum(part.calls for part in parts.values() if part.file in there)
    bar.total = done + sum(parts[name].calls for name in share)
    bar.n = bar.initial = done  # the time left is reckoned from what this run does
    bar.refresh()


class _Part(NamedTuple):
    method: str
    kind: str  # "images", or "mosaics" for the focus
    first: int  # image or mosaic
    count: int
    calls: int  # of the model, about: a gradient counts as three

    @property
    def file(self) -> str:
        return f"{self.method}-{self.kind}-{self.first:06d}.csv"


class _Run:
    """One benchmark: what is measured, and what all of its parts share."""

    def __init__(self, dataset, model, shuffled, repeated, seed, chunk_size, devices):
        self.dataset, self.model, self.shuffled = dataset, model, shuffled
        self.mesh = device_mesh(devices)
        self._held: tuple[bytes, Any] = b"", None
        self._predicted: dict[bytes, np.ndarray] = {}
        self.repeated = min(check_count("repeated", repeated), len(dataset))
        self.chunk_size: ChunkSize = check_chunk_size(chunk_size)
        self.seed = check_count("seed", seed, least=0)
        self.options = method_options(*dataset.images.shape[1:3])

    @functools.cached_property
    def randomised(self) -> Any:
        """The model with every layer shuffled: what is left of it is its architecture."""
        model, key = self.model, jax.random.key(self.seed)
        for number, layer in enumerate(metrics.classifier_layers(model).values()):
            model = layer(model, jax.random.fold_in(key, number))
        return spread(model, self.mesh, rows=False)

    @functools.cached_property
    def mosaics(self) -> Dataset:
        return mosaics(self.dataset, count=self.repeated, seed=self.seed)

    @property
    def predicted_together(self) -> int:
        return _PART if self.chunk_size == "auto" else min(self.chunk_size, _PART)

    def check_models(self) -> None:
        """Raise ValueError if a model is in training mode."""
        for name, model in (("model", self.model), ("shuffled", self.shuffled)):
            if model is not None:
                try:
                    check_rows(model, self.dataset.images, chunk_size=self.predicted_together)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error

    @functools.cached_property
    def everywhere(self) -> tuple[Any, Any]:
        """The model and the one trained on shuffled labels, on all devices."""
        return tuple(spread(model, self.mesh, rows=False) for model in (self.model, self.shuffled))

    def settings(self, columns: Sequence[str]) -> dict[str, Any]:
        """Return all that a row depends on, but for the method."""
        image = self.dataset.images.shape[1:]
        return {
            "dataset": self.dataset.name.partition(":")[0],  # a folder may be moved
            "images": list(self.dataset.images.shape),
            "content of the images": fingerprint_images(self.dataset.images),
            "labels": fingerprint(self.dataset.labels),
            "model": f"{type(self.model).__name__} {fingerprint_model(self.model, image)}",
            "shuffled": (
                None if self.shuffled is None else fingerprint_model(self.shuffled, image)
            ),
            "precision": asked_precision() or "float32",  # of products, the model's or not
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
                if first and not self.wanted("images", first, columns):
                    continue  # the first images are explained in any case, for the report
                count = min(_PART, len(self.dataset) - first)
                calls = count * (explaining + each)
                calls += max(0, min(self.repeated - first, count)) * again * explaining
                yield _Part(name, "images", first, count, max(calls, 1))
            if "focus" in columns:
                for first in range(0, self.repeated, _PART):
                    count = min(_PART, self.repeated - first)
                    yield _Part(name, "mosaics", first, count, max(4 * count * explaining, 1))

    def wanted(self, kind: str, first: int, columns: Sequence[str]) -> list[str]:
        """Return the measures of the images or mosaics from `first` on."""
        if kind == "mosaics":
            return ["focus"]
        again = first < self.repeated
        return [n for n in columns if n != "focus" and (again or not MEASURES[n].repeats)]

    def steps(self, parts: Iterable[_Part], columns: Sequence[str]) -> list[list[_Part]]:
        """Return the parts, as many together as there are devices, all methods of some images."""
        alike = {}
        for part in parts:
            measures = self.wanted(part.kind, part.first, columns)
            measured_alike = part.method, part.kind, *measures
            alike.setdefault(measured_alike, []).append(part)
        size = self.mesh.size
        steps = [some[i : i + size] for some in alike.values() for i in range(0, len(some), size)]
        return sorted(steps, key=lambda step: (step[0].kind, step[0].first))

    def measure(
        self, step: Sequence[_Part], columns: Sequence[str]
    ) -> list[tuple[_Part, pd.DataFrame, Float[np.ndarray, "b h w"]]]:
        """Explain the images of some parts, one a device, and return their rows and maps."""
        kind, name = step[0].kind, step[0].method
        index, some, images, targets = self._read(step)
        base = jax.random.fold_in(jax.random.key(self.seed), kind == "mosaics")
        keys = jax.vmap(functools.partial(jax.random.fold_in, base))(jnp.asarray(index))
        explain = self._explainer(name, METHODS[name], keys)
        model, shuffled = self.everywhere
        context = Context(
            model=model,
            method=explain,
            images=images,
            targets=targets,
            heatmaps=np.asarray(explain(model, images, targets)),
            masks=None if some.masks is None else np.asarray(some.masks),
            randomised=None,
            shuffled=shuffled,
            keys=keys,
            chunk_size=self.chunk_size,
        )
        wanted = self.wanted(kind, step[0].first, columns)
        if "parameter_randomization" in wanted:
            context = context._replace(randomised=self.randomised)
        values = {n: np.asarray(MEASURES[n].function(context), np.float64) for n in wanted}
        found = []
        for place, part in enumerate(step):
            tables = []
            for metric in wanted:
                end = part.first + part.count
                if MEASURES[metric].repeats:
                    end = min(end, self.repeated)
                held = slice(place * _PART, place * _PART + end - part.first)
                tables.append(
                    pd.DataFrame(
                        {
                            "image": index[held],
                            "label": some.labels[held],
                            "target": targets[held],
                            "method": name,
                            "metric": metric,
                            "value": values[metric][held],
                        }
                    )
                )
            maps = context.heatmaps[place * _PART :][: part.count]
            rows = (
                pd.concat(tables, ignore_index=True)
                if tables
                else pd.DataFrame(columns=list(COLUMNS))
            )
            found.append((part, rows, maps))
        return found

    def _read(self, step: Sequence[_Part]) -> tuple[np.ndarray, Dataset, jax.Array, np.ndarray]:
        """Return the numbers of a step's images, the images, on their devices, and the targets.

        Fewer images than the devices take are filled up by the last one, whose rows are left out.
        """
        kind = step[0].kind
        index = [np.arange(p.first, p.first + _PART).clip(max=p.first + p.count - 1) for p in step]
        index = np.pad(np.concatenate(index), (0, _PART * (self.mesh.size - len(step))), "edge")
        called = kind.encode() + index.tobytes()
        if self._held[0] != called:  # the next method has the same images
            some = (self.dataset if kind == "images" else self.mosaics).select(index)
            targets = some.labels
            if kind == "images":
                targets = np.concatenate(
                    [self._predict(index[i : i + _PART], some.images[i : i + _PART])
                     for i in range(0, len(index), _PART)]
                )  # fmt: skip
            images = spread(np.asarray(some.images), self.mesh, rows=True)
            self._held = called, (index, some, images, np.asarray(targets))
        return self._held[1]

    def _predict(self, index: np.ndarray, images: Any) -> np.ndarray:
        """Return the classes that the model predicts, which are explained."""
        called = index.tobytes()
        if called not in self._predicted:
            try:
                logits = predict(self.model, images, chunk_size=self.predicted_together)
                self._predicted[called] = predicted_classes(logits)
            except ValueError as error:
                raise ValueError(f"in images {index[0]} to {index[-1]}: {error}") from error
        return self._predicted[called]

    def _explainer(self, name: str, method: Method, keys: jax.Array) -> Callable:
        options: dict[str, Any] = dict(self.options.get(name, {}))
        if method.random:
            options["key"] = keys
        if method.needs != "nothing":
            options["chunk_size"] = self.chunk_size
        return functools.partial(method.heatmap, **options)
