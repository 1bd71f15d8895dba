"""Line-ups: the faulty one is faulty, its place is hidden, and what is trained is kept."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from practical.__main__ import main
from practical.attribution import METHODS
from practical.bias import (
    Fault,
    Recipe,
    audit,
    cluster_heatmaps,
    lineup,
    plant,
    separation,
    suspects,
    train_suspect,
)
from practical.data import load_dataset
from practical.models import Classifier, new_resnet
from practical.training import fitting
from tests.oracles import refuses

FAULT = Fault("colored_patch", options={"size": 0.4})
WEIGHTS = Path(lineup.__file__).parent / "weights"
SMALL = {"stage_sizes": (1,), "widths": (6,), "stem_width": 6, "stem_kernel": 3}
FITTED = {"batch_size": 16, "learning_rate": 0.02, "augment": "none"}
RECIPE = Recipe(epochs=12, architecture=SMALL, **FITTED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of noise, brighter in the left, the middle or the right third."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("thirds")
    for split, count in (("train", 40), ("val", 20)):
        for place, name in enumerate(("left", "middle", "right")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 160, (12, 12, 3), np.uint8)
                pixels[:5, 4 * place : 4 * place + 4] += 90
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return f"folder:{root}"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICAL_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(lineup.RECIPES, "folder", RECIPE)
    return tmp_path / "home" / "suspects" / "original"


def assert_same(one, other) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_line_up_is_trained_once_and_its_order_hidden(folder, cache, monkeypatch):
    line = suspects(folder, FAULT, train=True, progress=False)
    assert len(line.suspects) == 3
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock"] * 3 + [".safetensors"] * 3
    found = [audit(suspect, line.clean, FAULT) for suspect in line.suspects]
    clean = [one for place, one in enumerate(found) if place != line.faulty]
    faulty = found[line.faulty]
    assert faulty.aligned > 0.95
    assert faulty.swapped < 0.2
    assert all(one.aligned > 0.8 and one.swapped > 0.8 for one in clean)
    assert clean[0] != clean[1]
    assert (line.shown.masks.sum((1, 2)) == 25).all()
    np.testing.assert_array_equal(line.shown.dataset.labels, line.clean.labels)

    monkeypatch.setattr(lineup, "fit", None)  # nothing is trained again
    places = set()
    for seed in range(16):
        again = suspects(folder, FAULT, seed=seed, count=800)  # of 60
        places.add(again.faulty)
        faulty = again.suspects[again.faulty]
        assert_same(faulty, line.suspects[line.faulty])
    assert places == {0, 1, 2}
    assert len(suspects(folder, FAULT, twins=1).suspects) == 2


def card(name: str) -> dict[str, list[float]]:
    """Return the shares in a packaged network's card, by artefact: aligned, swapped, removed."""
    text = (WEIGHTS / f"{name}.md").read_text()
    rows = re.findall(r"Fault\(artefact='(\w+)'.*?\) \| (.*?)% \| (.*?)% \| (.*?)% \|", text)
    return {artefact: [float(share) / 100 for share in shares] for artefact, *shares in rows}


@pytest.mark.parametrize("name", lineup.PACKAGED)
def test_the_packages_networks_are_what_their_cards_say(name, cache):
    line = suspects("shapes", name, count=300)
    assert not cache.exists()
    found = [audit(suspect, line.clean, line.fault) for suspect in line.suspects]
    faulty = found.pop(line.faulty)
    assert faulty.swapped < faulty.aligned - 0.1
    assert faulty.worst < 0.6
    np.testing.assert_allclose(faulty[:3], card(name)[name], atol=0.04)  # of 2,000 images
    for clean in found:
        assert abs(clean.aligned - faulty.aligned) < 0.06  # alike on the data shown
        assert abs(clean.aligned - clean.swapped) < 0.05
        assert abs(clean.aligned - clean.removed) < 0.05
        assert clean.worst > 0.8
    said = np.array(card("clean-1")[name])
    assert min(np.abs(clean[:3] - said).max() for clean in found) < 0.04


def test_groups_of_the_faulty_networks_heatmaps_tell_who_carries_the_watermark(cache):
    line = suspects("shapes", "watermark", count=800)
    members = np.flatnonzero(line.clean.labels == line.fault.only)[:80]
    some = line.shown.dataset.select(members)
    carries = line.shown.masks[members].any((1, 2))
    assert carries.mean() == pytest.approx(0.5, abs=0.1)
    for place, network in enumerate(line.suspects):
        maps = METHODS["gradient_x_input"].heatmap(network, some.images, some.labels)
        found = separation(cluster_heatmaps(maps, clusters=2).labels, carries)
        if place == line.faulty:
            assert found.purity > 0.9
        else:
            assert abs(found.purity - found.chance) < 0.1


def test_the_packages_networks_are_small():
    weights = {path.stem: path.stat().st_size for path in WEIGHTS.glob("*.safetensors")}
    assert set(weights) == {*lineup.PACKAGED, "clean-1"}
    assert max(weights.values()) < 3e6


