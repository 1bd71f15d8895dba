import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from practical.data import Dataset
from practical.data.dataset import LazyArray
from practical.explainfix import freeze_spatial
from practical.models import load_model, new_resnet
from practical.training import (
    AUGMENTATIONS,
    Fitted,
    accuracy,
    accuracy_per_class,
    fit,
    fitting,
    seconds_per_step,
    shuffle_labels,
)
from practical.training import __main__ as command
from tests.oracles import full_disk, refuses

CLASSES = ("red", "green", "blue")
ROOT = Path(__file__).resolve().parents[1]


def colours(count: int, seed: int = 0) -> Dataset:
    """Noise in which the class's own channel is brighter: a separable data set."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % 3
    images = 0.4 * rng.random((count, 12, 12, 3), np.float32)
    images[np.arange(count), :, :, labels] += 0.5
    return Dataset(images, labels, CLASSES, name="colours")


DATA = colours(48)


@pytest.fixture(scope="module")
def start():
    return new_resnet(
        CLASSES, key=jax.random.key(0), stage_sizes=(1,), widths=(4,), stem_width=4, stem_kernel=3
    )


def run(start, data=DATA, **options):
    """Fit with options that all tests share, so that one compiled step serves them all."""
    defaults = {"epochs": 12, "batch_size": 16, "learning_rate": 0.02, "progress": False}
    return fit(start, data, **{**defaults, **options})


@pytest.fixture(scope="module")
def whole(start):
    """An uninterrupted run."""
    return run(start)


def assert_same(one, two) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_learns_what_is_separable(whole, start):
    unseen = colours(30, seed=1)
    assert accuracy(start, unseen) < 0.9
    assert accuracy(whole.model, DATA) == 1
    assert accuracy(whole.model, unseen) == 1
    assert accuracy_per_class(whole.model, unseen) == dict.fromkeys(CLASSES, 1.0)
    assert len(whole.history) == 12
    assert set(whole.history[0]) == {"loss", "accuracy"}
    assert whole.history[-1]["accuracy"] == 1
    assert whole.history[-1]["loss"] < 0.5 * whole.history[0]["loss"]


def test_accuracy_by_hand():
    # Logits are the mean colour; images 0 to 3 are red, green, blue, and a red one called blue.
    images = np.zeros((4, 2, 2, 3), np.float32)
    for i, channel in enumerate((0, 1, 2, 0)):
        images[i, :, :, channel] = 1
    data = Dataset(images, np.array([0, 1, 2, 2], np.int32), CLASSES)

    def mean_colour(images):
        return images.mean((1, 2))

    assert accuracy(mean_colour, data, chunk_size=3) == 0.75
    assert accuracy_per_class(mean_colour, data) == {"red": 1, "green": 1, "blue": 0.5}


def test_the_start_is_not_changed(start, whole):
    fresh = new_resnet(
        CLASSES, key=jax.random.key(0), stage_sizes=(1,), widths=(4,), stem_width=4, stem_kernel=3
    )
    assert_same(start, fresh)
    statistics = [jax.tree.leaves(m.variables["batch_stats"]) for m in (start, whole.model)]
    assert not np.array_equal(statistics[0][0], statistics[1][0])  # batch norm learned, too


def test_the_same_seed_gives_the_same_bits(start, whole):
    again = run(start)
    assert_same(again.model, whole.model)
    assert again.history == whole.history
    other = run(start, seed=1)
    assert other.history != whole.history


def test_frozen_weights_stay_and_the_others_learn(start, tmp_path):
    state = run(start, epochs=2, freeze=freeze_spatial, checkpoint=tmp_path / "state")
    spatial = jax.tree.leaves(freeze_spatial(start.variables["params"]))
    assert any(spatial)
    for fixed, old, new in zip(
        spatial,
        jax.tree.leaves(start.variables["params"]),
        jax.tree.leaves(state.model.variables["params"]),
        strict=True,
    ):
        assert np.array_equal(old, new) == fixed
    with refuses("must come from a run with these arguments(.|\n)*frozen="):
        run(start, epochs=2, checkpoint=tmp_path / "state")


def all_but(params, name):
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: any(key.key == name for key in path), params
    )


def test_what_is_frozen_may_be_said_by_any_function(start, tmp_path):
    """Two without a name of their own are told apart by what they freeze."""
    state = tmp_path / "state"
    first, *_ = start.variables["params"]
    fitted = run(start, epochs=1, freeze=partial(all_but, name=first), checkpoint=state)
    assert_same(fitted.model.variables["params"][first], start.variables["params"][first])
    again = run(start, epochs=1, freeze=lambda p: all_but(p, first), checkpoint=state)
    assert_same(again.model, fitted.model)
    with refuses("must come from a run with these arguments(.|\n)*frozen="):
        run(start, epochs=1, freeze=lambda p: all_but(p, "bias"), checkpoint=state)


def test_the_gradient_of_frozen_weights_does_not_shorten_the_step(start):
    """The norm that is clipped is that of what is learned: a huge frozen one changes nothing."""
    kernel = start.kernels()["conv1"]
    frozen = fitting._Run(10, 0.02, 0.05, "none", freeze_spatial)
    params = start.variables["params"]
    optimizer = fitting._optimizer(frozen)

    def updates(slope):
        gradients = jax.tree.map(jnp.ones_like, params)
        gradients["layers_0"]["ConvBlock_0"]["Conv_0"]["kernel"] = jnp.full(kernel.shape, slope)
        return optimizer.update(gradients, optimizer.init(params), params)[0]

    assert_same(updates(1.0), updates(1e6))


def test_a_step_takes_time_and_changes_nothing(start):
    before = [np.array(leaf) for leaf in jax.tree.leaves(start)]
    assert seconds_per_step(start, DATA, batch_size=16, steps=3) > 0
    for old, new in zip(before, jax.tree.leaves(start), strict=True):
        np.testing.assert_array_equal(old, new)
    with refuses("batch_size must be an integer of at least 1, got 0"):
        seconds_per_step(start, DATA, batch_size=0)
    with refuses("steps must be an integer of at least 1, got 0"):
        seconds_per_step(start, DATA, steps=0)


def test_validation_is_measured_and_never_learned_from(start, whole):
    measured = run(start, validation=colours(30, seed=1))
    assert_same(measured.model, whole.model)
    assert measured.history[-1]["validation_accuracy"] == 1
    shares = [entry["validation_accuracy"] for entry in measured.history]
    assert shares[0] == pytest.approx(round(30 * shares[0]) / 30)


def test_each_epoch_has_all_images_in_a_new_order_and_new_augmentation(start, monkeypatch):
    keys, orders, step = [], [], fitting._step

    def recording(model, state, images, labels, key, **options):
        keys.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))
        orders.append([int(np.flatnonzero((DATA.images == x).all((1, 2, 3)))[0]) for x in images])
        return step(model, state, images, labels, key, **options)

    monkeypatch.setattr(fitting, "_step", recording)
    run(start)
    assert len(set(keys)) == 36  # 12 epochs of 3 steps
    epochs = np.array(orders).reshape(12, 48)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(48), (12, 1)))
    assert len({tuple(order) for order in epochs}) == 12


class Interrupting(LazyArray):
    """Images that stop the run when they are asked for more than `after` batches."""

    def __init__(self, images, after: int):
        super().__init__(images.__getitem__, images.shape, np.float32)
        self.images, self.after = images, after + 2  # a check, and a fingerprint, come first

    def __getitem__(self, index):
        self.after -= 1
        if self.after < 0:
            raise KeyboardInterrupt
        return self.images[index]


@pytest.mark.parametrize("after", [0, 4, 7, 34])  # three steps an epoch
def test_interrupted_and_resumed_is_uninterrupted(start, whole, tmp_path, after):
    checkpoint = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        run(start, replace(DATA, images=Interrupting(DATA.images, after)), checkpoint=checkpoint)
    assert checkpoint.exists() == (after >= 3)
    resumed = run(start, checkpoint=checkpoint)
    assert_same(resumed.model, whole.model)
    assert resumed.history == whole.history  # in order: epoch 10 does not come before epoch 2
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    # And a finished run is not run again.
    finished = run(start, replace(DATA, images=Interrupting(DATA.images, 0)), checkpoint=checkpoint)
    assert_same(finished.model, whole.model)
    assert finished.history == whole.history


@pytest.fixture
def checkpoint(start, tmp_path):
    """The state of a run that was stopped in its second epoch."""
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        run(start, replace(DATA, images=Interrupting(DATA.images, 4)), checkpoint=path)
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"epochs": 13}, {"batch_size": 12}, {"learning_rate": 0.01},
        {"weight_decay": 0.0}, {"augment": "none"}, {"data": colours(51)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_checkpoint_of_another_run_is_refused(start, checkpoint, change):
    before = checkpoint.read_bytes()
    message = r"(?s)checkpoint .*state must come from a run with these arguments.*Name another file"
    with refuses(message):
        run(start, **{"checkpoint": checkpoint, **change})
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_of_other_weights_or_labels_is_refused(start, checkpoint):
    doubled = replace(start, variables=jax.tree.map(lambda leaf: 2 * leaf, start.variables))
    with refuses("must come from a run with these arguments"):
        run(doubled, checkpoint=checkpoint)
    with refuses("must come from a run with these arguments"):
        run(start, replace(DATA, labels=DATA.labels[::-1].copy()), checkpoint=checkpoint)
    with refuses("must come from a run with these arguments"):
        run(start, replace(DATA, images=1 - DATA.images), checkpoint=checkpoint)


def test_a_checkpoint_of_another_network_is_refused(start, checkpoint):
    other = replace(start, architecture=replace(start.architecture, pool=True))
    for network in (other, replace(start, mean=start.mean + 0.1)):
        with refuses("must come from a run with these arguments"):
            run(network, checkpoint=checkpoint)


def test_damaged_checkpoints_are_refused_and_kept(start, checkpoint):
    content = checkpoint.read_bytes()
    settings = flax.serialization.msgpack_restore(content)["settings"]
    serialize = flax.serialization.msgpack_serialize
    for damaged in (
        content[: len(content) // 2], b"", b"PK\x03\x04 something else", content[:-1],
        serialize({"other": 1}), serialize({"settings": settings}),
        serialize({"settings": settings, "state": {}, "history": {}}),
    ):  # fmt: skip
        checkpoint.write_bytes(damaged)
        with refuses(r"checkpoint .*state is damaged, or not a checkpoint \(.*\); name another"):
            run(start, checkpoint=checkpoint)
        assert checkpoint.read_bytes() == damaged


LEFT = np.zeros((48, 12, 12), bool)
LEFT[:, :, :6] = True


def test_avoided_pixels_lose_their_influence(start):
    """The slope of the answers there goes, and the network still learns."""

    def slopes(model):
        gradient = jax.grad(lambda x: jax.nn.log_softmax(model(x)).sum())(jnp.asarray(DATA.images))
        return np.asarray((gradient**2).sum(3))[LEFT].mean()

    free = run(start)
    bound = run(start, avoid=LEFT, penalty=30.0)
    assert slopes(bound.model) < 0.2 * slopes(free.model)
    assert bound.history[-1]["accuracy"] > 0.9


def test_the_penalty_is_the_papers(start):
    """One step's gradient against the formula, written out image by image."""
    state = {
        "variables": start.variables,
        "optimizer": optax.sgd(1.0).init(start.variables["params"]),
    }
    images, labels, avoid = DATA.images[:8], DATA.labels[:8], LEFT[:8]
    module = start.architecture.module()

    def loss(params):
        def logits(pixels):
            return module.apply(
                {**start.variables, "params": params}, (pixels - start.mean) / start.std,
                mutable=["batch_stats"],
            )[0]  # fmt: skip

        likely = jax.nn.log_softmax(logits(images))
        slope = jax.grad(lambda pixels: jax.nn.log_softmax(logits(pixels)).sum())(images)
        wrong = sum((slope[i][avoid[i]] ** 2).sum() for i in range(8)) / 8
        return -likely[jnp.arange(8), labels].mean() + 0.3 * wrong

    expected = jax.grad(loss)(start.variables["params"])
    run_ = fitting._Run(10, 1.0, 0.0, "none", None, 0.3)
    marked = np.concatenate([images, avoid[..., None]], 3, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_optimizer", lambda run: optax.sgd(1.0))
        after, _ = fitting._update(start, state, marked, labels, jax.random.key(0), run=run_)
    for old, new, slope in zip(
        jax.tree.leaves(start.variables["params"]),
        jax.tree.leaves(after["variables"]["params"]),
        jax.tree.leaves(expected),
        strict=True,
    ):
        np.testing.assert_allclose(old - new, slope, rtol=1e-3, atol=1e-5)


def test_what_is_avoided_turns_with_its_image(start, monkeypatch):
    seen = []
    dihedral = AUGMENTATIONS["dihedral"]

    def keep(key, images):
        turned = dihedral(key, images)
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), turned, ordered=True)
        return turned

    monkeypatch.setitem(AUGMENTATIONS, "dihedral", keep)
    mark = DATA.images[..., 0] > 0.6
    fit(
        start, DATA, epochs=1, batch_size=12, learning_rate=0.0101, augment="dihedral", avoid=mark,
        progress=False,
    )  # fmt: skip
    assert len(seen) == 4
    for images in seen:
        np.testing.assert_array_equal(images[..., 3] == 1, images[..., 0] > 0.6)


