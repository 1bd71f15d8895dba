import hashlib

import numpy as np
import pytest
from scipy.stats import binom

from practical.data import load_dataset
from practical.data.shapes import CLASS_NAMES, class_of, draw_scene, shapes
from tests.oracles import refuses

SPLITS = ("train", "validation")


def digest(dataset, count: int = 3) -> str:
    """Return a short sha256 of the first images' bytes, in 0..255, and of their masks."""
    pixels = np.round(dataset.images[:count] * 255).astype(np.uint8)
    masks = np.packbits(dataset.masks[:count])
    return hashlib.sha256(pixels.tobytes() + masks.tobytes()).hexdigest()[:16]


# Printed once by `digest` on x86-64, Python 3.11. No other platform or version may
# print others: the weights of load_model("shapes") and every figure of the course rest on them.
PINNED = {
    ("train", 64, 0): "803c0a60a2dba520",
    ("train", 96, 0): "5c85dcf49ed0c716",
    ("validation", 64, 0): "1576dcd658a56c69",
    ("validation", 96, 0): "bab0b3778bd01ca7",
    ("train", 64, 7): "87ef4d0056ed6f90",
    ("validation", 64, 7): "eac73b918e2b95e9",
    ("validation", 128, 0): "5a484c3ff1644074",
}


@pytest.mark.parametrize(("split", "size", "seed"), PINNED)
def test_pixels_are_pinned(split, size, seed):
    assert digest(shapes(split, image_size=size, seed=seed)) == PINNED[split, size, seed]


def test_labels_are_pinned():
    assert [class_of("train", i) for i in range(10)] == [1, 4, 5, 6, 8, 2, 0, 3, 9, 7]
    assert [class_of("validation", i) for i in range(10)] == [9, 1, 4, 5, 8, 6, 7, 2, 3, 0]


def test_the_form_of_the_data_set():
    dataset = load_dataset("shapes")
    assert len(dataset) == 2000
    assert len(load_dataset("shapes", "train")) == 25_000
    assert dataset.class_names == CLASS_NAMES
    assert len(set(CLASS_NAMES)) == 10
    assert dataset.images.shape == (2000, 64, 64, 3)
    images, masks = dataset.images[:4], dataset.masks[:4]
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert masks.dtype == bool
    assert masks.shape == (4, 64, 64)
    assert dataset.labels.dtype == np.int32
    assert load_dataset("shapes", image_size=96).images.shape[1:3] == (96, 96)


def test_any_order_of_looking_gives_the_same_pixels():
    first, second = shapes("train", count=20), shapes("train", count=20)
    whole = first.images[:]
    for i in (13, 2, 19):
        np.testing.assert_array_equal(second.images[i], whole[i])
    np.testing.assert_array_equal(second.images[[5, 5, 0]], whole[[5, 5, 0]])
    np.testing.assert_array_equal(second.images[-2:], whole[-2:])
    np.testing.assert_array_equal(np.asarray(second.images), whole)
    picked = second.select(second.labels == 3)
    np.testing.assert_array_equal(picked.images, whole[first.labels == 3])
    np.testing.assert_array_equal(picked.masks, first.masks[first.labels == 3])


def test_a_smaller_set_is_the_beginning_of_a_larger_one():
    small, large = shapes("train", count=7), shapes("train", count=25)
    np.testing.assert_array_equal(small.images[:], large.images[:7])
    np.testing.assert_array_equal(small.masks[:], large.masks[:7])
    np.testing.assert_array_equal(small.labels, large.labels[:7])


def test_each_run_of_ten_has_all_classes():
    for split in SPLITS:
        labels = shapes(split, count=500).labels.reshape(50, 10)
        np.testing.assert_array_equal(np.sort(labels, axis=1), np.tile(np.arange(10), (50, 1)))
        assert len({tuple(run) for run in labels}) > 45  # in an order of its own


def test_per_class():
    picked = load_dataset("shapes").per_class(2)
    assert picked.labels.tolist() == [label for label in range(10) for _ in range(2)]
    with refuses(r"count must be at most the images of each class; 'disk' has 1, got count=2"):
        shapes("train", count=10).per_class(2)


@pytest.fixture(scope="module")
def scenes():
    """The first 150 scenes of each split, at 64 pixels."""
    return {split: [draw_scene(split, i) for i in range(150)] for split in SPLITS}


def test_no_image_is_in_two_places(scenes):
    other_seed = [draw_scene("train", i, seed=1) for i in range(150)]
    everything = [*scenes["train"], *scenes["validation"], *other_seed]
    for part in ("image", "background"):
        hashes = {getattr(scene, part).tobytes() for scene in everything}
        assert len(hashes) == 450


def test_the_data_set_shows_the_scenes(scenes):
    dataset = shapes("validation", count=30)
    for i, scene in enumerate(scenes["validation"][:30]):
        np.testing.assert_array_equal(np.round(dataset.images[i] * 255), scene.image)
        np.testing.assert_array_equal(dataset.masks[i], scene.mask)
        assert dataset.labels[i] == scene.label == class_of("validation", i)


def test_masks_are_exact(scenes):
    for scene in (*scenes["train"], *scenes["validation"]):
        changed = (scene.image != scene.background).any(-1)
        assert not changed[~scene.mask].any()  # outside of the mask: bit for bit the background
        # Inside nearly all pixels change: the object's colour is unlike what is behind. A faint
        # edge or a lucky colour may round to the same 8 bits.
        assert changed[scene.mask].mean() > 0.5