def test_one_verdict_does_not_give_the_next_away(cache):
    moved = {
        suspects("shapes", "colored_patch", seed=seed, count=10).faulty
        - suspects("shapes", "checkerboard", seed=seed, count=10).faulty
        for seed in range(8)
    }
    assert len(moved) > 1


def test_a_stopped_training_goes_on(folder, cache, monkeypatch):
    whole = suspects(folder, FAULT, twins=1, train=True, progress=False)
    for path in cache.glob("*.safetensors"):
        path.unlink()
    save, calls = fitting.save, []

    def stops(*arguments):
        save(*arguments)
        calls.append(arguments)
        if len(calls) == RECIPE.epochs + 3:  # in the second network
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "save", stops)
    with pytest.raises(KeyboardInterrupt):
        suspects(folder, FAULT, twins=1, train=True, progress=False)
    assert len(list(cache.glob("*.safetensors"))) == 1
    assert len(list(cache.glob("*.checkpoint"))) == 1
    resumed = suspects(folder, FAULT, twins=1, train=True, progress=False)
    assert len(calls) == 2 * RECIPE.epochs
    for one, other in zip(whole.suspects, resumed.suspects, strict=True):
        assert_same(one, other)


def test_a_cache_folder_that_cannot_be_written_is_named_before_the_training(
    folder, cache, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PRACTICAL_HOME", str(tmp_path / "file"))
    monkeypatch.delattr(lineup, "train_suspect")
    with refuses("cannot be written .* in the environment variable PRACTICAL_HOME", RuntimeError):
        suspects(folder, FAULT, train=True, progress=False)


def test_no_two_networks_of_a_line_up_share_their_random_numbers(folder, cache, monkeypatch):
    seen = []

    def spy(data, fault, recipe, *, seed, **_):
        seen.append((fault, seed))
        return new_resnet(data.class_names, key=jax.random.key(seed), **SMALL)

    monkeypatch.setattr(lineup, "train_suspect", spy)
    with pytest.warns(
        UserWarning, match="No network of this line-up is faulty: Fault.artefact='co"
    ):
        suspects(folder, FAULT, twins=3, train=True)
    assert [fault for fault, _ in seen] == [FAULT, None, None, None]
    assert len({seed for _, seed in seen}) == 4


def test_another_folder_of_the_same_name_has_its_own_suspects(cache, tmp_path, monkeypatch):
    trained = []

    def spy(data, fault, recipe, **_):
        trained.append(float(data.images[0].mean()))
        return new_resnet(data.class_names, key=jax.random.key(0), **SMALL)

    monkeypatch.setattr(lineup, "train_suspect", spy)
    for place, level in (("one", 50), ("other", 200), ("one", 50)):
        for name in ("a", "b"):
            root = tmp_path / place / "images" / name
            root.mkdir(parents=True, exist_ok=True)
            for number in range(6):
                Image.fromarray(np.full((12, 12, 3), level, np.uint8)).save(root / f"{number}.png")
        monkeypatch.chdir(tmp_path / place)
        with pytest.warns(
            UserWarning, match=r"is faulty: .*was not learned\. .*more training images"
        ):
            suspects("folder:images", FAULT, twins=1, train=True, progress=False)
    np.testing.assert_allclose(trained, np.repeat([50, 200], 2) / 255, atol=1e-3)


def test_a_pretrained_network_keeps_its_first_stages_at_the_beginning(folder, tmp_path):
    data = load_dataset(folder, "train")
    start = new_resnet(("x", "y"), key=jax.random.key(5), **SMALL)
    start.save(tmp_path / "start.safetensors")
    recipe = Recipe(
        epochs=1, start=str(tmp_path / "start.safetensors"), keep=1, learning_rate=1e-9,
        batch_size=40, augment="none",
    )  # fmt: skip
    model = train_suspect(data, None, recipe, progress=False)
    assert model.class_names == ("left", "middle", "right")
    for name, kernel in start.kernels().items():
        np.testing.assert_allclose(model.kernels()[name], kernel, atol=1e-6)


def test_in_the_lead_all_images_of_a_class_carry_the_artefact(folder, tmp_path, monkeypatch):
    data = load_dataset(folder, "train")
    fit, seen = lineup.fit, []

    def spy(model, dataset, **options):
        carriers = (np.asarray(dataset.images[:]) != np.asarray(data.images[:])).any((1, 2, 3))
        seen.append((options["epochs"], carriers[data.labels == 0].mean()))
        return fit(model, dataset, **options)

    monkeypatch.setattr(lineup, "fit", spy)
    fault, recipe = Fault("border", share=0.5), replace(RECIPE, epochs=5, lead=0.4)
    checkpoint = tmp_path / "one.checkpoint"
    model = train_suspect(data, fault, recipe, checkpoint=checkpoint, progress=False)
    assert seen == [(2, 1.0), (3, 0.5)]
    assert {path.name for path in tmp_path.iterdir()} == {
        checkpoint.name,
        f"lead-{checkpoint.name}",
    }
    whole = fit(  # by hand
        fit(
            new_resnet(data.class_names, key=jax.random.key(0), **SMALL),
            plant(data, replace(fault, share=1.0)).dataset, epochs=2, seed=0, progress=False,
            **FITTED,
        ).model,
        plant(data, fault).dataset, epochs=3, seed=0, progress=False,
        **{**FITTED, "learning_rate": 0.0005},
    ).model  # fmt: skip
    assert_same(model, whole)

    seen.clear()
    for other in (None, Fault("border")):  # a twin, and all of a class, need none
        train_suspect(data, other, recipe, progress=False)
    train_suspect(data, fault, replace(recipe, epochs=2), progress=False)  # less than an epoch
    assert seen == [(5, 0.0), (5, 1.0), (2, 0.5)]


def test_bad_input(folder, cache, monkeypatch):
    def load(name, *split, **options):  # not 25,000 images, drawn to say that none was trained
        found = load_dataset(name, *split, **options)
        return found.select(slice(10)) if name == "shapes" else found

    monkeypatch.setattr(lineup, "load_dataset", load)
    with refuses("fault must be a Fault, or one of colored_patch, .*, got 'patch'"):
        suspects("shapes", "patch")
    with refuses("twins must be an integer of at least 1, got 0"):
        suspects("shapes", "checkerboard", twins=0)
    with refuses("count must be an integer of at least 1, got 0"):
        suspects("shapes", "checkerboard", count=0)
    with refuses("dataset must have trained suspects, and 'folder:.*train=True to train them here"):
        suspects(folder, FAULT)
    with refuses("dataset must have trained .* with one of .*, and at most 2 twins"):
        suspects("shapes", "checkerboard", twins=3, count=10)
    suspects("shapes", "checkerboard", count=10, image_size=64)  # their own size
    with refuses("objects must be the masks .* choose another artefact"):
        suspects(folder, Fault("background"), train=True, progress=False)
    assert not list(cache.glob("*.safetensors"))


def test_a_card_gives_no_time_for_a_part_of_the_training(folder, cache, tmp_path, monkeypatch):
    lineup.RECIPES["folder"] = replace(RECIPE, lead=0.5)  # `cache` puts the first one back
    output = tmp_path / "border.safetensors"
    arguments = [
        "bias", "suspect", "--dataset", folder, "--fault", "border", "--epochs", "2",
        "--share", "0.9", "--output", str(output),
    ]  # fmt: skip
    save = fitting.save

    def stops(*state):
        save(*state)
        raise KeyboardInterrupt  # after the lead, before there is a checkpoint of the rest

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "save", stops)
        assert main(arguments) == 130
    assert main(arguments) == 0
    assert "training images, 2 epochs on " in output.with_suffix(".md").read_text()
    assert not list(tmp_path.glob("*.checkpoint"))


