import jax.numpy as jnp
import numpy as np

from practical import attribution
from tests.oracles import Small, pytree, refuses


@pytree
class PooledColours:
    """Features are the means of 2x2 pixels of each colour; the head weighs each colour's mean."""

    weights: jnp.ndarray  # (3, classes)

    def __call__(self, images):
        return self.head(self.features(images))

    def features(self, images):
        batch, height, width, _ = images.shape
        return images.reshape(batch, height // 2, 2, width // 2, 2, 3).mean((2, 4))

    def head(self, features):
        return features.mean((1, 2)) @ self.weights


WEIGHTS = jnp.array([[2.0, -1.0], [-3.0, 0.5], [0.0, 4.0]])
COLOURS = PooledColours(WEIGHTS)


def test_closed_form():
    # d logit_k / d feature_c = weights[c, k] / (h w) everywhere, so that is the weight of map c.
    images = np.random.default_rng(0).random((3, 8, 6, 3), np.float32)
    targets = np.array([0, 1, 0])
    features = images.reshape(3, 4, 2, 3, 2, 3).mean((2, 4))
    signed = np.einsum("bhwc,bc->bhw", features, np.asarray(WEIGHTS).T[targets]) / (4 * 3)
    assert (signed < 0).any()
    assert (signed > 0).any()
    options = {"upsample": False}
    maps = attribution.grad_cam(COLOURS, images, targets, relu=False, **options)
    np.testing.assert_allclose(maps, signed, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        attribution.grad_cam(COLOURS, images, targets, **options), np.maximum(signed, 0),
        rtol=1e-5, atol=1e-7,
    )  # fmt: skip
    # Signed, the maps add up to the logit: the head is linear in the features, without a bias.
    logits = np.asarray(COLOURS(images))[np.arange(3), targets]
    np.testing.assert_allclose(np.asarray(maps).sum((1, 2)), logits, rtol=1e-4)


def test_evidence_against_the_class_is_cut():
    green = np.zeros((1, 4, 4, 3), np.float32)
    green[..., 1] = 1  # weight -3 for class 0
    assert not np.asarray(attribution.grad_cam(COLOURS, green, [0])).any()
    against = attribution.grad_cam(COLOURS, green, [0], relu=False, upsample=False)
    np.testing.assert_allclose(against, -3 / 4, rtol=1e-6)  # over 2x2 places


def test_upsampling_is_bilinear_between_the_centres_of_the_cells():
    # Two cells across, 0 and 1. Pixel centres at 1/4, 3/4, 5/4, 7/4 cells, cell centres at 1/2
    # and 3/2: the weights are 1/4 and 3/4, and the edges repeat.
    images = np.zeros((1, 4, 4, 3), np.float32)
    images[:, :, 2:, 0] = 1
    maps = attribution.grad_cam(COLOURS, images, [0], relu=True)
    assert maps.shape == (1, 4, 4)
    cell = 2 / (2 * 2)  # weight 2, over 2x2 places
    np.testing.assert_allclose(
        maps[0], np.tile(cell * np.array([0, 0.25, 0.75, 1]), (4, 1)), atol=1e-6
    )


def test_relu_comes_before_upsampling():
    # The other way round, the zero crossing would move: interpolate -1 and 1, then cut.
    images = np.zeros((1, 4, 4, 3), np.float32)
    images[:, :, :2, 1] = 2 / 3  # cells of -2 * (1/4)
    images[:, :, 2:, 0] = 1  # cells of +2 * (1/4)
    maps = attribution.grad_cam(COLOURS, images, [0])
    np.testing.assert_allclose(maps[0, 0], 0.5 * np.array([0, 0.25, 0.75, 1]), atol=1e-6)


def test_a_model_that_is_no_pytree():
    class Plain:
        def __call__(self, images):
            return self.head(self.features(images))

        def features(self, images):
            return COLOURS.features(images)

        def head(self, features):
            return COLOURS.head(features)

    images = np.random.default_rng(0).random((2, 4, 4, 3), np.float32)
    np.testing.assert_array_equal(
        attribution.grad_cam(Plain(), images, [0, 1]),
        attribution.grad_cam(COLOURS, images, [0, 1]),
    )


def test_features_agree_with_the_model(resnet):
    images = np.random.default_rng(0).random((2, 24, 24, 3), np.float32)
    np.testing.assert_array_equal(resnet(images), resnet.head(resnet.features(images)))
    features = resnet.features(images)
    assert features.shape == (2, 12, 12, 8)
    assert np.asarray(features).min() >= 0  # after the ReLU


def test_models_without_maps_are_refused():
    images = np.zeros((1, 4, 4, 3), np.float32)
    with refuses(r"methods features\(images\) and head\(features\).*without features and head"):
        attribution.grad_cam(lambda images: images.mean((1, 2)), images, [0])

    class Flat(Small):
        def features(self, images):
            return images.mean((1, 2))

        def head(self, features):
            return features

    with refuses(r"model.features must return maps of shape \(1, h, w, channels\).*got \(1, 3\)"):
        attribution.grad_cam(Flat.random(0), images, [0])


def test_plus_plus_by_the_papers_equations(batch):
    """Equations 5, 7 and 19, with the derivatives of exp(logit) written out."""
    small = Small.random(1)
    images, targets = batch
    maps = np.asarray(attribution.grad_cam_plus_plus(small, images, targets, upsample=False))
    features = np.asarray(small.features(images), np.float64)
    slopes = np.asarray(small.dense, np.float64)[:, targets].T / (12 * 10)  # of a global mean
    for i in range(5):
        total = np.zeros((12, 10))
        for k in range(4):
            g, a = slopes[i, k], features[i, :, :, k]
            # Y = exp(S): dY/dA = Y g, its second and third derivatives Y g^2 and Y g^3.
            denominator = 2 * g**2 + a.sum() * g**3
            alpha = g**2 / denominator if g > 0 else 0.0
            weight = sum(alpha * max(g, 0) for _ in range(a.size))
            total += weight * a
        np.testing.assert_allclose(maps[i], np.maximum(total, 0), rtol=1e-4, atol=1e-6)
    # Evidence against the class plays no part, so it never falls below Grad-CAM's own zero.
    assert (maps >= 0).all()


def test_plus_plus_of_tiny_logits():
    """The square of a slope of 1e-26 is 0 in float32; alpha is 1/2 there, whatever the scale."""
    small = Small.random(1)
    tiny = Small(small.kernel, small.shift, small.dense * 1e-24)
    images, targets = np.random.default_rng(0).random((2, 12, 10, 3), np.float32), np.array([0, 1])
    maps = np.asarray(attribution.grad_cam_plus_plus(tiny, images, targets, upsample=False))
    features = np.asarray(small.features(images), np.float64)
    # Equation 19 with alpha = g^2 / (2 g^2 + sum(A) g^3) = 1/2 and g = dense / 120, at 120 places.
    rising = np.maximum(np.asarray(small.dense, np.float64)[:, targets].T, 0)
    expected = np.einsum("bhwc,bc->bhw", features, rising / 2)
    assert expected.max() > 0.1
    np.testing.assert_allclose(maps / 1e-24, expected, rtol=1e-4, atol=1e-6)


def test_plus_plus_of_features_that_are_off():
    """All maps zero: no place speaks for the class, and nothing is divided by nothing."""
    small = Small.random(1)
    off = Small(small.kernel, small.shift - 1e3, small.dense)
    images = np.full((1, 8, 8, 3), 0.5, np.float32)
    assert not np.asarray(attribution.grad_cam_plus_plus(off, images, [0])).any()