def test_objects_are_large_enough_to_see_and_leave_a_background(scenes):
    for label, name in enumerate(CLASS_NAMES):
        shares = [s.mask.mean() for split in SPLITS for s in scenes[split] if s.label == label]
        assert len(shares) == 30
        # The outlines have from about 1 (cross, arrow) to 2.8 (disk) of their radius squared, a
        # squeeze of at least 0.8, and radii from 0.16 to 0.30 of a side.
        assert min(shares) > 0.8 * 0.8 * 0.16**2, name
        assert max(shares) < 3.3 * 0.30**2, name


def test_objects_stay_inside(scenes):
    # A mask may touch the edge (outlines reach to 1.1 of the circle that is kept inside), but no
    # part is cut off: its centre of mass is further inside than the smallest radius.
    for scene in scenes["train"]:
        rows, columns = np.nonzero(scene.mask)
        for place in (rows.mean() / 64, columns.mean() / 64):
            assert 0.08 < place < 0.92


def test_the_class_decides_the_outline_and_nothing_else():
    for index in range(12):
        own = draw_scene("train", index)
        for label in {0, 3, 7, own.label}:
            other = draw_scene("train", index, label=label)
            assert other.label == label
            np.testing.assert_array_equal(other.background, own.background)
            outside = ~(own.mask | other.mask)
            np.testing.assert_array_equal(other.image[outside], own.image[outside])
            # Where both objects cover a pixel wholly, they show the same paint. Wholly covered is
            # what a pixel is whose neighbours are all in the mask.
            both = eroded(own.mask) & eroded(other.mask)
            np.testing.assert_array_equal(other.image[both], own.image[both])
            if label != own.label:
                assert not np.array_equal(other.mask, own.mask)


def eroded(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 2)
    shifts = range(-2, 3)
    whole = [np.roll(padded, (down, right), (0, 1)) for down in shifts for right in shifts]
    return np.logical_and.reduce(whole)[2:-2, 2:-2]


def features(images: np.ndarray) -> np.ndarray:
    """Return a coarse view of 8x8 cells, the spread in each, and a colour histogram."""
    images = images.astype(np.float64) / 255
    cells = images.reshape(len(images), 8, 8, 8, 8, 3)
    histogram = [
        (images * 7.99).astype(int).reshape(len(images), -1, 3)[:, :, c] == k
        for c in range(3)
        for k in range(8)
    ]
    return np.concatenate(
        [
            cells.mean((2, 4)).reshape(len(images), -1),
            cells.std((2, 4)).mean(-1).reshape(len(images), -1),
            np.stack([h.mean(1) for h in histogram], axis=1),
        ],
        axis=1,
    )


def right_answers(train, train_labels, test, test_labels) -> int:
    """Fit ridge regression on one-hot labels, and count its right answers on unseen images."""
    train, test = features(train), features(test)
    center, scale = train.mean(0), train.std(0) + 1e-6
    train, test = (train - center) / scale, (test - center) / scale
    onehot = np.eye(10)[train_labels] - 0.1
    weights = np.linalg.solve(train.T @ train + 300 * np.eye(train.shape[1]), train.T @ onehot)
    return int(((test @ weights).argmax(1) == test_labels).sum())


def test_a_background_tells_nothing_of_the_class():
    train = [draw_scene("train", i) for i in range(600)]
    test = [draw_scene("validation", i) for i in range(300)]
    labels = [np.array([scene.label for scene in part]) for part in (train, test)]

    def answers(tint=None) -> int:
        parts = [np.stack([s.background for s in part]) for part in (train, test)]
        if tint is not None:
            parts = [
                np.clip(part + tint[label][:, None, None], 0, 255)
                for part, label in zip(parts, labels, strict=True)
            ]
        return right_answers(parts[0], labels[0], parts[1], labels[1])

    # By guessing, more than this happens once in a thousand; these images are always the same.
    chance = binom.ppf(0.999, 300, 0.1)
    assert chance < 0.16 * 300
    assert answers() <= chance
    # The control: a tint of 40 of 255 levels, each class its own, is found by the same means.
    tints = 40 * np.array([(r, g, b) for r in (-1, 0, 1) for g in (-1, 1) for b in (-1, 1)][:10])
    assert answers(tints) > 2 * chance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, r"split must be \"train\" or \"validation\", got 'test'"),
        ({"image_size": 63}, "image_size must be an integer from 64 to 128 pixels.*got 63"),
        ({"image_size": 129}, "image_size must be an integer from 64 to 128 pixels.*got 129"),
        ({"image_size": 64.0}, r"image_size must be an integer.*got 64\.0"),
        ({"count": 0}, "count must be a positive integer, got 0"),
        ({"count": 2.5}, "count must be a positive integer, got 2.5"),
        ({"count": True}, "count must be a positive integer, got True"),
        ({"seed": -1}, r"seed must be an integer from 0 to 2\*\*32 - 1, got -1"),
        ({"seed": 2**32}, "seed must be an integer"),
        ({"seed": 0.5}, "seed must be an integer"),
    ],
)
def test_bad_arguments(arguments, message):
    with refuses(message):
        shapes(**{"split": "train", **arguments})


def test_bad_names():
    with refuses(r"name must be one of .*'folder:PATH', got 'shape'; did you mean 'shapes'\?"):
        load_dataset("shape")
    with refuses(r"split must be one of 'train', 'validation', got 'valid'; did you mean"):
        load_dataset("shapes", "valid")
    with refuses("size is an option of imagenette"):
        load_dataset("shapes", size="160px")
    with refuses("image_size must be"):
        load_dataset("shapes", image_size=32)


def test_bad_scenes():
    for label in (-1, 10):
        with refuses(f"label must be from 0 to 9, got {label}"):
            draw_scene("train", 0, label=label)
    with refuses("index must be .*got -1"):
        draw_scene("train", -1)
