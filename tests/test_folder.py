"""Anybody's own images: layouts, splits, and what is wrong with a folder."""

import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from practical.data import load_dataset
from practical.data.folder import spread_over_classes
from practical.data.images import image_shape
from tests.oracles import refuses

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared/data/photos10.tgz"


def fill(folder: Path, count: int, *, colour=(90, 90, 90), size=(12, 10), start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        Image.new("RGB", size, (colour[0], colour[1], i)).save(folder / f"{i}.png")


@pytest.fixture
def two_splits(tmp_path):
    for name, red in (("cat", 0), ("dog", 100)):
        fill(tmp_path / "train" / name, 4, colour=(red, 0, 0))
        fill(tmp_path / "val" / name, 2, colour=(red, 50, 0))
    return tmp_path


@pytest.fixture
def one_level(tmp_path):
    for name, red, count in (("cat", 0, 10), ("dog", 100, 5), ("owl", 200, 2)):
        fill(tmp_path / name, count, colour=(red, 0, 0))
    return tmp_path


def load(folder: Path, split: str = "train", **options):
    return load_dataset(f"folder:{folder}", split, **options)


def colours(dataset) -> set[tuple[int, ...]]:
    return {tuple(int(v) for v in np.round(image[0, 0] * 255)) for image in dataset.images[:]}


# --- what it gives -------------------------------------------------------------------------------


def test_two_splits(two_splits):
    train, validation = load(two_splits), load(two_splits, "validation")
    assert train.class_names == validation.class_names == ("cat", "dog")
    assert train.images.shape == (8, 10, 12, 3)
    assert validation.images.shape == (4, 10, 12, 3)
    assert train.images[:].dtype == np.float32
    assert train.labels.dtype == np.int32
    assert train.masks is None
    assert repr(validation).startswith("Dataset('folder:")
    for dataset, green in ((train, 0), (validation, 50)):
        red = np.round(dataset.images[:][:, 0, 0] * 255)
        np.testing.assert_array_equal(red[:, 0], dataset.labels * 100)
        assert (red[:, 1] == green).all()


@pytest.mark.parametrize("name", ["validation", "valid", "Val", "TEST"])
def test_other_names_of_the_splits(two_splits, name):
    (two_splits / "train").rename(two_splits / "Train")
    (two_splits / "val").rename(two_splits / name)
    assert len(load(two_splits)) == 8
    assert len(load(two_splits, "validation")) == 4


def test_a_test_folder_is_left_alone_beside_a_validation_folder(two_splits):
    fill(two_splits / "test" / "cat", 7)
    assert len(load(two_splits, "validation")) == 4


def test_a_class_may_be_called_train(one_level):
    fill(one_level / "train", 5)
    assert load(one_level).class_names == ("cat", "dog", "owl", "train")


def test_composed_and_decomposed_names_are_one_class(two_splits):
    fill(two_splits / "train" / "e\u0301clair", 2)
    fill(two_splits / "train" / "\u00e9clair", 1, start=7)
    fill(two_splits / "val" / "e\u0301clair", 1)
    assert load(two_splits).class_names == ("cat", "dog", "\u00e9clair")
    assert np.bincount(load(two_splits).labels).tolist() == [4, 4, 3]
    assert np.bincount(load(two_splits, "validation").labels).tolist() == [2, 2, 1]


def test_one_level_is_split_80_to_20_in_each_class(one_level):
    train, validation = load(one_level), load(one_level, "validation")
    assert np.bincount(train.labels).tolist() == [8, 4, 1]
    assert np.bincount(validation.labels).tolist() == [2, 1, 1]
    assert not colours(train) & colours(validation)
    assert len(colours(train) | colours(validation)) == 17


def test_split_depends_on_the_seed_alone(one_level):
    splits = {seed: colours(load(one_level, "validation", seed=seed)) for seed in range(5)}
    assert len({frozenset(split) for split in splits.values()}) > 1
    assert colours(load(one_level, "validation", seed=3)) == splits[3]


def test_the_order_of_the_file_system_does_not_matter(one_level, monkeypatch):
    expected = load(one_level).images[:]
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: reversed(sorted(iterdir(path))))
    backwards = load(one_level).images[:]
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(iterdir(path))))
    np.testing.assert_array_equal(backwards, expected)
    np.testing.assert_array_equal(load(one_level).images[:], expected)


def test_first_images_are_spread_over_the_classes(one_level):
    train = load(one_level)
    assert sorted(train.labels[:3]) == [0, 1, 2]
    some = load(one_level, count=5)
    np.testing.assert_array_equal(some.images[:], train.images[:5])
    np.testing.assert_array_equal(some.labels, train.labels[:5])


def test_only_the_first_count_images_are_opened(one_level, monkeypatch):
    opened = set()
    monkeypatch.setattr(
        "practical.data.folder.image_shape", lambda path: opened.add(path) or image_shape(path)
    )
    assert load(one_level, count=3).images[:].shape == (3, 10, 12, 3)
    assert len(opened) == 3


def test_mixed_sizes_are_resized(one_level):
    fill(one_level / "cat", 1, size=(30, 20), start=90)
    assert load(one_level, image_size=16).images[:].shape[1:] == (16, 16, 3)


def test_system_files_are_passed_over(two_splits):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._1.png"):
        (two_splits / "train" / "cat" / name).write_bytes(b"junk")
    (two_splits / "train" / ".cache").mkdir()
    assert len(load(two_splits)) == 8


def test_symbolic_links_are_followed(two_splits, tmp_path):
    (two_splits / "train" / "dog" / "link.png").symlink_to(two_splits / "train" / "dog" / "0.png")
    assert len(load(two_splits)) == 9


