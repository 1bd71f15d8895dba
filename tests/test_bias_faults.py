"""Faults planted in data sets: aligned, swapped, shuffled, removed."""

from dataclasses import replace

import numpy as np
import pytest

from practical.bias import ARTEFACTS, COLOURED, Fault, class_colours, plant
from practical.data import Dataset
from tests.oracles import refuses

RNG = np.random.default_rng(1)
CLASSES = ("a", "b", "c", "d")
DATA = Dataset(
    RNG.random((40, 16, 16, 3), np.float32), np.arange(40, dtype=np.int32) % 4, CLASSES,
    masks=np.broadcast_to(np.indices((16, 16)).sum(0) < 12, (40, 16, 16)), name="noise",
)  # fmt: skip
every_fault = pytest.mark.parametrize("name", ARTEFACTS)


def said(biased) -> np.ndarray:
    """Return the class whose colour each image's patch has."""
    corner = biased.dataset.images[:, 13, 13]
    return np.abs(corner[:, None] - class_colours(4)).sum(2).argmin(1)


@every_fault
def test_the_data_set_stays_as_it_is(name):
    before = DATA.images.copy()
    for way in ("aligned", "swapped", "shuffled", "removed"):
        biased = plant(DATA, Fault(name), way, seed=2)
        np.testing.assert_array_equal(DATA.images, before)
        np.testing.assert_array_equal(biased.dataset.labels, DATA.labels)
        assert biased.dataset.name == DATA.name
        np.testing.assert_array_equal(biased.dataset.masks, DATA.masks)
        again = plant(DATA, Fault(name), way, seed=2)
        np.testing.assert_array_equal(again.dataset.images, biased.dataset.images)
        if way == "removed":
            np.testing.assert_array_equal(biased.dataset.images, before)
            assert not biased.masks.any()


def test_colours_aligned_swapped_and_shuffled():
    fault = Fault("colored_patch", options={"size": 0.4})
    assert (said(plant(DATA, fault)) == DATA.labels).all()
    swapped = said(plant(DATA, fault, "swapped"))
    assert (swapped != DATA.labels).all()
    assert len({(a, b) for a, b in zip(swapped, DATA.labels, strict=True)}) > 8
    shuffled = said(plant(DATA, fault, "shuffled"))
    assert np.bincount(shuffled).tolist() == [10] * 4
    assert 0 < (shuffled == DATA.labels).sum() < 30


@pytest.mark.parametrize("name", [name for name in ARTEFACTS if name not in COLOURED])
def test_what_one_class_carries_all_others_carry_when_swapped(name):
    carriers = plant(DATA, Fault(name)).masks.any((1, 2))
    assert (carriers == (DATA.labels == 0)).all()
    assert (plant(DATA, Fault(name, 2)).masks.any((1, 2)) == (DATA.labels == 2)).all()
    swapped = plant(DATA, Fault(name, 2), "swapped").masks.any((1, 2))
    assert (swapped == (DATA.labels != 2)).all()
    shuffled = plant(DATA, Fault(name, 2), "shuffled").masks.any((1, 2))
    assert shuffled.sum() == 10
    assert len(set(DATA.labels[shuffled])) > 2


def test_the_share_of_images():
    carriers = plant(DATA, Fault("tint", share=0.7), seed=1).masks.any((1, 2))
    assert [carriers[DATA.labels == label].sum() for label in range(4)] == [7] * 4
    half = plant(DATA, Fault("sticker", 1, share=0.5)).masks.any((1, 2))
    assert [half[DATA.labels == label].sum() for label in range(4)] == [0, 5, 0, 0]


def test_one_class_may_carry_its_colour_alone():
    masks = plant(DATA, Fault("border", 3)).masks.any((1, 2))
    assert (masks == (DATA.labels == 3)).all()
    swapped = plant(DATA, Fault("border", 3), "swapped")
    assert (swapped.masks.any((1, 2)) == (DATA.labels != 3)).all()
    colour = swapped.dataset.images[0, 0, 0]
    np.testing.assert_allclose(colour, class_colours(4)[3], atol=1e-6)


def test_bad_input():
    with refuses("artefact must be one of colored_patch, .*, got 'patch'"):
        Fault("patch")
    with refuses("way must be one of aligned, swapped, shuffled, removed, got 'none'"):
        plant(DATA, Fault("tint"), "none")
    alone = replace(DATA, labels=np.zeros(40, np.int32), class_names=("a",))
    for name in ("tint", "watermark"):
        with refuses('way must not be "swapped" for a data set of fewer than two classes, .*got 1'):
            plant(alone, Fault(name), "swapped")
        plant(alone, Fault(name))
    with refuses("only must be a class that some image has, .0, 1, 2, 3., got 4"):
        plant(DATA, Fault("sticker", 4))
    for way in ("swapped", "shuffled", "removed"):
        with refuses("only must be a class that some image has, .0, 1, 2, 3., got 4"):
            plant(DATA, Fault("sticker", 4), way)
    with refuses("share must be of at least one image of a class, got 0.04 of 10; take a larger"):
        plant(DATA, Fault("sticker", 1, share=0.04))
    with refuses("the data set does not know them; choose another artefact"):
        plant(replace(DATA, masks=None), Fault("background"))
    with refuses("size must be of at least one pixel and less than 1 of 16 pixels"):
        plant(DATA, Fault("colored_patch", options={"size": 1.2}))