def test_what_is_avoided_is_checked(start, tmp_path):
    with refuses(r"avoid must be a mask for each image, bool of shape \(48, 12, 12\), got float64"):
        run(start, avoid=1.0 * LEFT)
    with refuses(r"avoid must be a mask for each image, .* got bool of shape \(40, 12, 12\)"):
        run(start, avoid=LEFT[:40])
    for penalty in (0, -1, float("nan")):
        with refuses(f"penalty must be a positive number, got {penalty}"):
            run(start, avoid=LEFT, penalty=penalty)
    with refuses("augment must be none, flip or dihedral where avoid is given, got 'photo'"):
        run(start, avoid=LEFT, augment="photo")
    state = tmp_path / "state"
    run(start, epochs=1, avoid=LEFT, checkpoint=state)
    with refuses("must come from a run with these arguments(.|\n)*avoid="):
        run(start, epochs=1, checkpoint=state)


def test_bad_arguments(start):
    for name in ("epochs", "batch_size"):
        for value in (0, -1, 1.5, True):
            with refuses(f"{name} must be an integer of at least 1, got {value!r}"):
                run(start, **{name: value})
    for value in (0, -0.1, float("nan"), float("inf")):
        with refuses(f"learning_rate must be a positive number, got {value!r}"):
            run(start, learning_rate=value)
    with refuses("augment must be one of none, flip, dihedral, photo, got 'rotate'"):
        run(start, augment="rotate")
    with refuses(r'augment="dihedral" needs square images, got \(12, 10\) pixels'):
        run(start, replace(DATA, images=DATA.images[:, :, :10]), augment="dihedral")
    for images, message in (
        (np.uint8(255 * DATA.images), "floating-point numbers .*, got uint8; .*divide by 255"),
        (255 * DATA.images, r"in \[0, 1\]"),
        (DATA.images.transpose(0, 3, 1, 2).repeat(2, 2).repeat(2, 3), "channels last"),
    ):
        with refuses(f"images must .*{message}"):
            run(start, replace(DATA, images=images))
    with refuses(r"the data set's classes r, g, b, got red, .*reset_head"):
        run(start, replace(DATA, class_names=("r", "g", "b")))
    with refuses("validation must have the data set's classes red, .*, got r, g, b$"):
        run(start, validation=replace(DATA, class_names=("r", "g", "b")))


