"""The experiments: what their rows say, that they go on where they were, and their figures."""

import re
from dataclasses import replace

import filelock
import jax
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from PIL import Image

from practical.__main__ import main
from practical.data import Dataset
from practical.explainfix import figures, studies
from practical.models import new_resnet, predict
from practical.training import accuracy
from tests.oracles import refuses
from tests.test_folded import random_classifier

PRUNING = {"percents": (0, 50), "fills": ("none", "fill_zero"), "epochs": 1, "seeds": 2}


def data(count: int, seed: int, model) -> Dataset:
    """Return images with the labels that the model gives them, but for every fourth."""
    rng = np.random.default_rng(seed)
    images = rng.random((count, 8, 8, 3), np.float32)
    labels = predict(model, images).argmax(1)
    labels[::4] = (labels[::4] + 1) % 3
    return Dataset(images, labels.astype(np.int32), ("a", "b", "c"), name="made")


@pytest.fixture(scope="module")
def model():
    return random_classifier(widths=(6,), stem_width=6)


@pytest.fixture(scope="module")
def splits(model):
    return data(12, 0, model), data(20, 1, model)


@pytest.fixture(scope="module")
def pruned(model, splits, tmp_path_factory):
    out = tmp_path_factory.mktemp("pruned")
    return studies.prune_study(model, *splits, out, batch_size=4, progress=False, **PRUNING)


@pytest.fixture(scope="module")
def fixed(model, splits, tmp_path_factory):
    out = tmp_path_factory.mktemp("fixed")
    return studies.fixed_study(
        model, *splits, out, initialisations=("unchanged", "kaiming", "guided_steer"), epochs=1,
        seeds=2, batch_size=4, progress=False,
    )  # fmt: skip


def test_zeroing(model, splits, tmp_path):
    percents = (0, 40, 100)
    rows = studies.zero_filters_study(
        model, *splits, tmp_path, percents=percents, seeds=2, progress=False
    )
    assert list(rows.groupby("order", sort=False).size().items()) == [
        ("least_salient", 3), ("most_salient", 3), ("smallest", 3), ("random", 6),
    ]  # fmt: skip
    whole = accuracy(model, splits[1])
    assert (rows.loc[rows["percent"] == 0, "accuracy"] == whole).all()
    none = rows.loc[rows["percent"] == 100, "accuracy"]
    assert none.nunique() == 1
    count = round(whole * 20)
    expected = scipy.stats.binomtest(count, 20).proportion_ci(method="wilson")
    np.testing.assert_allclose(rows.loc[0, ["low", "high"]].astype(float), expected, rtol=1e-6)
    pd.testing.assert_frame_equal(rows, pd.read_csv(tmp_path / "results.csv"))


def test_pruning(model, pruned):
    assert len(pruned) == 2 * 3 * 2  # seeds, (percent, fill) without (0, fill_zero), epochs
    assert set(pruned["epoch"]) == {0, 1}
    sizes = pruned.groupby("percent")[["parameters", "flops"]].first()
    assert (sizes.loc[50] < sizes.loc[0]).all()
    assert (pruned["step_seconds"] > 0).all()
    assert pruned["accuracy"].between(pruned["low"], pruned["high"]).all()


def test_fixed_filters(model, fixed):
    assert len(fixed) == 3 * 2 * 2 * 2 * 2
    spatial = sum(k.size for k in model.kernels().values() if k.shape[0] > 1)
    learned = fixed.groupby("filters")["learned"].unique()
    assert learned["learned"][0] - learned["fixed"][0] == spatial
    begun = fixed[(fixed["epoch"] == 0) & (fixed["initialisation"] == "unchanged")]
    assert begun[begun["start"] == "pretrained"]["accuracy"].nunique() == 1
    # Fixed and learned begin alike.
    by = fixed[fixed["epoch"] == 0].groupby(["initialisation", "start", "seed"])["accuracy"]
    assert (by.nunique() == 1).all()


def test_fixed_filters_are_fixed_and_learned_ones_are_not(model, splits, tmp_path, monkeypatch):
    found = []
    fit = studies.fit

    def spy(network, *arguments, **options):
        fitted = fit(network, *arguments, **options)
        found.append((options["freeze"], network.kernels(), fitted.model.kernels()))
        return fitted

    monkeypatch.setattr(studies, "fit", spy)
    studies.fixed_study(
        model, *splits, tmp_path, initialisations=("kaiming",), starts=("scratch",), epochs=1,
        seeds=1, batch_size=4, progress=False,
    )  # fmt: skip
    (fixed, before, after), (learned, start, end) = found
    assert fixed is not None
    assert learned is None
    for name in before:
        np.testing.assert_array_equal(before[name], start[name])
        same = np.array_equal(before[name], after[name])
        assert same == (before[name].shape[0] > 1)
        assert not np.array_equal(start[name], end[name])


