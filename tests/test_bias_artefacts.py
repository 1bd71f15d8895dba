"""Artefacts: what they change and what not, closed forms, and bad input."""

import colorsys
import inspect

import jax
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from practical.bias.artefacts import ARTEFACTS, COLOURED, PLACELESS, class_colours
from tests.oracles import refuses

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, 24, 30, 3), np.float32)
LABELS = np.array([0, 1, 2, 3] * 3)
OBJECTS = np.zeros((12, 24, 30), bool)
OBJECTS[:, 5:12, 8:20] = True
every_artefact = pytest.mark.parametrize("name", ARTEFACTS)


def planted(name, images=IMAGES, labels=LABELS, key=KEY, **options):
    needed = {"classes": 4} if name in COLOURED else {}
    if name == "background":
        needed["objects"] = OBJECTS[: len(images)]
    return ARTEFACTS[name](images, labels, key, **{**needed, **options})


@every_artefact
@given(
    strength=st.floats(0.05, 1), share=st.floats(0.2, 1), seed=st.integers(0, 2**31),
    only=st.sampled_from([None, 0, 1, 3]),
)  # fmt: skip
@settings(deadline=None, max_examples=12)
def test_only_carriers_change_and_only_where_the_mask_is(name, strength, share, seed, only):
    given_images, given_labels = IMAGES.copy(), LABELS.copy()
    if name not in COLOURED:
        only = only or 0
    images, masks = planted(
        name, key=jax.random.key(seed), strength=strength, share=share, only=only
    )
    np.testing.assert_array_equal(IMAGES, given_images)
    np.testing.assert_array_equal(LABELS, given_labels)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(images[~masks], IMAGES[~masks])
    carriers = masks.any((1, 2))
    assert (carriers == (images != IMAGES).any((1, 2, 3))).all()
    for label in range(4):
        wanted = round(share * 3) if only in (None, label) else 0
        assert carriers[label == LABELS].sum() == wanted


@every_artefact
def test_a_key_decides(name):
    one, again = planted(name, share=0.4), planted(name, share=0.4)
    np.testing.assert_array_equal(one.images, again.images)
    others = [planted(name, share=0.4, key=jax.random.key(seed)).masks for seed in range(12)]
    assert any((other != one.masks).any() for other in others)


def test_a_fixed_patch_is_where_it_was_computed_by_hand_to_be():
    images, masks = planted("colored_patch", size=0.25, strength=0.5)  # 6 pixels of 24, margin 1
    expected = np.zeros((24, 30), bool)
    expected[17:23, 23:29] = True
    assert (masks == expected).all()
    for image, label, before in zip(images, LABELS, IMAGES, strict=True):
        colour = np.array(colorsys.hsv_to_rgb(label / 4, 1, 1))
        np.testing.assert_allclose(image[expected], (before[expected] + colour) / 2, rtol=1e-5)


def test_a_random_patch_comes_to_every_place_and_keeps_its_size():
    images = np.zeros((400, 6, 8, 3), np.float32)
    masks = planted(
        "colored_patch", images, np.zeros(400, int), size=0.34, place="random"
    ).masks  # 2 pixels
    assert (masks.sum((1, 2)) == 4).all()
    corners = {tuple(np.argwhere(mask)[0]) for mask in masks}
    assert corners == {(top, left) for top in range(5) for left in range(7)}


def test_a_border_is_a_frame():
    masks = planted("border", size=0.1).masks  # 2 pixels
    assert not masks[:, 2:-2, 2:-2].any()
    assert masks.sum((1, 2)).tolist() == [24 * 30 - 20 * 26] * 12


@pytest.mark.parametrize(("name", "most"), [("tint", 0.25), ("background", 0.5)])
def test_mixed_colours(name, most):
    images, masks = planted(name, strength=0.6)
    mixed = IMAGES + 0.6 * most * (class_colours(4)[LABELS][:, None, None] - IMAGES)
    np.testing.assert_allclose(images[masks], mixed[masks], rtol=1e-5)
    assert (masks == (~OBJECTS if name == "background" else True)).all()


def test_a_sticker_is_a_face_of_its_size_at_random_places():
    images, masks = planted("sticker", labels=np.zeros(12, int), size=0.5)  # 12 pixels
    rows, columns = np.indices((12, 12)) - 5.5
    assert (masks.sum((1, 2)) == (rows**2 + columns**2 <= 36).sum()).all()
    places = {tuple(np.argwhere(mask).min(0)) for mask in masks}
    assert len(places) > 6
    on = images[0][masks[0]]
    assert (np.abs(on - [1, 225 / 255, 0]) < 1e-3).all(1).mean() > 0.4  # yellow
    assert (on < 0.2).all(1).any()  # and eyes


