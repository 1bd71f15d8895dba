"""The detection study: its measures on networks that are known, its table, and its parts."""

import re
from collections.abc import Sequence

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from practical.__main__ import main
from practical.bias import (
    ARTEFACTS,
    Fault,
    Recipe,
    detection_study,
    detection_table,
    packaged_study,
    study,
)
from practical.data import Dataset
from practical.explainfix import dct_basis
from practical.models import new_resnet
from tests.conftest import ROOT
from tests.oracles import refuses

SMALL = {"stage_sizes": (1,), "widths": (6,), "stem_width": 6, "stem_kernel": 3}
RECIPE = Recipe(epochs=6, batch_size=20, learning_rate=0.02, architecture=SMALL, augment="none")


def thirds(count: int, seed: int) -> Dataset:
    """Return noise that is brighter in the left, the middle or the right third."""
    rng = np.random.default_rng(seed)
    images = (0.6 * rng.random((count, 12, 12, 3))).astype(np.float32)
    labels = np.arange(count, dtype=np.int32) % 3
    for image, label in zip(images, labels, strict=True):
        image[:, 4 * label : 4 * label + 4] += 0.15
    return Dataset(images, labels, ("left", "middle", "right"), name="thirds")


SPLITS = thirds(300, 0), thirds(60, 1)
OPTIONS = {
    "faults": ("border", "checkerboard"), "strengths": (1.0,), "images": 24,
    "methods": ("saliency", "random"), "recipe": RECIPE, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return detection_study(*SPLITS, tmp_path_factory.mktemp("study"), seeds=2, **OPTIONS)


def test_the_rows(rows):
    assert rows.groupby(["fault", "faulty", "seed"]).ngroups == 8
    by_fault = rows.groupby("fault")["measure"].agg(set)
    places = {"saliency density", "random density"}
    assert by_fault["border"] - by_fault["checkerboard"] == places
    assert {"accuracy", "saliency agreement", "filters high", "saliency gap"} < by_fault["border"]
    assert np.isfinite(rows["value"]).all()
    of_one = [
        "filters high", "filters finest", "saliency high", "saliency finest", "saliency gap",
        "frequency occlusion",
    ]  # fmt: skip
    shares = rows[rows["measure"].isin(of_one)]["value"]
    assert shares.between(0, 1).all()


def test_faulty_networks_are_faulty_and_their_twins_are_not(rows):
    dropped = rows[(rows["measure"] == "swapped drop") & (rows["fault"] == "border")]
    assert dropped.loc[dropped["faulty"], "value"].min() > 0.3
    assert dropped.loc[~dropped["faulty"], "value"].abs().max() < 0.15


def test_the_border_draws_relevance_and_noise_does_not_care(rows):
    found = detection_table(rows).set_index(["fault", "measure"])
    assert found.loc[("border", "saliency density"), "auroc"] == 1
    assert found.loc[("border", "swapped drop"), "auroc"] == 1
    assert found.loc[("border", "swapped drop"), "false_alarms"] == 0
    density = rows[rows["measure"] == "random density"]["value"]
    np.testing.assert_allclose(density, 1, atol=0.15)
    assert density.nunique() == len(density)  # other noise for each network


def test_networks_share_neither_random_numbers_nor_all_of_their_data(tmp_path, monkeypatch):
    seen = []

    def spy(data, fault, recipe, *, way, seed, progress):
        seen.append((way, seed, len(data), study.fingerprints(data=data)["data"][-1]))
        return new_resnet(data.class_names, key=jax.random.key(0), **SMALL)

    monkeypatch.setattr(study, "train_suspect", spy)
    options = {**OPTIONS, "faults": ("border", "tint"), "methods": ("random",)}
    detection_study(*SPLITS, tmp_path, seeds=4, **{**options, "strengths": (0.5, 1.0)})
    ways, seeds, sizes, data = zip(*seen, strict=True)
    assert ways == ("aligned", "shuffled") * 16
    assert len(set(seeds)) == 32
    assert set(sizes) == {150, 225, 300}
    assert len(set(data)) == sum(size < 300 for size in sizes) + 1  # drawn anew for each


def test_a_stopped_study_goes_on_and_takes_more_seeds(rows, tmp_path, monkeypatch):
    train, calls = study.train_suspect, []

    def stops(*arguments, **options):
        calls.append(options["seed"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(study, "train_suspect", stops)
    with pytest.raises(KeyboardInterrupt):
        detection_study(*SPLITS, tmp_path, seeds=1, **OPTIONS)
    assert not (tmp_path / "results.csv").exists()
    detection_study(*SPLITS, tmp_path, seeds=1, **OPTIONS)
    assert len(calls) == 5
    again = detection_study(*SPLITS, tmp_path, seeds=2, **OPTIONS)
    pd.testing.assert_frame_equal(again, rows)
    with refuses("holds results of other settings, .*images: 24 there, 12 here"):
        detection_study(*SPLITS, tmp_path, **{**OPTIONS, "images": 12})


values = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(values, values)
def test_auroc_is_sklearns(positive, negative):
    truth = [1] * len(positive) + [0] * len(negative)
    expected = sklearn.metrics.roc_auc_score(truth, positive + negative)
    assert study.auroc(np.array(positive), np.array(negative)) == pytest.approx(expected)


def made(
    faulty: Sequence[float],
    clean: Sequence[float],
    strength: float = 1.0,
    falls: Sequence[float] | None = None,
) -> pd.DataFrame:
    networks = pd.DataFrame(
        {"fault": "f", "strength": strength, "seed": [*range(len(faulty)), *range(len(clean))]}
        | {"faulty": [True] * len(faulty) + [False] * len(clean)}
    )
    fell = [*([1.0] * len(faulty) if falls is None else falls), *[0.0] * len(clean)]
    return pd.concat(
        [
            networks.assign(measure="m", value=[*faulty, *clean]),
            networks.assign(measure="swapped drop", value=fell),
        ]
    )


def tabled(rows: pd.DataFrame) -> dict[str, float]:
    """Return the table's row of the measure "m"."""
    return detection_table(rows).set_index("measure").loc["m"].to_dict()


def test_the_table_by_hand():
    # Strengths are not compared with each other: each alone is told apart by nothing here.
    row = tabled(pd.concat([made([5, 5], [5, 5], 0.5), made([9, 9], [9, 9])]))
    assert (row["auroc"], row["faulty"], row["clean"], row["trained"]) == (0.5, 4, 4, 4)
    assert row["low"] == pytest.approx(1 - row["high"])
    faulty, clean = [1, 6, 7, 8, 9], [0, 2, 6.5, 5]
    row = tabled(made(faulty, clean))
    assert row["auroc"] == pytest.approx(16 / 20)
    assert row["low"] < 0.8 < row["high"] <= 1
    assert row["false_alarms"] == 1 / 4  # above 6, which four in five reach, is 6.5 alone
    # Of four, three are fewer than four in five: the lowest counts, too.
    assert tabled(made([1, 6, 7, 8], [0, 3, 4, 5]))["false_alarms"] == 3 / 4


def test_who_did_not_learn_the_artefact_is_not_to_be_found():
    row = tabled(made([5, 0, 0, 7], [1, 2, 3, 4], falls=[0.1, 0.09, -0.2, 0.5]))
    assert (row["auroc"], row["faulty"], row["clean"], row["trained"]) == (1, 2, 4, 4)
    # A strength at which none did has nothing to say: not even its clean networks are counted.
    weak = made([0, 0], [1, 2], 0.5, falls=[0.0, 0.05])
    row = tabled(pd.concat([weak, made([5, 3], [1, 4])]))
    assert (row["auroc"], row["faulty"], row["clean"], row["trained"]) == (0.75, 2, 2, 4)
    nothing = tabled(weak)
    assert (nothing["faulty"], nothing["trained"]) == (0, 2)
    assert np.isnan([nothing[name] for name in ("auroc", "low", "high", "false_alarms")]).all()


def test_rows_that_nothing_can_be_said_of_are_refused():
    with refuses("rows must have finite values of faulty and of clean .*'value': nan"):
        detection_table(made([1, np.nan], [0, 1]))
    with refuses("rows must have finite values .* for .*'f', 'm', 0.5"):
        detection_table(pd.concat([made([1, 2], [0, 1]), made([1, 2], [], 0.5)]))
    rows = made([1, 2], [0, 1])
    with refuses("rows must have the measure 'swapped drop' of each network, got none for .*'f'"):
        detection_table(rows[rows["measure"] == "m"])


@given(
    found=st.floats(0, 1),
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3),
)
def test_the_interval_is_where_the_estimate_is_two_errors_away(found, sizes):
    low, high = study.auroc_interval(found, sizes)
    assert 0 <= low <= found <= high <= 1
    turned = study.auroc_interval(1 - found, sizes)
    np.testing.assert_allclose(turned, (1 - high, 1 - low), atol=1e-6)
    for area in {low, high} - {0, 1}:  # Hanley and McNeil (1982), as they write it, for m = n
        m = sizes[0][0]
        if all(size == (m, m) for size in sizes):
            first, second = area / (2 - area), 2 * area**2 / (1 + area)
            spread = (m - 1) * (first + second - 2 * area**2)
            variance = (area * (1 - area) + spread) / m**2 / len(sizes)
            np.testing.assert_allclose(abs(found - area), 1.96 * variance**0.5, atol=1e-6)


def test_the_interval_covers_the_truth_where_networks_are_few():
    rng = np.random.default_rng(0)
    truth = 0.9
    shift = 2**0.5 * scipy.stats.norm.ppf(truth)
    hits = []
    for _ in range(1000):
        cells = [(rng.normal(shift, 1, 4), rng.normal(0, 1, 4)) for _ in range(2)]
        found = float(np.mean([study.auroc(*cell) for cell in cells]))
        low, high = study.auroc_interval(found, [(4, 4)] * 2)
        hits.append(low <= truth <= high)
    assert 0.93 < np.mean(hits) < 0.99
    assert study.auroc_interval(1.0, [(4, 4)] * 2)[0] < 0.8


def test_agreement_is_of_the_class_whose_maps_are_most_alike():
    rng = np.random.default_rng(0)
    maps = rng.random((20, 16, 16))
    classes = np.arange(20) % 2
    assert abs(study._agreement(maps, classes)) < 0.1
    maps[classes == 1] = maps[1]
    assert study._agreement(maps, classes) == pytest.approx(1)


@pytest.mark.parametrize(("which", "expected"), [(-1, 1), (0, 0)], ids=["finest", "constant"])
def test_a_stem_of_one_basis_filter_has_its_spectrum(which, expected):
    network = new_resnet(SPLITS[1].class_names, key=jax.random.key(0), **SMALL)
    stem = network.kernels()["conv1"]
    basis = dct_basis((3, 3))[which].astype(np.float32)
    changed = network.replace_kernels(
        {"conv1": np.broadcast_to(basis[..., None, None], stem.shape)}
    )
    measured = study._measure(changed, SPLITS[1], Fault("border"), ("saliency",), 24, 0)
    for name in ("filters high", "filters finest", "saliency high", "saliency finest"):
        assert measured[name] == pytest.approx(expected, abs=1e-5), name


def test_the_finer_bands_are_beyond_the_diagonal():
    falls = np.zeros((4, 4))
    falls[0, 0], falls[1, 2], falls[3, 1], falls[2, 2], falls[3, 3] = 1, 2, 4, -9, 1
    assert study._finer_share(falls) == pytest.approx(5 / 8)
    assert study._finer_share(-np.abs(falls)) == 0


def test_the_packages_study_is_of_as_many_faulty_networks_as_clean_ones():
    rows = packaged_study()
    assert list(rows) == ["fault", "strength", "seed", "faulty", "measure", "value"]
    assert set(rows["fault"]) == set(ARTEFACTS)
    assert np.isfinite(rows["value"]).all()
    networks = rows.groupby(["fault", "strength", "faulty"])["seed"].agg(set)
    assert all(seeds == networks.iloc[0] for seeds in networks)
    # Nearly all learned their artefact, and their twins did not.
    falls = rows[rows["measure"] == "swapped drop"].groupby(["fault", "faulty"])["value"].mean()
    assert falls.unstack()[True].min() > 0.3
    assert falls.unstack()[False].max() < 0.15
    with refuses(
        "dataset must be one of .*shapes.*, got 'cats'; `python -m practical bias detect`"
    ):
        packaged_study("cats")


def test_the_documents_table_is_the_packages_study():
    text = (ROOT / "docs" / "model-bias.md").read_text()
    table = detection_table(packaged_study())
    for measure, some in table.groupby("measure"):
        found = re.search(rf"^\| {measure} \|(.*)\|$", text, re.M)
        assert found, measure
        values = dict(zip(some["fault"], some["auroc"], strict=True))
        cells = [f"{values[name]:.2f}" if name in values else "" for name in ARTEFACTS]
        assert [cell.strip() for cell in found[1].split("|")] == cells, measure


def test_bad_input(tmp_path):
    with refuses("faults must be some of colored_patch, .* got .'smoke'."):
        detection_study(*SPLITS, tmp_path / "a", faults=("smoke",))
    with refuses("and methods of .*; got .'cam'."):
        detection_study(*SPLITS, tmp_path / "a", methods=("cam",))
    with refuses("faults and strengths must name at least one each, got .* and .."):
        detection_study(*SPLITS, tmp_path / "a", faults=("tint",), strengths=())
    with refuses("images must take two of each class, got 5, the first 5 of validation"):
        detection_study(*SPLITS, tmp_path / "a", faults=("tint",), images=5)
    with refuses("strength must be in .0, 1., got 1.5"):
        detection_study(*SPLITS, tmp_path / "a", faults=("tint",), strengths=(1.5,))
    with refuses("objects must be the masks"):
        detection_study(*SPLITS, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_command(tmp_path, capsys, monkeypatch):
    seen = []

    def keep(training, validation, out, *, recipe, **options):
        seen.append((training, validation, recipe, options))
        out.mkdir()
        return made([2, 3], [0, 1])

    monkeypatch.setattr("practical.bias.commands.detection_study", keep)
    arguments = [
        "bias", "detect", "--shrink", "2", "--classes", "star", "ring", "--training", "6",
        "--validation", "4", "--epochs", "3", "--faults", "tint", "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    assert main(arguments) == 0
    training, validation, recipe, options = seen[0]
    assert training.images.shape == (6, 32, 32, 3)
    assert validation.class_names == ("star", "ring")
    assert recipe.epochs == 3
    assert options["faults"] == ["tint"]
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["auroc"].tolist() == [1, 1]
    assert "1.00" in capsys.readouterr().out
