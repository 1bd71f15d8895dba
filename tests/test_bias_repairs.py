"""A classifier that learned a border, mended in each of the three ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical.bias import Fault, Recipe, audit, plant, repair, repairs, train_suspect
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


def test_bad_input(faulty):
    with refuses("how must be one of removed, painted, avoided, got 'pray'"):
        repair(faulty, BIASED, "pray", **OPTIONS)
    with refuses("clean must be given for how='removed' and only there, got none for 'removed'"):
        repair(faulty, BIASED, "removed", **OPTIONS)
    with refuses("clean must be given for how='removed' and only there, got one for 'painted'"):
        repair(faulty, BIASED, "painted", clean=TRAINING, **OPTIONS)
    everywhere = BIASED._replace(masks=np.ones_like(BIASED.masks))
    for how in ("painted", "avoided"):
        with refuses(f"how must be 'removed' for an artefact that covers whole .* got '{how}'"):
            repair(faulty, everywhere, how, **OPTIONS)