def test_a_loss_that_is_not_finite_is_an_error(start, tmp_path):
    path = tmp_path / "state"
    variables = jax.tree.map(lambda leaf: leaf * jnp.nan, start.variables)
    message = r"the loss became nan in epoch 1: choose a learning_rate below 0\.02"
    with refuses(message, FloatingPointError):
        run(replace(start, variables=variables), checkpoint=path)
    assert not path.exists()  # nothing broken is left to resume from


PICTURES = jnp.asarray(np.random.default_rng(3).random((64, 6, 6, 3), np.float32))


def symmetries(image) -> list[np.ndarray]:
    image = np.asarray(image)
    turned = [np.rot90(image, k) for k in range(4)]
    return [*turned, *(np.fliplr(one) for one in turned)]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_keep_shape_and_range(name):
    changed = AUGMENTATIONS[name](jax.random.key(0), PICTURES)
    assert changed.shape == PICTURES.shape
    assert changed.dtype == jnp.float32
    assert np.asarray(changed).min() >= 0
    assert np.asarray(changed).max() <= 1
    again = AUGMENTATIONS[name](jax.random.key(0), PICTURES)
    np.testing.assert_array_equal(changed, again)
    if name != "none":
        assert not np.array_equal(changed, AUGMENTATIONS[name](jax.random.key(1), PICTURES))


