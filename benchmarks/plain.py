"""A classifier's network as jax-resnet would build it: nothing folded, nothing rewritten."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax_resnet import Sequential
from jax_resnet.common import ConvBlock

from practical import models
from practical.models.architecture import Architecture, _Block, _Stem

_BLOCKS = {
    18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3),
}  # fmt: skip
NAMES = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2",
    "resnext50_32x4d",
)  # fmt: skip


def plain_logits(model: models.Classifier, images: jax.Array) -> jax.Array:
    """Return the logits by flax's convolutions and batch norms, and XLA's max-pool."""
    a = model.architecture
    pool = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    network = Sequential([
        _Stem(a.stem_width, a.stem_kernel, a.stem_stride, ConvBlock),
        pool if a.pool else lambda maps: maps,
        *(_Block(plan, ConvBlock) for plan in a.blocks()),
        partial(jnp.mean, axis=(1, 2)),
        nn.Dense(a.classes),
    ])  # fmt: skip
    return network.apply(model.variables, (images - model.mean) / model.std)


def random_network(name: str, classes: int = 1000, seed: int = 0) -> models.Classifier:
    """Return a network of torchvision's kind with seeded weights, batch norms' at random, too.

    Each block's last batch norm has a small scale, so that activations of 50 blocks stay alike.
    """
    depth = int(name.removeprefix("wide_").split("_")[0].lstrip("resnxt"))
    basic, groups = depth < 50, 32 if name.startswith("resnext") else 1
    base = {"wide_resnet50_2": 128, "resnext50_32x4d": 128}.get(name, 64)
    widths = tuple(base * 2**stage for stage in range(4))
    architecture = Architecture(
        block="basic" if basic else "bottleneck", stage_sizes=_BLOCKS[depth], widths=widths,
        classes=classes, groups=groups, expansion=1 if basic else 256 // base,
    )  # fmt: skip
    shapes = jax.eval_shape(
        architecture.module().init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.float32)
    )
    leaves, structure = jax.tree.flatten_with_path(shapes)
    keys = jax.random.split(jax.random.key(seed), len(leaves))

    def draw(path, leaf, key):
        if path[-1].key == "kernel":
            return jax.random.normal(key, leaf.shape) * (2 / leaf.size * leaf.shape[-1]) ** 0.5
        if path[-1].key in ("scale", "var"):
            return jax.random.uniform(key, leaf.shape, minval=0.5, maxval=1.0)
        return 0.2 * jax.random.normal(key, leaf.shape)

    drawn = [draw(path, leaf, key) for (path, leaf), key in zip(leaves, keys, strict=True)]
    return models.Classifier(
        architecture=architecture,
        class_names=tuple(f"class {i}" for i in range(classes)),
        variables=jax.tree.unflatten(structure, drawn),
        mean=jnp.array(models.IMAGENET_MEAN),
        std=jnp.array(models.IMAGENET_STD),
    )
