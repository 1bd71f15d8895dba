"""What a benchmark found: a summary with intervals, who agrees with the truth, and a page."""

import base64
import html
import io
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from practical import plotting
from practical._files import atomic_path
from practical.attribution import METHODS
from practical.data import Dataset
from practical.evaluation.measures import MEASURES
from practical.metrics import bootstrap_interval, holm, permutation_test, rank_agreement

TRUTHS = ("relevance_rank", "relevance_mass", "pointing_game", "focus")
_CONTROL = "random"


def summarise(rows: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Return each method's mean by each metric, its interval, and how it differs from noise.

    Args:
        rows: What `evaluation.evaluate` returned.
        level: Confidence of the bootstrap interval over images.
        seed: Decides the bootstrap and the permutations.

    Returns:
        A row per method and metric: `mean`, `low` and `high` (NaN below 8 images), `images`; and
        `p_random`, the paired
        permutation test against the control "random", Holm-corrected over the metric's methods.

    Raises:
        ValueError: If rows are missing or doubled, so that methods have other images.
    """
    key = jax.random.key(seed)
    tables = []
    for metric, table in _by_metric(rows).items():
        values = table.to_numpy(np.float64)
        interval = bootstrap_interval(values, level=level, key=key)
        others = [m for m in table.columns if m != _CONTROL]
        p = pd.Series(np.nan, index=table.columns)
        if _CONTROL in table and others and len(values) > 1:
            control = np.repeat(table[[_CONTROL]].to_numpy(), len(others), axis=1)
            tests = permutation_test(table[others].to_numpy(), control, key=key)
            p[others] = np.asarray(holm(tests.p_value))
        tables.append(
            pd.DataFrame(
                {
                    "method": table.columns,
                    "metric": metric,
                    "mean": interval.mean,
                    "low": interval.low,
                    "high": interval.high,
                    "images": len(values),
                    "p_random": p.to_numpy(),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def agreement(rows: pd.DataFrame, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Return how far each metric ranks the methods as the ground truth does.

    Args:
        rows: What `evaluation.evaluate` returned.
        level: Confidence of the bootstrap interval over images.
        seed: Decides the bootstrap.

    Returns:
        A row per metric and truth: Kendall's `tau` between the methods' means, with `low` and
        `high`, over the images that both were measured on.

    Raises:
        ValueError: If rows are missing or doubled, so that methods have other images.
    """
    tables = {
        metric: table * (1 if MEASURES[metric].higher else -1)
        for metric, table in _by_metric(rows).items()
        if MEASURES[metric].higher is not None
    }
    found = []
    for truth in (name for name in TRUTHS if name in tables):
        for metric, table in tables.items():
            if metric == truth:
                continue
            both = table.index.intersection(tables[truth].index)
            if len(both) < 2 or table.shape[1] < 2:
                continue
            result = rank_agreement(
                table.loc[both].to_numpy(), tables[truth].loc[both].to_numpy(),
                level=level, key=jax.random.key(seed),
            )  # fmt: skip
            found.append(
                {
                    "metric": metric, "truth": truth, "tau": float(result.tau),
                    "low": float(result.low), "high": float(result.high), "images": len(both),
                }
            )  # fmt: skip
    return pd.DataFrame(found, columns=["metric", "truth", "tau", "low", "high", "images"])


def write_report(
    rows: pd.DataFrame, dataset: Dataset, model: Any, out: str | Path, *, seed: int = 0
) -> Path:
    """Write `summary.csv`, `agreement.csv`, `table.md` and `report.html`, and return the page.

    Args:
        rows: What `evaluation.evaluate` returned.
        dataset: The one that was evaluated on.
        model: The one that was explained.
        out: The folder of that run.
        seed: Decides bootstrap and permutations.
    """
    out = Path(out)
    summary, agreeing = summarise(rows, seed=seed), agreement(rows, seed=seed)
    table = markdown(summary)
    pictures = {"maps": _maps(dataset, rows, out), "means": _means(summary)}
    if len(agreeing):
        pictures["agreement"] = _agreement(agreeing)
    page = _page(summary, agreeing, pictures, rows, dataset, model)
    for name, text in (
        ("summary.csv", summary.to_csv(index=False)),
        ("agreement.csv", agreeing.to_csv(index=False)),
        ("table.md", table),
        ("report.html", page),
    ):
        with atomic_path(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for figure in pictures.values():
        plt.close(figure)
    return out / "report.html"


def markdown(summary: pd.DataFrame, *, metrics: tuple[str, ...] = ()) -> str:
    """Return the means with their intervals as a Markdown table, methods by metrics.

    Args:
        summary: What `summarise` returned.
        metrics: The columns; by default all.
    """
    columns = [m for m in MEASURES if m in set(summary.metric) and (not metrics or m in metrics)]
    lines = [
        "| method | " + " | ".join(f"{m} {_arrow(m)}".strip() for m in columns) + " |",
        "| --- |" + " --- |" * len(columns),
    ]
    cells = summary.set_index(["method", "metric"])
    for method in _ranked(summary):
        found = [cells.loc[(method, m)] for m in columns]
        texts = [f"{c['mean']:.3g}" + (f" ({_ends(c)})" if _ends(c) else "") for c in found]
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    return "\n".join([*lines, ""])


def _by_metric(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each metric's values, images by methods, and make sure that none is missing."""
    tables = {}
    for metric in (name for name in MEASURES if name in set(rows.metric)):
        some: Any = rows[rows.metric == metric]
        if some.duplicated(["image", "method"]).any():
            raise ValueError(f"rows must hold each image once for each method, {metric} does not")
        table = some.pivot(index="image", columns="method", values="value")
        if table.isna().any(axis=None):
            raise ValueError(
                f"rows must hold the same images for all methods, and finite values; {metric} "
                f"does not, first for {table.columns[table.isna().any()][0]}"
            )
        tables[metric] = table[[m for m in METHODS if m in table]]
    return tables


def _ranked(summary: pd.DataFrame) -> list[str]:
    """Return the methods, those that the truth ranks highest first."""
    first = next((t for t in TRUTHS if t in set(summary.metric)), summary.metric.iloc[0])
    means: Any = summary[summary.metric == first].set_index("method")["mean"]
    return list(means.sort_values(ascending=MEASURES[first].higher is False).index)


def _predictions(rows: pd.DataFrame) -> Any:
    """Return a row per image with the class that the model predicts for it.

    The rows of the focus are about mosaics, which are numbered like images.
    """
    of_images: Any = rows[rows.metric != "focus"]
    return of_images.drop_duplicates("image")


def _arrow(metric: str) -> str:
    return {True: "↑", False: "↓", None: ""}[MEASURES[metric].higher]


# --- pictures ------------------------------------------------------------------------------------


def _maps(dataset: Dataset, rows: pd.DataFrame, out: Path) -> Figure:
    names = [m for m in METHODS if m in set(rows.method)]
    maps = {name: np.load(out / "maps" / f"{name}.npy") for name in names}
    shown = len(next(iter(maps.values())))
    targets = _predictions(rows).set_index("image").target
    titles = [dataset.class_names[targets[i]] if i in targets else "" for i in range(shown)]
    figure = plotting.plot_methods(dataset.images[:shown], maps, titles)
    figure.suptitle("Each explanation of the same predictions, on a scale of its own")
    return figure


def _means(summary: pd.DataFrame) -> Figure:
    metrics = [m for m in MEASURES if m in set(summary.metric)]
    methods = _ranked(summary)[::-1]
    columns = min(6, len(metrics))
    lines = -(-len(metrics) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(1.2 + 2.3 * columns, 0.9 + (0.4 + 0.17 * len(methods)) * lines),
        sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for ax in grid.flat[len(metrics) :]:
        ax.set_visible(False)
    for ax, metric in zip(grid.flat, metrics, strict=False):
        cells = summary[summary.metric == metric].set_index("method").loc[methods]
        for place, (method, cell) in enumerate(cells.iterrows()):
            control = METHODS[str(method)].needs == "nothing"
            colour = "grey" if control else "tab:blue"
            ax.plot([cell["low"], cell["high"]], [place, place], color=colour, lw=1)
            ax.plot(cell["mean"], place, "o", color=colour, ms=3.5)
        if _CONTROL in cells.index:
            ax.axvline(cells["mean"][_CONTROL], color="grey", lw=0.6, ls=":")
        ax.set_title(f"{metric} {_arrow(metric)}", fontsize=9)
        ax.set_yticks(range(len(methods)), methods, fontsize=7)
        ax.tick_params(axis="x", labelsize=7)
    figure.suptitle("Means and 95 % intervals; ↑ high is good; controls in grey; dotted: random")
    return figure


def _agreement(agreeing: pd.DataFrame) -> Figure:
    truths = [t for t in TRUTHS if t in set(agreeing.truth)]
    metrics = [m for m in MEASURES if m in set(agreeing.metric)][::-1]
    figure, axes = plt.subplots(
        1, len(truths), figsize=(1.5 + 2.6 * len(truths), 0.9 + 0.24 * len(metrics)),
        sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for ax, truth in zip(axes[0], truths, strict=True):
        some: Any = agreeing[agreeing.truth == truth]
        for cell in some.to_dict("records"):
            place = metrics.index(cell["metric"])
            ax.plot([cell["low"], cell["high"]], [place, place], color="tab:blue", lw=1)
            ax.plot(cell["tau"], place, "o", color="tab:blue", ms=4)
        ax.axvline(0, color="grey", lw=0.6)
        ax.set(title=f"truth: {truth}", xlim=(-1.05, 1.05), xlabel="Kendall's τ")
        ax.set_yticks(range(len(metrics)), metrics, fontsize=8)
    figure.suptitle("Which metrics rank the methods as the truth does? 1: the same order")
    return figure


# --- the page ------------------------------------------------------------------------------------

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; font-size: 12px }
td, th { padding: 2px 6px; text-align: right }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: white }
tr:nth-child(even) td { background: #f4f4f4 }
img { max-width: 100% }
.wide { overflow-x: auto }
"""


def _page(summary, agreeing, pictures, rows, dataset, model) -> str:
    predicted = _predictions(rows)
    share = (predicted.label == predicted.target).mean()
    right = f", right on {share:.1%} of {len(predicted)}" if len(predicted) else ""
    about = (
        f"{dataset.name}: {len(dataset)} images of {dataset.images.shape[1]}x"
        f"{dataset.images.shape[2]} pixels; {type(model).__name__}{right}; "
        f"{rows.method.nunique()} methods, {rows.metric.nunique()} metrics, {len(rows):,} values. "
        "What is explained is the class that the network predicts."
    )
    metrics = [m for m in MEASURES if m in set(summary.metric)]
    cells = summary.set_index(["method", "metric"])
    head = "".join(f"<th>{html.escape(f'{m} {_arrow(m)}')}</th>" for m in metrics)
    body = "".join(
        f"<tr><td>{html.escape(method)}</td>"
        + "".join(_cell(cells.loc[(method, metric)]) for metric in metrics)
        + "</tr>"
        for method in _ranked(summary)
    )
    sections = [
        "<h2>The maps</h2>",
        _image(pictures["maps"], "each method's maps of the first images"),
        "<h2>The means</h2><p>With 95 % bootstrap intervals over images (none below 8 images). ↑: "
        "high is good, ↓: low is good. In gray: values that do not differ from random noise by a "
        "paired permutation test (5 %, Holm's correction over the methods).</p>",
        _image(pictures["means"], "means and intervals"),
        f'<div class="wide"><table><tr><th>method</th>{head}</tr>{body}</table></div>',
    ]
    if "agreement" in pictures:
        sections += [
            "<h2>Which metrics rank the methods as the truth does?</h2><p>Kendall's τ between "
            "the methods' means by a metric and by the ground truth, with 95 % bootstrap "
            "intervals over images. The truth is where the object is, which is where the evidence "
            "is only if the network looks nowhere else.</p>",
            _image(pictures["agreement"], "rank agreement with the truth"),
            '<div class="wide">'
            + agreeing.round(2).to_html(index=False, border=0, na_rep="")
            + "</div>",
        ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Explanations, measured on {html.escape(dataset.name)}</title>"
        f"<style>{_STYLE}</style><h1>Explanations, measured</h1><p>{html.escape(about)}</p>"
        + "\n".join(sections)
        + "</html>\n"
    )


def _cell(cell: Any) -> str:
    noise = ' style="color:#999"' if cell["p_random"] > 0.05 else ""
    return f"<td{noise}>{cell['mean']:.3g}<br><small>{_ends(cell)}</small></td>"


def _ends(cell: Any) -> str:
    """Return an interval as text, empty where there are too few images for one."""
    return "" if np.isnan(cell["low"]) else f"{cell['low']:.3g} to {cell['high']:.3g}"


def _image(figure: Figure, alt: str) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