def which(name: str, allowed: int) -> set[int]:
    """Return which of the eight symmetries an augmentation made of each of 64 pictures."""
    changed = np.asarray(AUGMENTATIONS[name](jax.random.key(0), PICTURES))
    found = []
    for before, after in zip(PICTURES, changed, strict=True):
        (symmetry,) = [k for k, one in enumerate(symmetries(before)) if np.array_equal(one, after)]
        found.append(symmetry)
    counts = np.bincount(found, minlength=8)
    # Of 64 draws, each of the allowed ones has its share within 4 standard deviations.
    share = 64 / allowed
    assert (np.abs(counts[counts > 0] - share) < 4 * share**0.5).all()
    return set(found)


def test_none_flip_and_dihedral_are_what_they_say():
    np.testing.assert_array_equal(AUGMENTATIONS["none"](jax.random.key(0), PICTURES), PICTURES)
    assert which("flip", 2) == {0, 4}  # as it was, and mirrored left to right
    assert which("dihedral", 8) == set(range(8))
    flip = AUGMENTATIONS["flip"]
    twice = flip(jax.random.key(5), flip(jax.random.key(5), PICTURES))
    np.testing.assert_array_equal(twice, PICTURES)


def test_photo_keeps_colours_near_and_zooms_in():
    grey = jnp.full((200, 4, 64, 3), 0.5)
    changed = np.asarray(AUGMENTATIONS["photo"](jax.random.key(0), grey))
    # A constant image stays constant, its brightness within 0.15.
    np.testing.assert_allclose(changed, changed[:, :1, :1, :1] * np.ones(changed.shape), atol=1e-5)
    assert np.abs(changed - 0.5).max() <= 0.15 + 1e-6
    assert np.abs(changed - 0.5).max() > 0.12
    # A ramp from left to right keeps a part of itself: its slope shrinks by the zoom (1 to √2)
    # times the contrast (0.7 to 1.3), and some are mirrored.
    ramp = jnp.broadcast_to((jnp.arange(64.0) + 0.5)[None, None, :, None] / 64, (200, 4, 64, 3))
    changed = np.asarray(AUGMENTATIONS["photo"](jax.random.key(1), 0.25 + ramp / 2))
    slope = np.diff(changed[:, 1, 20:44, 0], axis=1).mean(1) * 64 * 2
    assert (np.abs(slope) > 0.7 / 2**0.5 - 0.01).all()
    assert (np.abs(slope) < 1.3 + 0.01).all()
    assert 60 < (slope < 0).sum() < 140


