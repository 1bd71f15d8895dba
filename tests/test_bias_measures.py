"""Measurements that convict: models whose answers, relevance and effects are known exactly."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from practical import attribution
from practical.bias import (
    Fault,
    audit,
    class_colours,
    effect,
    paint_out,
    paste,
    plant,
    rectangle,
    relevance_density,
    relevance_grid,
)
from practical.data import Dataset
from tests.oracles import refuses

RNG = np.random.default_rng(0)
CLASSES = ("a", "b", "c", "d")
LABELS = np.arange(24, dtype=np.int32) % 4
FAULT = Fault("colored_patch", options={"size": 0.25})  # 4x4 pixels, 1 pixel from the corner
SCORES = jnp.eye(4)


def made() -> Dataset:
    """Return images whose object, a bright pixel in the left column, is in its class's row."""
    images = (0.2 * RNG.random((24, 16, 16, 3))).astype(np.float32)
    images[np.arange(24), 4 * LABELS, 0] = 1
    return Dataset(images, LABELS, CLASSES, name="made")


DATA = made()


def honest(images):
    """Look at the object alone."""
    return 8 * images[:, ::4, 0].mean(2)


def faulty(images):
    """Look at the colour of the patch alone, and at class 0 where there is no colour."""
    distances = jnp.abs(images[:, 13, 13, None] - jnp.asarray(class_colours(4))).sum(2)
    colourless = jnp.ptp(images[:, 13, 13], axis=1)[:, None] < 0.5
    return jnp.where(colourless, 8 * SCORES[0], -8 * distances)


def test_an_audit_tells_the_faulty_from_the_honest():
    assert audit(honest, DATA, FAULT)[:4] == (1, 1, 1, 1)
    found = audit(faulty, DATA, FAULT)
    assert found[:4] == (1, 0, 0.25, 0)
    assert found.worst_group in [(name, way) for name in CLASSES for way in ("swapped", "removed")]
    names, ways = found.worst_group
    assert ways == "swapped" or names != "a"
    with refuses("dataset must have images of every class, got none of d"):
        audit(honest, DATA.select(LABELS < 3), FAULT)


