"""A classifier that learned a border, mended in each of the three ways."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from practical.__main__ import main
from practical.bias import (
    Fault,
    Recipe,
    audit,
    plant,
    repair,
    repair_study,
    repairs,
    train_suspect,
)
from practical.training import fit
from tests.oracles import refuses
from tests.test_bias_study import SMALL, thirds

FAULT = Fault("border", options={"size": 0.1})
RECIPE = Recipe(epochs=8, batch_size=20, learning_rate=0.02, architecture=SMALL, augment="none")
TRAINING, VALIDATION = thirds(300, 0), thirds(60, 1)
BIASED = plant(TRAINING, FAULT)
OPTIONS = {
    "epochs": 10, "batch_size": 20, "learning_rate": 0.02, "augment": "none", "progress": False
}  # fmt: skip


@pytest.fixture(scope="module")
def faulty():
    return train_suspect(TRAINING, FAULT, RECIPE, progress=False)


@pytest.mark.parametrize("how", ["removed", "painted"])
def test_without_the_artefact_it_is_mended(faulty, how):
    before = audit(faulty, VALIDATION, FAULT)
    assert before.aligned == 1
    assert before.swapped < 0.2
    clean = {"clean": TRAINING} if how == "removed" else {}
    after = audit(repair(faulty, BIASED, how, **clean, **OPTIONS), VALIDATION, FAULT)
    assert after.removed > 0.95
    assert after.swapped > 0.6
    assert after.worst > before.worst + 0.3
    # It need not forget; one that begins anew has nothing to.
    fresh = faulty.reset(key=jax.random.key(9))
    anew = audit(repair(fresh, BIASED, how, **clean, **OPTIONS), VALIDATION, FAULT)
    assert anew.worst > 0.9
    assert audit(faulty, VALIDATION, FAULT) == before  # left as it is


def test_pasted_artefacts_go_with_no_class(faulty):
    mended = repair(faulty, BIASED, "pasted", donors=BIASED.dataset.images[:50], **OPTIONS)
    after = audit(mended, VALIDATION, FAULT)
    assert min(after.swapped, after.removed) > 0.95
    assert after.worst > 0.85


def test_masks_get_the_pixels_of_donors_or_of_any_image(faulty, monkeypatch):
    seen = []

    def spy(model, dataset, **options):
        seen.append(dataset)
        return fit(model, dataset, **{**options, "epochs": 1})

    monkeypatch.setattr(repairs, "fit", spy)
    grey = np.stack([np.full((12, 12, 3), value, np.float32) for value in (0.25, 0.75)])
    some = BIASED._replace(masks=BIASED.masks & (np.arange(300) < 200)[:, None, None])
    for seed in (0, 0, 1):
        repair(faulty, some, "pasted", donors=grey, seed=seed, **OPTIONS)
    before, (one, same, other) = np.asarray(BIASED.dataset.images), (d.images for d in seen)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    np.testing.assert_array_equal(one[~some.masks], before[~some.masks])  # all of the last 100
    np.testing.assert_array_equal(seen[0].labels, BIASED.dataset.labels)
    masks = BIASED.masks[:200]  # the same place in all
    inside = one[:200][masks].reshape(200, -1)
    donated = np.isin(inside, (0.25, 0.75)).all(1)
    assert 0.4 < donated.mean() < 0.6
    assert {tuple(np.unique(row)) for row in inside[donated]} == {(0.25,), (0.75,)}
    # The others have an image's own border each, whatever its class: its colour, at random.
    borders = before[BIASED.masks].reshape(300, -1)
    from_whom = (inside[~donated][:, None] == borders[None]).all(2)
    assert from_whom.any(1).all()
    colours = BIASED.dataset.labels[from_whom.argmax(1)]
    agrees = (colours == BIASED.dataset.labels[:200][~donated]).mean()
    assert 0.15 < agrees < 0.5  # a third is chance


def test_avoiding_is_training_with_a_penalty_on_the_mask(faulty, monkeypatch):
    """On this network, whose features are averaged over the image, it mends nothing."""
    seen = []

    def spy(model, dataset, **options):
        seen.append((dataset, options))
        return fit(model, dataset, **options)

    monkeypatch.setattr(repairs, "fit", spy)
    mended = repair(faulty, BIASED, "avoided", penalty=30.0, **OPTIONS)
    dataset, options = seen[0]
    assert dataset is BIASED.dataset
    assert options["avoid"] is BIASED.masks
    assert options["penalty"] == 30

    def slopes(model):
        pixels = jnp.asarray(BIASED.dataset.images)
        gradient = jax.grad(lambda x: jax.nn.log_softmax(model(x)).sum())(pixels)
        return np.asarray((gradient**2).sum(3))[BIASED.masks].mean()

    assert slopes(mended) < 0.5 * slopes(faulty)


def test_the_study_mends_and_audits_and_goes_on(faulty, tmp_path, monkeypatch):
    calls = []

    def spy(model, biased, how, **options):
        calls.append((biased, how, options))
        return repair(model, biased, how, **{**options, "epochs": 1})

    monkeypatch.setattr(repairs, "repair", spy)
    fault = Fault("watermark", only=1, share=0.5)
    planted = plant(TRAINING, fault)
    arguments = (faulty, TRAINING, VALIDATION, fault, tmp_path)
    options = {"penalties": (0.1, 2.0), "epochs": 7, "augment": "none", "progress": False}
    two = repair_study(*arguments, repairs=("removed", "avoided"), seeds=1, **options)
    assert two["repair"].tolist() == ["none", "removed", "avoided", "avoided"]
    assert two["penalty"].fillna(0).tolist() == [0, 0, 0.1, 2.0]
    assert [options.get("penalty") for _, _, options in calls] == [None, 0.1, 2.0]
    before = audit(faulty, VALIDATION, fault)
    first = two.iloc[0]
    assert tuple(first[["aligned", "swapped", "removed", "worst"]]) == pytest.approx(before[:4])
    assert (first["class"], first["way"]) == before.worst_group
    all_of = repair_study(*arguments, seeds=2, **options)
    assert all_of["repair"].value_counts()["avoided"] == 4
    assert len(calls) == 2 * 5  # what was there is not computed again
    for biased, how, given_options in calls:
        assert given_options["epochs"] == 7
        assert (biased.masks == planted.masks.any(0)).all()
        assert (given_options.get("clean") is TRAINING) == (how == "removed")
        np.testing.assert_array_equal(biased.dataset.images, planted.dataset.images)
    donors = next(options["donors"] for _, how, options in calls if how == "pasted")
    np.testing.assert_array_equal(donors, planted.dataset.images[planted.masks.any((1, 2))])
    assert {options["seed"] for *_, options in calls} == {0, 1}
    with refuses("holds results of other settings"):
        repair_study(*arguments, seeds=2, **{**options, "epochs": 8})
    with refuses("holds results of other settings"):
        repair_study(replace(faulty, std=2 * faulty.std), *arguments[1:], seeds=2, **options)
    # Nearly equal penalties are different runs.
    near = {**options, "penalties": (0.1, 0.10000001)}
    rows = repair_study(*arguments, repairs=("avoided",), seeds=1, **near)
    assert rows["penalty"].tolist()[1:] == [0.1, 0.10000001]
    with refuses("repairs must be some of removed, .*, got .'prayed'."):
        repair_study(*arguments, repairs=("prayed",), **options)
    with refuses("seeds must be an integer of at least 1, got 0"):
        repair_study(*arguments, seeds=0, **options)
    with refuses("penalties must be above 0, got .0.0,."):
        repair_study(*arguments, **{**options, "penalties": (0.0,)})
    for name in ("sticker", "tint"):
        moving = (*arguments[:3], Fault(name, options={"size": 0.4} if name == "sticker" else {}))
        with refuses(f"repairs must be 'removed' alone for '{name}', .* in one place: .* on .*%"):
            repair_study(*moving, tmp_path / name, **options)
    assert not (tmp_path / "tint").exists()  # nothing was trained


def test_class_names_survive_the_tables(faulty, tmp_path, monkeypatch):
    """Pandas reads these as missing values and numbers, unless it is told otherwise."""
    names = ["None", "007", "NA"]
    worst = iter(names)
    monkeypatch.setattr(repairs, "audit", lambda *_: (1.0, 0.5, 0.5, 0.1, (next(worst), "swapped")))
    monkeypatch.setattr(repairs, "repair", lambda model, *_, **__: model)
    arguments = (faulty, TRAINING, VALIDATION, Fault("watermark", only=1), tmp_path)
    for _ in range(2):  # computed, then only read
        rows = repair_study(*arguments, repairs=("removed",), seeds=2, progress=False)
        assert rows["class"].tolist() == names
        assert np.isnan(rows["penalty"]).all()
    how = {"keep_default_na": False, "na_values": [""], "dtype": {"class": str}}
    assert pd.read_csv(tmp_path / "results.csv", **how)["class"].tolist() == names


def test_the_command_prints_the_means(tmp_path, capsys, monkeypatch):
    seen = []

    def keep(model, training, validation, fault, out, **options):
        seen.append((model, training, validation, fault, options))
        common = {"swapped": 0.5, "removed": 0.5, "aligned": 1.0, "class": "disk", "way": "swapped"}
        return pd.DataFrame([
            {"repair": "none", "penalty": None, "seed": None, "worst": 0.1, **common},
            {"repair": "avoided", "penalty": 0.1, "seed": 0, "worst": 0.2, **common},
            {"repair": "avoided", "penalty": 0.1, "seed": 1, "worst": 0.4, **common},
        ])  # fmt: skip

    monkeypatch.setattr("practical.bias.commands.repair_study", keep)
    arguments = [
        "bias", "repair", "--fault", "colored_patch", "--training", "8", "--validation", "20",
        "--repairs", "painted", "--out", str(tmp_path),
    ]  # fmt: skip
    assert main(arguments) == 0
    model, training, validation, fault, options = seen[0]
    assert audit(model, validation, fault).swapped == 0
    assert (len(training), len(validation)) == (8, 20)
    assert (options["repairs"], options["augment"]) == (["painted"], "dihedral")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["none", "0.1", "0.5", "0.5", "1", "0.1", "0.1"]
    assert lines[2].split() == ["avoided", "0.1", "0.3", "0.5", "0.5", "1", "0.2", "0.4"]


def test_bad_input(faulty):
    with refuses("how must be one of removed, painted, pasted, avoided, got 'pray'"):
        repair(faulty, BIASED, "pray", **OPTIONS)
    with refuses("clean must be given for how='removed' and only there, got none for 'removed'"):
        repair(faulty, BIASED, "removed", **OPTIONS)
    with refuses("clean must be given for how='removed' and only there, got some for 'painted'"):
        repair(faulty, BIASED, "painted", clean=TRAINING, **OPTIONS)
    with refuses("donors must be given for how='pasted' and only there, got none for 'pasted'"):
        repair(faulty, BIASED, "pasted", **OPTIONS)
    with refuses("donors must be given for how='pasted' and only there, got some for 'avoided'"):
        repair(faulty, BIASED, "avoided", donors=TRAINING.images[:2], **OPTIONS)
    with refuses("donors must be images of shape .12, 12, 3., at least one, got .2, 12, 11, 3."):
        repair(faulty, BIASED, "pasted", donors=TRAINING.images[:2, :, :11], **OPTIONS)
    with refuses("donors must be images of shape .12, 12, 3., at least one, got .0, 12, 12, 3."):
        repair(faulty, BIASED, "pasted", donors=TRAINING.images[:0], **OPTIONS)
    everywhere = BIASED._replace(masks=np.ones_like(BIASED.masks))
    for how, donors in (("painted", None), ("pasted", TRAINING.images[:1]), ("avoided", None)):
        with refuses(f"how must be 'removed' for an artefact that covers whole .* got '{how}'"):
            repair(faulty, everywhere, how, donors=donors, **OPTIONS)