def test_a_stopped_run_goes_on_and_ends_the_same(model, splits, pruned, tmp_path, monkeypatch):
    calls = []
    prune = studies.channel_prune

    def stops(*arguments, **options):
        calls.append(arguments[3])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return prune(*arguments, **options)

    monkeypatch.setattr(studies, "channel_prune", stops)
    options = {"batch_size": 4, "progress": False, **PRUNING}
    with pytest.raises(KeyboardInterrupt):
        studies.prune_study(model, *splits, tmp_path, **options)
    assert len(list((tmp_path / "parts").glob("*.csv"))) == 2
    assert not (tmp_path / "results.csv").exists()
    rows = studies.prune_study(model, *splits, tmp_path, **options)
    assert len(calls) == 3 + 4  # the third part and the three after it
    timed = ["step_seconds"]
    pd.testing.assert_frame_equal(rows.drop(columns=timed), pruned.drop(columns=timed))
    assert studies.prune_study(model, *splits, tmp_path, **options).equals(rows)
    assert len(calls) == 7


def test_a_folder_of_other_settings_or_in_use_is_refused(model, splits, tmp_path):
    def run(network, percents=(0, 50), seeds=1):
        return studies.zero_filters_study(
            network, *splits, tmp_path, percents=percents, seeds=seeds, progress=False
        )

    assert len(run(model)) == 8
    assert len(run(model, seeds=2)) == 10  # more seeds may be added
    with refuses("holds results of other settings, which must not be mixed .percents: .0.0, 50.0"):
        run(model, percents=(0, 60))
    with refuses("holds results of other settings, .*model: "):
        run(model.reset(key=jax.random.key(1)))
    later = replace(
        splits[1], images=np.concatenate([splits[1].images[:-1], [splits[1].images[0]]])
    )
    with refuses("holds results of other settings, .*validation: "):
        studies.zero_filters_study(
            model, splits[0], later, tmp_path, percents=(0, 50), seeds=1, progress=False
        )
    with refuses("holds results of other settings, .*experiment: zero-filters there, fixed here"):
        studies.fixed_study(model, *splits, tmp_path, progress=False)
    with filelock.FileLock(tmp_path / ".lock"), refuses("another run is writing", RuntimeError):
        run(model)


def test_bad_arguments_are_refused_before_anything_is_computed(model, splits, tmp_path):
    with refuses(r"percent must be a number in \[0, 100\], got 101"):
        studies.zero_filters_study(model, *splits, tmp_path / "a", percents=(0, 101))
    with refuses(
        r"percents must be numbers of at most \d+\.\d+, where every layer keeps a channel"
    ):
        studies.prune_study(model, *splits, tmp_path / "a", percents=(0, 100))
    with refuses("initialisations must be some of unchanged, .*got .'haar',"):
        studies.fixed_study(model, *splits, tmp_path / "a", initialisations=("haar",))
    with refuses("starts must be some of pretrained, scratch, got 'scratch'"):
        studies.fixed_study(model, *splits, tmp_path / "a", starts="scratch")
    with refuses("fills must be some of none, reset, fill_zero, got ()"):
        studies.prune_study(model, *splits, tmp_path / "a", fills=())
    renamed = replace(splits[1], class_names=("a", "b", "x"))
    for study in (studies.zero_filters_study, studies.prune_study, studies.fixed_study):
        with refuses("validation must have the model's classes, a, b, c; got a, b, x"):
            study(model, splits[0], renamed, tmp_path / "a")
    with refuses("percents must hold at least one, got none"):
        studies.zero_filters_study(model, *splits, tmp_path / "a", percents=())
    assert not (tmp_path / "a").exists()


def test_a_run_that_failed_at_once_does_not_stop_the_corrected_one(model, splits, tmp_path):
    def run(learning_rate):
        return studies.fixed_study(
            model, *splits, tmp_path, initialisations=("kaiming",), starts=("scratch",), epochs=1,
            seeds=1, batch_size=4, learning_rate=learning_rate, progress=False,
        )  # fmt: skip

    with refuses("learning_rate must be a positive number, got nan"):
        run(float("nan"))
    assert len(run(0.01)) == 4
    with refuses("holds results of other settings, .*learning_rate: 0.01 there, 0.02 here"):
        run(0.02)


