import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import filelock
import jax
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from practical import metrics
from practical.__main__ import main
from practical.attribution import METHODS
from practical.data import load_dataset
from practical.evaluation import (
    COLUMNS,
    MEASURES,
    Measure,
    agreement,
    evaluate,
    markdown,
    summarise,
    write_report,
)
from practical.evaluation import run as running
from practical.evaluation.measures import Context
from practical.metrics import bootstrap_interval, holm, permutation_test
from practical.models import load_model, with_precision
from tests.oracles import only_at_most, refuses

ROOT = Path(__file__).resolve().parents[1]
METHOD_NAMES = ["saliency", "grad_cam", "center", "random"]
METRIC_NAMES = ["relevance_rank", "focus", "insertion_xplique", "parameter_randomization"]


@pytest.fixture(scope="module")
def model():
    return load_model("shapes")


@pytest.fixture(scope="module")
def dataset():
    # Three parts of at most eight images, the last one not full; two images of each class.
    return load_dataset("shapes", count=20)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(running, "_PART", 8)


def run(dataset, model, out, **options):
    given = {"methods": METHOD_NAMES, "measures": METRIC_NAMES, "repeated": 11, "progress": False}
    return evaluate(dataset, model, out, **{**given, **options})


@pytest.fixture(scope="module")
def finished(dataset, model, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_PART", 8)
        out = tmp_path_factory.mktemp("results")
        return run(dataset, model, out), out


@pytest.mark.parametrize("chunk_size", [1, 32, "auto"])
def test_models_in_training_mode_are_refused(dataset, model, tmp_path, chunk_size):
    def training(images):  # as batch normalization does
        return model(images - images.mean((0, 1, 2)) + 0.5)

    given = {"methods": ["center"], "measures": ["label_randomization"], "chunk_size": chunk_size}
    for name, pair in {"model": (training, model), "shuffled": (model, training)}.items():
        with pytest.raises(ValueError, match=rf"^{name}: .* of one image .*model\.eval\(\)"):
            run(dataset, pair[0], tmp_path / name, shuffled=pair[1], **given)
        assert not list((tmp_path / name).rglob("*.csv"))


def test_the_chunk_size_reaches_every_metric(dataset, monkeypatch):
    """A device that holds four images is not shown five by what measures, either."""
    images = np.asarray(dataset.images[:5])[:, ::8, ::8]
    keys, maps = jax.random.split(jax.random.key(0), 5), images.mean(-1)
    context = Context(
        only_at_most(4), METHODS["center"].heatmap, images, np.zeros(5, int), maps,
        None, None, None, keys, 4,
    )  # fmt: skip
    asking = {name: measure for name, measure in MEASURES.items() if measure.calls}
    assert "road" in asking
    for measure in asking.values():
        assert np.shape(measure.function(context)) == (5,)


def test_the_runs_chunk_size_is_that_of_its_metrics(dataset, model, tmp_path, monkeypatch):
    given = []
    seen = Measure(lambda c: given.append(c.chunk_size) or np.zeros(len(c.images)), None)
    monkeypatch.setitem(MEASURES, "sparseness", seen)
    options = {"methods": ["center"], "measures": ["sparseness"]}
    run(dataset, model, tmp_path / "out", **options, chunk_size=3)
    assert set(given) == {3}


def test_a_row_per_image_method_and_metric(finished, dataset):
    rows, out = finished
    assert tuple(rows.columns) == COLUMNS
    counts = rows.groupby("metric").image.count().to_dict()
    # Those that explain an image again measure eleven of the twenty.
    assert counts == {
        "relevance_rank": 80, "insertion_xplique": 80, "focus": 44, "parameter_randomization": 44,
    }  # fmt: skip
    assert not rows.duplicated(["image", "method", "metric"]).any()
    assert np.isfinite(rows.value).all()
    images = rows[rows.metric == "relevance_rank"]
    assert images.label.tolist() == dataset.labels.tolist() * 4
    pd.testing.assert_frame_equal(pd.read_csv(out / "results.csv"), rows)


def test_the_values_are_the_metrics(finished, dataset, model):
    rows, _ = finished
    images = dataset.images[:]
    targets = rows[rows.metric == "relevance_rank"].target[:20].to_numpy()
    np.testing.assert_array_equal(targets, np.asarray(model(images)).argmax(1))
    heat = METHODS["grad_cam"](model, images, targets)
    values = rows[rows.method == "grad_cam"].set_index("metric").value
    expected = metrics.relevance_rank(heat, dataset.masks[:]).value
    np.testing.assert_allclose(values["relevance_rank"], expected, rtol=1e-5)
    curve = metrics.insertion(model, images, targets, heat, protocol="xplique")
    np.testing.assert_allclose(values["insertion_xplique"], curve.auc, rtol=1e-4)
    # A map that never asks the model stays what it is when the model is destroyed.
    for control in ("center", "random"):
        same = rows[(rows.method == control) & (rows.metric == "parameter_randomization")]
        np.testing.assert_allclose(same.value, 1, rtol=1e-6)


def test_the_size_of_a_part_changes_nothing(finished, dataset, model, tmp_path, monkeypatch):
    rows, _ = finished
    monkeypatch.setattr(running, "_PART", 20)
    some = ["saliency", "random"]
    other = run(dataset, model, tmp_path, methods=some)
    expected = rows[rows.method.isin(some)].reset_index(drop=True)
    pd.testing.assert_frame_equal(other, expected, rtol=1e-3, atol=1e-5)


def test_resuming_loses_and_doubles_nothing(finished, dataset, model, tmp_path, monkeypatch):
    rows, _ = finished
    measure, count = running._Run.measure, []

    def fails(self, part, columns):
        count.append(part)
        if len(count) == 6:
            raise KeyboardInterrupt
        return measure(self, part, columns)

    monkeypatch.setattr(running._Run, "measure", fails)
    with pytest.raises(KeyboardInterrupt):
        run(dataset, model, tmp_path)
    assert not (tmp_path / "results.csv").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert len(kept) == 5
    again = run(dataset, model, tmp_path)
    pd.testing.assert_frame_equal(again, rows)
    for name, when in kept.items():
        assert (tmp_path / "parts" / name).stat().st_mtime_ns == when, "done once"
    # All is there now: nothing is measured.
    count.clear()
    pd.testing.assert_frame_equal(run(dataset, model, tmp_path), rows)
    assert not count


def test_methods_may_be_added_and_nothing_else_changed(dataset, model, tmp_path):
    options = {"measures": ["relevance_rank"], "methods": ["center"]}
    assert len(run(dataset, model, tmp_path, **options)) == 20
    assert len(run(dataset, model, tmp_path, **{**options, "methods": ["center", "edges"]})) == 40
    for change, message in (
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"measures": ["relevance_mass"]}, "metrics: .'relevance_rank'. there"),
        ({"repeated": 2}, "repeated: 11 there, 2 here"),
    ):
        with refuses(f"must not be mixed .*{message}.*; name another folder"):
            run(dataset, model, tmp_path, **{**options, **change})
    with refuses("holds results of other settings.*dataset|images"):
        run(load_dataset("shapes", count=19), model, tmp_path, **options)
    with refuses("holds results of other settings.*content"):
        run(load_dataset("shapes", count=20, seed=1), model, tmp_path, **options)
    with refuses("holds results of other settings.*model"):
        broken = next(iter(metrics.classifier_layers(model).values()))
        import jax

        run(dataset, broken(model, jax.random.key(0)), tmp_path, **options)
    for damage in (lambda path: path.write_text("{"), Path.unlink):  # the parts know better
        damage(tmp_path / "settings.json")
        with refuses("holds results of other settings.*has another checksum of them"):
            run(dataset, model, tmp_path, **options, seed=1)
        assert len(run(dataset, model, tmp_path, **options)) == 20
        assert '"seed": 0' in (tmp_path / "settings.json").read_text()