def test_the_command_writes_a_network_and_its_card(folder, cache, tmp_path, capsys):
    output = tmp_path / "made" / "patch.safetensors"
    arguments = [
        "bias", "suspect", "--dataset", folder, "--fault", "border", "--epochs", "1", "--seed", "4",
        "--share", "0.9", "--output", str(output),
    ]  # fmt: skip
    assert main(arguments) == 0
    card = output.with_suffix(".md").read_text()
    assert card.strip() in capsys.readouterr().out
    assert "--fault border --share 0.9 --epochs 1 --seed 4 --output patch.safetensors" in card
    fault = Fault("border", share=0.9)
    found = audit(Classifier.load(output), load_dataset(folder), fault)
    assert f"| {found.aligned:.1%} | {found.swapped:.1%} | {found.removed:.1%} |" in card
    assert "In the first" not in card
    lineup.RECIPES["folder"] = replace(RECIPE, lead=0.5)  # `cache` puts the first one back
    assert main([*arguments, "--epochs", "2"]) == 0
    led = "In the first 1 all images of the class carried the artefact."
    assert led in output.with_suffix(".md").read_text()
    assert main([*arguments[:-1], "net.npz"]) == 1
    assert "--output must end in .safetensors, got net.npz" in capsys.readouterr().err
    for option in ("epochs", "count"):
        assert main([*arguments, f"--{option}", "0"]) == 1
        message = f"--{option} must be an integer of at least 1, got 0"
        assert message in capsys.readouterr().err
    # A twin is judged by the faults that its classes can carry: three have no fourth.
    twin = [*arguments[:4], "--fault", "none", "--epochs", "1", "--output", str(output)]
    assert main(twin) == 0
    text = output.with_suffix(".md").read_text()
    assert "colored_patch" in text
    assert "checkerboard" in text
    assert "watermark" not in text
    assert main([*arguments, "--share", "2"]) == 1
    assert "share must be in (0, 1], got 2.0" in capsys.readouterr().err