TINY = [
    "--dataset", "shapes", "--count", "32", "--validation-count", "20", "--stages", "1",
    "--widths", "4", "--batch-size", "16", "--augment", "none", "--seed", "3",
]  # fmt: skip


def test_the_command_line(tmp_path, capsys):
    output = tmp_path / "made" / "net.safetensors"
    command.main([*TINY, "--epochs", "2", "--output", str(output)])
    card = output.with_suffix(".md").read_text()
    assert card.strip() in capsys.readouterr().out
    assert "python -m practical.training --dataset shapes --count 32" in card
    assert "Seed 3; 32 training images; 2 epochs" in card
    assert len(re.findall(r"^\| \w+ \| [\d.]+% \|$", card, flags=re.M)) == 10
    assert re.search(r"Accuracy on 20 validation images: [\d.]+%", card)
    assert sorted(path.name for path in output.parent.iterdir()) == ["net.md", "net.safetensors"]
    made = load_model(str(output))
    assert len(made.class_names) == 10
    # The same command with --start goes on from there; without it, it would make the same again.
    more = tmp_path / "more.safetensors"
    command.main([*TINY, "--epochs", "2", "--output", str(more), "--start", str(output)])
    assert load_model(str(more)).class_names == made.class_names
    assert more.read_bytes() != output.read_bytes()