WEIGHTS = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)


def brightest(images):
    """Answer by each colour's mean."""
    return images.mean((1, 2))


def darkest(images):
    return -images.mean((1, 2))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (brightest, darkest),
        (with_precision(brightest, "bfloat16"), with_precision(darkest, "bfloat16")),
        (with_precision(brightest, "bfloat16"), with_precision(brightest, "float32")),
        (
            lambda images: images.mean((1, 2)) * np.float32(2),
            lambda images: images.mean((1, 2)) * 3,
        ),
    ],
    ids=["functions", "in a precision", "of a precision", "closed over"],
)
def test_another_model_without_arrays_is_refused(first, second, dataset, tmp_path):
    options = {"measures": ["relevance_rank"], "methods": ["center"]}
    run(dataset, first, tmp_path, **options)
    with refuses("holds results of other settings.*model"):
        run(dataset, second, tmp_path, **options)


def test_the_same_arrays_in_another_network_are_refused(dataset, model, tmp_path):
    options = {"measures": ["relevance_rank"], "methods": ["center"]}
    run(dataset, model, tmp_path, **options)
    architecture = replace(model.architecture, pool=not model.architecture.pool)
    for other in (replace(model, architecture=architecture), with_precision(model, "bfloat16")):
        with refuses("holds results of other settings.*model"):
            run(dataset, other, tmp_path, **options)
    with (
        refuses("holds results of other settings.*precision: float32 there, tensorfloat32 here"),
        jax.default_matmul_precision("tensorfloat32"),
    ):
        run(dataset, model, tmp_path, **options)