def test_a_watermark_is_white_ink_inside_of_its_rectangle():
    images, masks = planted("watermark", np.zeros_like(IMAGES), size=0.8, text="HHH")
    inside = images[0][masks[0]]
    assert inside.max() <= 0.5
    assert np.quantile(inside, 0.9) > 0.45
    assert (inside == inside[:, :1]).all()
    rows, columns = np.flatnonzero(masks[0].any(1)), np.flatnonzero(masks[0].any(0))
    assert len(columns) == 24
    assert rows.max() == 22
    other = planted("watermark", np.zeros_like(IMAGES), size=0.8, text="ooo").images
    assert (other != images).any()


def test_a_checkerboard_is_the_highest_frequency_and_faint():
    images = planted("checkerboard", np.full_like(IMAGES, 0.5), strength=0.5).images
    spectrum = np.abs(np.fft.fft2(images[0, ..., 1] - 0.5))
    peak = np.unravel_index(spectrum.argmax(), spectrum.shape)
    assert peak == (12, 15)
    np.testing.assert_allclose(spectrum[peak], 2 / 255 * 24 * 30, rtol=1e-4)
    spectrum[peak] = 0
    assert spectrum.max() < 1e-3
    assert np.abs(planted("checkerboard").images - IMAGES).max() <= 4.001 / 255


def test_blur_is_a_gaussian():
    images = planted("blur", strength=0.5).images
    sigma = 24 / 32
    for channel in range(3):
        expected = scipy.ndimage.gaussian_filter(IMAGES[0, ..., channel], sigma, mode="nearest")
        expected = (IMAGES[0, ..., channel] + expected) / 2
        np.testing.assert_allclose(images[0, ..., channel], expected, atol=1e-6)


def test_what_is_said_of_places_and_colours():
    for name, artefact in ARTEFACTS.items():
        masks = planted(name).masks
        assert (name in PLACELESS) == masks[masks.any((1, 2))].all()
        assert (name in COLOURED) == ("classes" in inspect.signature(artefact).parameters)
    colours = class_colours(10)
    assert len({tuple(colour) for colour in colours}) == 10


@every_artefact
def test_bad_input(name):
    for value in (0, 1.01, -0.5, float("nan")):
        with refuses(f"strength must be in .0, 1., got {value}"):
            planted(name, strength=value)
        with refuses(f"share must be in .0, 1., got {value}"):
            planted(name, share=value)
    with refuses(r"only must be a class that some image has, \[0, 1, 2, 3\], got 7"):
        planted(name, only=7)
    with refuses(r"images must be in \[0, 1\], got values from 1.003 to 256"):
        planted(name, 255 * IMAGES + 1)
    with refuses(r"images must be in \[0, 1\], got values from nan"):
        planted(name, np.full_like(IMAGES, np.nan))
    with refuses(r"images must have shape \(N, H, W, 3\), got \(12, 24, 30\)"):
        planted(name, IMAGES[..., 0])
    with refuses("labels must be 12 integers, one for each image, got int64 of shape .11,."):
        planted(name, labels=LABELS[:11])
    with refuses("labels must be 12 integers, one for each image, got float64"):
        planted(name, labels=LABELS + 0.5)
    with refuses("key must be one key made by jax.random.key"):
        planted(name, key=0)


@pytest.mark.parametrize("name", ["colored_patch", "sticker", "border", "watermark"])
def test_sizes(name):
    for size in (0, 1.5, -1, float("nan"), 1e-4):
        with refuses(f"size must be of at least one pixel and less than .* got {size}"):
            planted(name, size=size)
    with refuses("size must be of at least one pixel and less than .* or nothing is left"):
        planted(name, size=1.0)


def test_bad_options():
    with refuses("place must be one of fixed, random, got 'corner'"):
        planted("colored_patch", place="corner")
    with refuses("text must be a line of letters, got ' '"):
        planted("watermark", text=" ")
    with refuses("text must fit the images' 24 rows, got"):
        planted("watermark", text="I", size=0.5)
    with refuses("text must fit the images' 24 rows, got 24 for 'l'"):
        planted("watermark", text="l", size=0.2667)
    with refuses("labels must be from 0 to 2, as classes=3 says, got 0 to 3"):
        planted("tint", classes=3)
    with refuses("objects must be the masks .* got None: the data set does not know them"):
        planted("background", objects=None)
    with refuses(r"objects must be a mask for each image, shape \(12, 24, 30\), got \(3, 24, 30\)"):
        planted("background", objects=OBJECTS[:3])
    with refuses("classes must be an integer of at least 1, got 0"):
        class_colours(0)