def test_a_summary_has_students_interval_over_seeds():
    rows = pd.DataFrame(
        {"order": "b a a a".split(), "accuracy": [0.5, 0.6, 0.7, 0.8], "low": 0.4, "high": 0.9}
    )
    table = studies.summarise(rows, ["order"]).set_index("order")
    np.testing.assert_allclose(
        table.loc["b", ["accuracy", "low", "high"]].tolist(), [0.5, 0.4, 0.9]
    )
    interval = scipy.stats.t.interval(0.95, 2, 0.7, scipy.stats.sem([0.6, 0.7, 0.8]))
    np.testing.assert_allclose(table.loc["a", ["low", "high"]].tolist(), interval)
    assert table["runs"].tolist() == [1, 3]


def test_figures(model, splits, pruned, fixed, tmp_path):
    zeroed = studies.zero_filters_study(
        model, *splits, tmp_path, percents=(0, 60), seeds=2, progress=False
    )
    labels = [t.get_text() for t in figures.plot_zeroed(zeroed).axes[0].get_legend().get_texts()]
    assert labels == ["least salient first", "most salient first", "smallest first", "at random"]
    accuracies, sizes, _ = figures.plot_pruned(pruned).axes
    assert {"none", "fill_zero", "fine-tuned", "only pruned"} <= {
        text.get_text() for text in accuracies.get_legend().get_texts()
    }
    assert max(line.get_ydata().max() for line in sizes.lines if len(line.get_ydata())) == 1
    panels = figures.plot_fixed(fixed).axes
    assert [ax.get_title() for ax in panels] == [
        "the rest begins pretrained",
        "the rest begins random",
    ]
    heights = [bar.get_height() for bar in panels[0].patches if bar.get_width()]
    last = fixed[(fixed["epoch"] == 1) & (fixed["start"] == "pretrained")]
    means = last.groupby(["filters", "initialisation"])["accuracy"].mean()
    np.testing.assert_allclose(sorted(heights)[-6:], sorted(means), atol=1e-6)
    # A run of fewer epochs beside it still shows its own last one.
    shorter = fixed[(fixed["start"] == "pretrained") | (fixed["epoch"] == 0)]
    assert len(figures.plot_fixed(shorter).axes) == 2
    turned = figures.plot_fixed(fixed.iloc[::-1]).axes
    for ax in turned:
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["fixed", "learned"]
    ticks = [[t.get_text() for t in ax.get_xticklabels()] for ax in turned]
    assert ticks[0] == ticks[1]


def test_the_command_writes_tables_and_a_figure_and_says_what_is_wrong(tmp_path, capsys):
    arguments = [
        "explainfix", "zero-filters", "--training", "4", "--validation", "6", "--percents", "0",
        "100", "--seeds", "1", "--chunk-size", "4", "--out", str(tmp_path),
    ]  # fmt: skip
    assert main(arguments) == 0
    written = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert written == {
        "parts", "results.csv", "settings.json", "summary.csv", "zero-filters.png"
    }  # fmt: skip
    assert len(pd.read_csv(tmp_path / "summary.csv")) == 8
    assert "least_salient" in capsys.readouterr().out
    assert main([*arguments, "--training", "0"]) == 1
    assert "--training must be an integer of at least 1, got 0" in capsys.readouterr().err
    assert main([*arguments, "--training", "5"]) == 1
    assert re.search(r"explainfix: .* holds results of other settings", capsys.readouterr().err)


def test_the_command_takes_a_folder_of_fewer_images_and_an_augmentation(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for name in ("a", "b"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    small = {"stage_sizes": (1,), "widths": (4,), "stem_width": 4, "stem_kernel": 3}
    network = new_resnet(("a", "b"), key=jax.random.key(0), **small)
    network.save(tmp_path / "net.safetensors")
    seen = []
    fit = studies.fit

    def spy(model, training, **options):
        seen.append((training.images.shape, len(options["validation"]), options["augment"]))
        return fit(model, training, **options)

    monkeypatch.setattr(studies, "fit", spy)
    arguments = [
        "explainfix", "fixed", "--dataset", f"folder:{tmp_path}/data", "--shrink", "2", "--model",
        f"{tmp_path}/net.safetensors", "--initialisations", "kaiming", "--starts", "scratch",
        "--epochs", "1", "--seeds", "1", "--augment", "flip", "--validation", "3",
        "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(arguments) == 0
    assert seen == 2 * [((6, 8, 8, 3), 3, "flip")]