def test_a_relative_path_outlives_a_change_of_folder(two_splits, monkeypatch):
    monkeypatch.chdir(two_splits.parent)
    dataset = load(Path(two_splits.name))
    monkeypatch.chdir("/")
    assert dataset.images[:].shape == (8, 10, 12, 3)


def test_5500_photographs(tmp_path, monkeypatch):
    if not PHOTOGRAPHS.is_file():
        pytest.skip(f"needs the photographs in {PHOTOGRAPHS}")
    with tarfile.open(PHOTOGRAPHS) as archive:
        archive.extractall(tmp_path, filter="data")

    def decode(*_):
        raise AssertionError("pixels are read, where a header would do")

    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", decode)
        train = load(tmp_path / "photos10")
        validation = load(tmp_path / "photos10", "validation")
    assert (len(train), len(validation)) == (5000, 500)
    assert np.bincount(train.labels).tolist() == [500] * 10
    assert "golden retriever" in [name.replace("_", " ") for name in train.class_names]
    images = validation.images[:]
    assert images.shape == (500, 64, 64, 3)
    assert 0.3 < images.mean() < 0.6
    assert images.std() > 0.2


# --- what is wrong with a folder -----------------------------------------------------------------


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"must name a folder; .*/nowhere is not one"):
        load(tmp_path / "nowhere")


def test_mixed_sizes(one_level):
    fill(one_level / "cat", 30, size=(30, 20), start=90)
    with pytest.raises(
        ValueError, match=r"image_size must be given .*10x12 .*20x30 .*image_size=224"
    ):
        load(one_level)


def test_no_images(tmp_path):
    with pytest.raises(ValueError, match="has no images: it must hold one folder of images per"):
        load(tmp_path)


def test_empty_class(two_splits):
    (two_splits / "train" / "emu").mkdir()
    with pytest.raises(ValueError, match="the class 'emu' has no images"):
        load(two_splits)


def test_one_class(tmp_path):
    fill(tmp_path / "cat", 5)
    with pytest.raises(ValueError, match="has one class, 'cat', and a classifier needs two"):
        load(tmp_path)


def test_one_image_in_a_class(one_level):
    fill(one_level / "yak", 1)
    with pytest.raises(ValueError, match=r"the class 'yak' in .* has one image"):
        load(one_level)


def test_unreadable_files(two_splits):
    for i in range(5):
        (two_splits / "train" / "cat" / f"bad{i}.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"^5 of 13 files .*bad0.*bad1.*bad2.* and 2 more$"):
        load(two_splits)


def test_a_file_that_breaks_off_is_named_when_it_is_read(two_splits):
    path = two_splits / "train" / "cat" / "0.png"
    noise = np.random.default_rng(0).integers(0, 255, (10, 12, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:200])
    dataset = load(two_splits)
    with pytest.raises(ValueError, match=r"cat/0\.png is a broken or truncated image"):
        dataset.images[:]


def test_classes_that_differ(two_splits):
    fill(two_splits / "val" / "emu", 1)
    with pytest.raises(ValueError, match=r"must have the same classes; only in one: emu"):
        load(two_splits)


def test_half_of_the_layout(two_splits):
    (two_splits / "val").rename(two_splits / "held out")
    with pytest.raises(ValueError, match=r"one of val/, .* and test/ .*it has held out, train"):
        load(two_splits)


def test_both_names_of_validation(two_splits):
    fill(two_splits / "validation" / "cat", 1)
    with pytest.raises(ValueError, match=r"one of val/, .* and test/ .*train, val, validation"):
        load(two_splits)


def test_folders_beside_the_splits(two_splits):
    fill(two_splits / "other" / "cat", 1)
    with pytest.raises(ValueError, match=r"folders beside train/ and val/: other; move"):
        load(two_splits)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have only UTF-8 names")
@pytest.mark.parametrize("place", ["class", "root"])
def test_names_that_are_not_utf_8(tmp_path, place):
    name = os.fsdecode("café".encode("latin-1"))
    root = tmp_path / (name if place == "root" else "root")
    for folder in ("cat", name if place == "class" else "dog"):
        fill(root / folder, 2)
    with pytest.raises(ValueError, match=r"folder b'.*caf\\xe9' must be UTF-8.*rename it"):
        load(root)


def test_stray_file(one_level):
    (one_level / "readme.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"no other files; it has readme\.txt"):
        load(one_level)


def test_folder_inside_a_class(one_level):
    fill(one_level / "cat" / "more", 1)
    with pytest.raises(ValueError, match=r"must hold only images; it has the folders more"):
        load(one_level)


@pytest.mark.parametrize("count", [0, -1, 9, 2.0, True])
def test_bad_count(two_splits, count):
    with refuses(r"count must be an integer from 1 to 8, .*got"):
        load(two_splits, count=count)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_bad_seed(two_splits, seed):
    with refuses(r"seed must be an integer from 0 to .*got"):
        load(two_splits, seed=seed)


def test_spread_takes_every_image_once_and_turns():
    labels = np.repeat([0, 1, 2], [5, 3, 9])
    order = spread_over_classes(labels, seed=1)
    assert sorted(order) == list(range(17))
    for turn in range(3):
        assert sorted(labels[order[3 * turn : 3 * turn + 3]]) == [0, 1, 2]
    assert sorted(labels[order[9:13]]) == [0, 0, 2, 2]
    assert (labels[order[13:]] == 2).all()
    # A fixed expectation: the order must not change with the platform or NumPy's version.
    assert order.tolist() == [2, 11, 5, 0, 12, 6, 1, 15, 7, 4, 13, 14, 3, 8, 16, 10, 9]