def test_a_plain_function_goes_on_in_another_process(tmp_path):
    """Where it lies in memory, and where what it has closed over does, is not what it is."""
    program = """
import sys
import numpy as np
from practical.data import load_dataset
from practical.evaluation import evaluate, run

held, measure = [bytes(int(sys.argv[2]))] * 2, run._Run.measure
weights = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)

def model(images):
    return images.mean((1, 2)) @ weights

def counted(self, step, columns):
    print("measured")
    return measure(self, step, columns)

run._Run.measure = counted
options = {"methods": ["center"], "measures": ["relevance_rank"], "progress": False}
evaluate(load_dataset("shapes", count=20), model, sys.argv[1], **options)
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "out"), size], cwd=ROOT, text=True,
            check=True, stdout=subprocess.PIPE,
        ).stdout
        for size in ("10", "5000000")
    ]  # fmt: skip
    assert [output.count("measured") for output in outputs] == [2, 0]


def test_two_at_once(dataset, model, tmp_path):
    with filelock.FileLock(tmp_path / ".lock"), refuses("another run is writing", RuntimeError):
        run(dataset, model, tmp_path)


def test_what_cannot_be_measured(dataset, model, tmp_path):
    def plain(images):
        return model(images)

    with refuses("methods must suit the model: grad_cam needs features and head, which a function"):
        run(dataset, plain, tmp_path)
    with refuses("label_randomization needs a model trained on shuffled labels"):
        run(dataset, model, tmp_path, measures=["label_randomization"])
    with refuses("focus needs at least two images of each class"):
        run(load_dataset("shapes", count=9), model, tmp_path, measures=["focus"])
    with refuses("measures must be among relevance_rank, .*got 'accuracy'"):
        run(dataset, model, tmp_path, measures=["accuracy"])
    with refuses("method must be one of .*did you mean 'grad_cam'"):
        run(dataset, model, tmp_path, methods=["gradcam"])


def by_color(images):
    return images.mean((1, 2)) @ WEIGHTS


@pytest.mark.parametrize("name", ["focus", "max_sensitivity"])
def test_a_metric_of_no_image_or_of_the_first_ones_is_enough(name, dataset, tmp_path):
    rows = run(dataset, by_color, tmp_path, methods=["center", "random"], measures=[name])
    assert len(rows) == 2 * 11
    write_report(rows, dataset, by_color, tmp_path)


def test_a_kill_is_survived(tmp_path):
    """The whole command, killed when two parts are there, and started again."""
    home = {**os.environ, "PRACTICAL_HOME": str(tmp_path / "home")}
    command = [
        sys.executable, "-m", "practical", "evaluate", "--images", "20", "--repeated", "2",
        "--methods", "edges", "center", "random", "--metrics", "relevance_rank", "pointing_game",
        "--chunk-size", "auto", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, env=home, **piped)
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "out").glob("parts/*.csv"))) < 2 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = subprocess.run(command, cwd=ROOT, env=home, text=True, **piped)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "home/compiled").rglob("jit_*"))  # for the next time
    rows = pd.read_csv(tmp_path / "out/results.csv")
    assert len(rows) == 20 * 3 * 2
    assert not rows.duplicated(["image", "method", "metric"]).any()
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("<img") == 3
    assert "report.html" in done.stdout


def test_mistakes_on_the_command_line(tmp_path, capsys):
    assert main(["evaluate", "--methods", "gradcam", "--images", "2", "--out", str(tmp_path)]) == 1
    assert "did you mean 'grad_cam'" in capsys.readouterr().err
    assert main(["evaluate", "--model", "nothing.safetensors", "--out", str(tmp_path)]) == 1
    assert "nothing.safetensors" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "--chunk-size", "many"])
    assert "argument --chunk-size: must be a number of images, or auto" in capsys.readouterr().err
    assert main(["methods"]) == 0
    assert capsys.readouterr().out.count("\n| ") == 21


def test_a_folder_is_evaluated_by_the_names_of_its_classes(tmp_path, capsys):
    dataset = load_dataset("shapes", count=24)
    model = load_model("shapes")
    assert sorted(model.class_names) != list(model.class_names), "a folder has another order"
    for k, (image, label) in enumerate(zip(dataset.images[:], dataset.labels, strict=True)):
        path = tmp_path / "images" / dataset.class_names[label] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(255 * image)).save(path)
    command = ["evaluate", "--dataset", f"folder:{tmp_path}/images", "--image-size", "64"]
    command += ["--methods", "center", "--metrics", "sparseness", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    rows = pd.read_csv(tmp_path / "out/results.csv")
    assert (rows.label == rows.target).mean() > 0.8  # of three classes
    (tmp_path / "images" / model.class_names[0]).rename(tmp_path / "images/zebra")
    assert main(command) == 1
    assert f"1 missing ({model.class_names[0]}), 1 unknown to the model (zebra)" in (
        capsys.readouterr().err
    )


# --- the report ----------------------------------------------------------------------------------


def table(values: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"image": i, "label": 0, "target": 0, "method": method, "metric": metric, "value": v}
            for metric, by_method in values.items()
            for method, some in by_method.items()
            for i, v in enumerate(some)
        ]
    )


RNG = np.random.default_rng(0)
MADE = table(
    {
        "relevance_rank": {
            "saliency": list(0.6 + 0.1 * RNG.random(20)), "grad_cam": list(0.8 * np.ones(20)),
            "random": list(0.2 * RNG.random(20)),
        },
        "deletion": {  # the same order: low is good
            "saliency": list(0.3 + 0.1 * RNG.random(20)), "grad_cam": list(0.1 * np.ones(20)),
            "random": list(0.7 + 0.2 * RNG.random(20)),
        },
        "insertion": {  # the opposite one
            "saliency": list(0.3 + 0.1 * RNG.random(20)), "grad_cam": list(0.1 * np.ones(20)),
            "random": list(0.7 + 0.2 * RNG.random(20)),
        },
        "entropy": {
            "saliency": [1.0] * 20, "grad_cam": [2.0] * 20, "random": [3.0] * 20,
        },
    }
)  # fmt: skip


def test_summary():
    found = summarise(MADE).set_index(["method", "metric"])
    assert len(found) == 12
    some = MADE[(MADE.method == "saliency") & (MADE.metric == "deletion")].value.to_numpy()
    noise = MADE[(MADE.method == "random") & (MADE.metric == "deletion")].value.to_numpy()
    cell = found.loc[("saliency", "deletion")]
    np.testing.assert_allclose(cell["mean"], some.mean(), rtol=1e-5)
    low, high = (float(v) for v in bootstrap_interval(some)[1:])
    # Other draws: the table is resampled as a whole.
    np.testing.assert_allclose([cell["low"], cell["high"]], [low, high], atol=5e-3)
    assert cell["images"] == 20
    one = float(permutation_test(some, noise).p_value)
    np.testing.assert_allclose(cell["p_random"], holm(np.array([one, one]))[0], rtol=0.5)
    assert np.isnan(found.loc[("random", "deletion")]["p_random"])


def test_agreement_with_the_truth():
    found = agreement(MADE).set_index(["metric", "truth"])
    assert list(found.index) == [("deletion", "relevance_rank"), ("insertion", "relevance_rank")]
    assert found.tau.tolist() == [1, -1]
    assert found.low.tolist() == [1, -1]
    assert found.images.tolist() == [20, 20]


def test_markdown():
    text = markdown(summarise(MADE), metrics=("relevance_rank", "deletion"))
    lines = text.splitlines()
    assert lines[0] == "| method | relevance_rank ↑ | deletion ↓ |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| grad_cam", "| saliency", "| random"]
    assert "0.8 (0.8 to 0.8)" in lines[2]


def test_rows_that_are_missing_or_doubled():
    with refuses("rows must hold each image once for each method, deletion does not"):
        summarise(pd.concat([MADE, MADE[MADE.metric == "deletion"].iloc[:1]]))
    some = MADE[(MADE.metric == "deletion") & (MADE.method == "grad_cam")]
    with refuses("rows must hold the same images for all methods.*deletion.*first for grad_cam"):
        summarise(MADE.drop(some.index[0]))


def test_the_page_is_whole(finished, dataset, model):
    rows, out = finished
    page = write_report(rows, dataset, model, out).read_text()
    assert page.count("<img") == 3
    assert "http" not in page.replace("http-equiv", "")
    for name in ("saliency", "grad_cam", "insertion_xplique ↑"):
        assert name in page
    assert {"summary.csv", "agreement.csv", "table.md", "report.html"} <= set(os.listdir(out))
    assert len(pd.read_csv(out / "summary.csv")) == 16
    assert set(MEASURES) >= set(pd.read_csv(out / "agreement.csv").metric)


def test_the_pages_accuracy_is_of_images_and_not_of_mosaics(dataset, tmp_path):
    unmasked = replace(dataset, masks=None)  # with masks, other metrics come before the focus
    rows = run(
        unmasked, by_color, tmp_path, methods=["center"], measures=["focus", "insertion_xplique"]
    )
    right = np.mean(np.asarray(by_color(dataset.images[:])).argmax(1) == dataset.labels)
    assert right < 0.5
    page = write_report(rows, unmasked, by_color, tmp_path).read_text()
    assert f"right on {right:.1%} of 20;" in page