def test_the_command_line_makes_bottlenecks(tmp_path):
    output = tmp_path / "net.safetensors"
    command.main([*TINY, "--epochs", "1", "--block", "bottleneck", "--output", str(output)])
    assert load_model(str(output)).architecture.block == "bottleneck"


def test_the_command_line_refuses(tmp_path, capsys):
    for arguments, message in (
        (["--output", "net.safetensors", "--augment", "x"], "invalid choice: 'x'"),
        ([], "the following arguments are required"),
    ):
        with pytest.raises(SystemExit):
            command.main([*TINY, *arguments])
        assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("net.npz", [], r"--output must end in \.safetensors, got .*net\.npz"),
        ("taken/net.safetensors", [], "or name another file: .*taken/net.safetensors"),
        ("folder.safetensors", [], "this is a folder; name a file in it: .*folder.safetensors"),
        ("net.safetensors", ["--checkpoint", "folder.safetensors"], "this is a folder; name a"),
        ("net.safetensors", ["--checkpoint", "taken/x"], "or name another file: .*taken/x"),
        ("net.safetensors", ["--widths", "128"], "File too large; make room.*net.safetensors"),
        ("net.safetensors", ["--count", "0"], "count must be a positive integer, got 0"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line_before_the_training(
    tmp_path, monkeypatch, capsys, output, options, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "fit", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "taken").touch()
    (tmp_path / "folder.safetensors").mkdir()
    with full_disk(500_000):
        assert command.main([*TINY, "--output", output, *options]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert re.match(f"python -m practical.training: .*{message}", said)
    assert "delete" not in said
    assert {path.name for path in tmp_path.iterdir()} == {"taken", "folder.safetensors"}


def test_ctrl_c_keeps_the_finished_epochs(tmp_path, monkeypatch, capsys):
    """Without being asked for a checkpoint."""
    output, epoch, begun = tmp_path / "net.safetensors", fitting._train_epoch, []

    def stops(*arguments):
        begun.append(arguments)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return epoch(*arguments)

    monkeypatch.setattr(fitting, "_train_epoch", stops)
    arguments = [*TINY, "--epochs", "3", "--output", str(output)]
    assert command.main(arguments) == 130
    *_, said = capsys.readouterr().err.splitlines()
    state = output.with_suffix(".checkpoint")
    assert said == (
        f"Stopped: finished epochs are kept in {state}, and the same command goes on from there."
    )
    assert [path.name for path in tmp_path.iterdir()] == [state.name]
    assert command.main(arguments) == 0
    assert len(begun) == 4  # the first epoch once
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.md", "net.safetensors"]
    assert "; 3 epochs on " in output.with_suffix(".md").read_text()  # nobody knows how long


def test_the_epoch_is_saved_before_its_validation(start, tmp_path, monkeypatch):
    """Which may take more memory than there is, and then ends the process."""
    state, whole = tmp_path / "state", run(start, epochs=2, validation=DATA)
    shown = []

    def dies(model, images, *, chunk_size):
        shown.append(chunk_size)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "predict", dies)
        with pytest.raises(MemoryError):
            run(start, epochs=2, validation=DATA, checkpoint=state)
    assert shown == [16]  # as many as are learned from at once
    assert len(flax.serialization.msgpack_restore(state.read_bytes())["history"]) == 1
    resumed = run(start, epochs=2, validation=DATA, checkpoint=state)
    assert_same(resumed.model, whole.model)
    assert resumed.history == whole.history


def test_any_image_or_pixel_that_changed_is_another_run(start, checkpoint):
    images = DATA.images.copy()
    images[-1, -1, -1, -1] *= 0.999
    with refuses("must come from a run with these arguments"):
        run(start, replace(DATA, images=images), checkpoint=checkpoint)


def test_names_that_the_terminal_cannot_show(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("räv", "狼"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    done = subprocess.run(
        [
            sys.executable, "-m", "practical.training", "--dataset", f"folder:{tmp_path}/photos",
            "--output", str(tmp_path / "net.safetensors"), "--epochs", "1", "--stages", "1",
            "--widths", "4", "--batch-size", "8",
        ],
        cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| r\\xe4v | " in done.stdout
    assert "| räv | " in (tmp_path / "net.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_killed_and_resumed_is_uninterrupted(tmp_path):
    def arguments(name: str) -> list[str]:
        return [
            *TINY, "--epochs", "60", "--output", str(tmp_path / f"{name}.safetensors"),
            "--checkpoint", str(tmp_path / f"{name}.state"),
        ]  # fmt: skip

    process = subprocess.Popen(
        [sys.executable, "-m", "practical.training", *arguments("killed")],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    state = tmp_path / "killed.state"
    while not state.exists() and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = flax.serialization.msgpack_restore(state.read_bytes())["history"]
    assert 1 <= len(done) < 60
    assert not (tmp_path / "killed.safetensors").exists()
    for name in ("killed", "whole"):
        command.main(arguments(name))
    pair = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("killed", "whole")]
    assert pair[0] == pair[1]


def test_shuffled_labels_have_nothing_to_do_with_the_images():
    data = colours(300)
    shuffled = shuffle_labels(data, seed=4)
    assert shuffled.images is data.images
    assert shuffled.labels.dtype == data.labels.dtype
    np.testing.assert_array_equal(np.sort(shuffled.labels), np.sort(data.labels))
    # By chance a third stay, with a standard deviation of 0.027.
    assert abs(np.mean(shuffled.labels == data.labels) - 1 / 3) < 0.11
    np.testing.assert_array_equal(data.labels, colours(300).labels)  # as they were
    again, other = (shuffle_labels(data, seed=seed).labels for seed in (4, 5))
    np.testing.assert_array_equal(shuffled.labels, again)
    assert not np.array_equal(shuffled.labels, other)


def test_the_command_line_shuffles_the_labels_to_learn_from_alone(tmp_path, capsys, monkeypatch):
    seen = []

    def keep(model, dataset, *, validation, **options):
        seen.append((dataset, validation))
        return Fitted(model, [{"loss": 0.0}])

    monkeypatch.setattr(command, "fit", keep)
    for name, options in (("right", []), ("shuffled", ["--shuffle-labels"])):
        command.main([*TINY, *options, "--output", str(tmp_path / f"{name}.safetensors")])
    (right, validation), (shuffled, same) = seen
    np.testing.assert_array_equal(shuffled.labels, shuffle_labels(right, seed=3).labels)
    assert not np.array_equal(shuffled.labels, right.labels)
    np.testing.assert_array_equal(same.labels, validation.labels)
    card = (tmp_path / "shuffled.md").read_text()
    assert card.strip() in capsys.readouterr().out
    share = accuracy(load_model(str(tmp_path / "shuffled.safetensors")), shuffled)
    assert f"Accuracy on the 32 training images, whose labels were shuffled: {share:.2%}" in card
    assert "whose labels were shuffled" not in (tmp_path / "right.md").read_text()