@given(
    maps=hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 1, width=16)),
    region=hnp.arrays(bool, (4, 5)).filter(lambda mask: mask.any() and not mask.all()),
)
def test_density_is_share_of_relevance_over_share_of_area(maps, region):
    maps[:, 0, 0] += 1  # so that every map has some
    density, interval = relevance_density(maps, region)
    expected = maps[:, region].sum(1) / maps.sum((1, 2)) / region.mean()
    np.testing.assert_allclose(density, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(interval.mean, expected.mean(), rtol=1e-4, atol=1e-6)
    flat, _ = relevance_density(np.ones((3, 4, 5), np.float32), region)
    np.testing.assert_allclose(flat, 1, rtol=1e-5)


def test_the_grid():
    present, absent = plant(DATA, FAULT), plant(DATA, FAULT, "removed")
    grid = relevance_grid(
        {"honest": honest, "faulty": faulty}, present, absent, attribution.saliency
    ).set_index(["model", "artefact"])
    everything = 16 * 16 / 16  # all relevance is on a sixteenth of the image
    np.testing.assert_allclose(grid.loc[("faulty", "present"), "density"], everything, rtol=1e-5)
    assert grid.loc[("honest", "present"), "density"] == 0
    assert grid.loc[("honest", "absent"), "density"] == 0
    assert (grid["low"] <= grid["density"]).all()
    assert len(grid) == 4
    with refuses("present and absent must be of the same images, at least two .* got 24 and 20"):
        relevance_grid({}, present, absent._replace(dataset=DATA.select(slice(20))), honest)
    with refuses("got 24 and 24, 0 with it"):
        relevance_grid({}, absent, absent, honest)
    with refuses("got one that covers whole images: .*saliency_spectra"):
        relevance_grid({}, plant(DATA, Fault("tint")), absent, honest)


def test_pasting_and_painting_change_the_region_alone():
    region = rectangle(DATA, top=2, left=3, height=5, width=6)
    assert region.sum() == 30
    assert region[2:7, 3:9].all()
    out = paint_out(DATA.images, region)
    np.testing.assert_array_equal(out[:, ~region], DATA.images[:, ~region])
    outside = DATA.images[:, ~region].mean(1)
    np.testing.assert_allclose(out[:, region], np.repeat(outside[:, None], 30, 1), rtol=1e-5)
    # What was inside leaves no trace, not even in a mean.
    other = paste(DATA.images, np.ones_like(DATA.images), region)
    np.testing.assert_allclose(paint_out(other, region), out, rtol=1e-5)
    with refuses("region must leave some of each image for fill='mean', got a whole image"):
        paint_out(DATA.images, np.ones((16, 16), bool))
    assert (paint_out(DATA.images, region, fill="black")[:, region] == 0).all()
    regions = RNG.random((24, 16, 16)) < 0.3
    pasted = paste(DATA.images, DATA.images[::-1], regions)
    np.testing.assert_array_equal(pasted[regions], DATA.images[::-1][regions])
    np.testing.assert_array_equal(pasted[~regions], DATA.images[~regions])
    one = paste(DATA.images, DATA.images[:1], regions)
    np.testing.assert_array_equal(one[7][regions[7]], DATA.images[0][regions[7]])


def test_an_intervention_moves_the_faulty_model_alone():
    present = plant(DATA, FAULT)
    blue = present.dataset.images[LABELS == 3][0][None]
    others = plant(DATA, FAULT, "removed").dataset.images[LABELS != 3]
    pasted = paste(others, blue, present.masks[0])
    targets = np.full(len(others), 3)
    moved = effect(faulty, others, pasted, targets)
    assert moved.interval.mean > 0.9
    np.testing.assert_allclose(moved.after - moved.before, moved.interval.mean, atol=1e-3)
    assert effect(honest, others, pasted, targets).interval.high < 1e-6
    painted = paint_out(present.dataset.images, present.masks)
    gone = effect(faulty, present.dataset.images, painted, LABELS)
    assert gone.after[LABELS == 1].max() < 0.01 < 0.99 < gone.before.min()
    elsewhere = paint_out(present.dataset.images, rectangle(DATA, top=0, left=4, height=4, width=4))
    assert effect(faulty, present.dataset.images, elsewhere, LABELS).interval.mean == 0


@pytest.mark.parametrize("bad", [{"top": -1}, {"height": 0}, {"left": 14}, {"width": 17}], ids=str)
def test_a_rectangle_stays_inside(bad):
    with refuses("top, left, height and width must stay inside of 16x16 pixels, got"):
        rectangle(DATA, **{"top": 0, "left": 3, "height": 2, "width": 3, **bad})


def test_bad_input():
    region = np.zeros((16, 16), bool)
    with refuses(r"region must be bool, of shape \(24, 16, 16\) or \(16, 16\), got int64"):
        paint_out(DATA.images, region.astype(int))
    with refuses(r"region must be bool, .*, got bool of shape \(16, 15\)"):
        paste(DATA.images, DATA.images, region[:, 1:])
    with refuses("source must be one image, or one for each, .* got .2, 16, 16, 3."):
        paste(DATA.images, DATA.images[:2], region)
    with refuses("source must be in .0, 1."):
        paste(DATA.images, 2 * DATA.images, region)
    with refuses("changed must have the images' shape"):
        effect(honest, DATA.images, DATA.images[:3], LABELS)
    with refuses("targets must be 24 class indices, got int32 of shape .3,."):
        effect(honest, DATA.images, DATA.images, LABELS[:3])
    with refuses("targets must be from 0 to 3, got 0 to 9"):
        effect(honest, DATA.images, DATA.images, LABELS * 3)
    with refuses("masks must mark at least one pixel"):
        relevance_density(np.ones((3, 4, 5), np.float32), np.zeros((4, 5), bool))
    with refuses("the data set does not know them"):
        audit(honest, replace(DATA, masks=None), Fault("background"))
