"""Public functions under JAX's strictest settings for dtypes and ranks, which users may turn on."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import attribution, baselines, bias, explainfix, metrics, models, training
from practical.attribution import METHODS
from practical.baselines import BASELINES
from practical.data import Dataset
from practical.evaluation.measures import MEASURES, Context

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 24, 24, 3), np.float32)
TARGETS = np.array([0, 2, 1])
MAPS = RNG.normal(size=(3, 24, 24)).astype(np.float32)
MASKS = MAPS > 0.5
DATASET = Dataset(IMAGES, TARGETS, ("a", "b", "c"), masks=MASKS)
SMALL = {"samples": 8, "steps": 4, "cells": 2, "window": 8, "stride": 8}


@pytest.fixture(autouse=True)
def _strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def _context(model) -> Context:
    other = metrics.permute_entries(model, key=jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), len(IMAGES))
    method = METHODS["saliency"]
    images, masks = jnp.asarray(IMAGES), np.zeros((3, 24, 24), bool)
    masks[:, :12] = True  # two quadrants, as those of mosaics
    return Context(model, method, images, TARGETS, MAPS, masks, other, other, keys, 2)


@pytest.mark.parametrize("name", METHODS)
def test_explanations(name, resnet):
    taken = inspect.signature(METHODS[name]).parameters
    options = {key: value for key, value in SMALL.items() if key in taken}
    if "segments" in taken:
        options["segments"] = np.broadcast_to(np.arange(24)[:, None] // 8, (3, 24, 24))
    METHODS[name].heatmap(resnet, IMAGES, TARGETS, **options)


@pytest.mark.parametrize("name", MEASURES)
def test_metrics(name, resnet):
    MEASURES[name].function(_context(resnet))


OTHERS = {
    "adaptive_integrated_gradients": lambda m: attribution.adaptive_integrated_gradients(
        m, IMAGES, TARGETS
    ),
    "superpixels": lambda m: attribution.superpixels(IMAGES, count=4),
    "gradient of images in own program": jax.jit(
        lambda m: attribution.gradient(m, jnp.asarray(IMAGES), TARGETS)
    ),
    "statistics": lambda m: (
        metrics.bootstrap_interval(MAPS.reshape(-1, 4)[:8], samples=10),
        metrics.permutation_test(MAPS[0, 0], MAPS[0, 1], samples=10),
        metrics.rank_agreement(MAPS.reshape(-1, 4)[:8], MAPS.reshape(-1, 4)[8:16], samples=10),
        metrics.holm([0.1, 0.2]),
    ),
    "pointing_game": lambda m: metrics.pointing_game(MAPS, MASKS, tolerance=2),
    "audit": lambda m: bias.audit(m, DATASET, bias.Fault("sticker")),
    "completeness_error": lambda m: attribution.completeness_error(m, IMAGES, TARGETS, IMAGES),
    "layerwise_relevance, epsilon": lambda m: attribution.layerwise_relevance(
        m, IMAGES, TARGETS, rule="epsilon", bias="absorb"
    ),
    "infidelity of probabilities": lambda m: metrics.infidelity(
        m, IMAGES, TARGETS, MAPS, samples=4, output="probability"
    ),
    "parameter_randomization": lambda m: metrics.parameter_randomization(
        m, IMAGES, TARGETS, METHODS["saliency"]
    ),
    **{
        f"baseline {name}": lambda m, name=name: baselines.baseline_images(name, IMAGES)
        for name in (*BASELINES, 0.5)
    },
    "predict": lambda m: models.predict(m, IMAGES),
    "with_precision": lambda m: models.with_precision(m, "bfloat16")(IMAGES),
    "size": lambda m: models.size(m, (24, 24, 3)),
    "select_classes": lambda m: m.select_classes([0, 1], ("a", "b")),
    "reset_head": lambda m: m.reset_head(("a", "b"), key=jax.random.key(0)),
    "accuracy": lambda m: training.accuracy(m, DATASET),
    "fit": lambda m: training.fit(m, DATASET, epochs=1, batch_size=2, progress=False),
    "fit and avoid": lambda m: training.fit(
        m, DATASET, epochs=1, batch_size=2, avoid=MASKS, augment="dihedral", progress=False
    ),
    **{
        f"plant {name}": lambda m, name=name: bias.plant(DATASET, bias.Fault(name))
        for name in bias.ARTEFACTS
    },
    "effect": lambda m: bias.effect(m, IMAGES, IMAGES[::-1], TARGETS),
    "frequency_occlusion": lambda m: bias.frequency_occlusion(m, IMAGES, TARGETS, bands=2),
    "remove_band": lambda m: bias.remove_band(IMAGES, 0, 3),
    "relevance_density": lambda m: bias.relevance_density(MAPS, MASKS),
    "paint_out": lambda m: bias.paint_out(IMAGES, MASKS),
    "filter_norms": explainfix.filter_norms,
    "filter_saliency": lambda m: explainfix.filter_saliency(m, IMAGES, TARGETS),
    "filter_spectra": explainfix.filter_spectra,
    "saliency_spectra": lambda m: explainfix.saliency_spectra(m, IMAGES, TARGETS),
    "spectra_interval": lambda m: explainfix.spectra_interval(
        explainfix.saliency_spectra(m, IMAGES, TARGETS), samples=10
    ),
    "channel_prune": lambda m: explainfix.channel_prune(m, IMAGES, TARGETS, 30),
    "zero_frequencies": lambda m: explainfix.zero_frequencies(m, [1]),
    "remove_channels": lambda m: explainfix.remove_channels(m, image_shape=(24, 24, 3)),
    "dct_basis": lambda m: explainfix.dct_basis((3, 3)),
    "steered_dct": lambda m: explainfix.steered_dct(
        (3, 3), np.ones((2, 2), np.float32), [0, 1], np.ones(2, np.float32)
    ),
    "ghaar": lambda m: explainfix.ghaar(4, np.ones(2, np.float32), 1.0, 1.0, frequency=2.0),
    "ghaar4": lambda m: explainfix.ghaar4((4, 4), np.ones(2, np.float32), 1.0, 1.0),
    "polynomial_sine": lambda m: explainfix.polynomial_sine(
        3, *explainfix.new_polynomial_sine(jax.random.key(0))
    ),
    **{
        f"initialise {name}": lambda m, name=name: explainfix.initialise_spatial(
            m, name, key=jax.random.key(0), source=m if name == "guided_steer" else None
        )
        for name in explainfix.INITIALISATIONS
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_functions(name, resnet):
    OTHERS[name](resnet)
