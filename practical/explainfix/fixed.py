"""Spatial filters that are set once and never learned.

A network whose filters larger than 1x1 are fixed learns by its 1x1 convolutions, batch norms and
dense layer alone: `initialise_spatial` sets the filters, `freeze_spatial` keeps an optimiser off
them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from practical._jit import jit
from practical._keys import generator
from practical.explainfix.kernels import dct_basis, ghaar, polynomial_sine
from practical.explainfix.slopes import spatial_kernels
from practical.models import Classifier

Shape = tuple[int, ...]  # HWIO
Kernel = Float[np.ndarray, "h w i o"]
INITIALISATIONS = ("unchanged", "ghaar", "psine", "dct2", "guided_steer", "kaiming")
STARTS = ("pretrained", "scratch")  # of the rest of the network
STEERING = ("kde", "normal")
_SQUARE = ("ghaar", "psine")
_PSINE_MOST = 66  # terms of a kernel: 3, and fewer than 2**6 more
_BLOCK = 512  # kernels computed at a time


def freeze_spatial(params: Any) -> Any:
    """Return a mask over flax parameters: True at kernels larger than 1x1, which are to be fixed.

    `optax.chain(optimiser, optax.masked(optax.set_to_zero(), freeze_spatial))` learns everything
    else. A weight decay inside of `optimiser` does not touch them either, for its updates are set
    to 0 as well.

    Args:
        params: The "params" of a flax module, such as `Classifier.variables["params"]`; or any
            nested mapping whose convolutions' "kernel" leaves are (H, W, I, O).

    Returns:
        The same structure of booleans.
    """

    def is_spatial(path, leaf) -> bool:
        name = getattr(path[-1], "key", None) if path else None
        return name == "kernel" and np.ndim(leaf) == 4 and np.shape(leaf)[:2] != (1, 1)

    return jax.tree_util.tree_map_with_path(is_spatial, params)


def initialise_spatial(
    model: Classifier,
    method: str,
    *,
    key: jax.Array,
    source: Classifier | None = None,
    steering: str = "kde",
) -> Classifier:
    """Return a classifier whose spatial filters are drawn anew; nothing else changes.

    Args:
        model: Whose filters are replaced.
        method: "unchanged"; "ghaar", generalised Haar kernels of random direction and frequency;
            "psine", polynomials of sine waves, of 4 to 66 terms; "dct2", elements of the DCT-II
            basis, each output channel's in an order of its own: as in the authors' code, a layer of
            I inputs has the first I elements alone, row by row (a colour stem of 7x7 the first 3 of
            49); "guided_steer", random
            combinations of the singular vectors of a trained network's filters, layer by layer;
            "kaiming", uniform within one over the square root of the inputs of a neuron.
        key: Decides the draws, for each layer by its number.
        source: For "guided_steer": a trained network with the same spatial layers in the same
            order, of any width.
        steering: For "guided_steer": the weights of the singular vectors are drawn from a Gaussian
            kernel density of the trained filters' ("kde"), or from independent normals of their
            mean and standard deviation ("normal").

    Raises:
        ValueError: If a name is unknown, `source` is missing, not needed, has other layers or, for
            "kde", a layer of one filter, the model has no spatial convolution, or "ghaar" or
            "psine" meets a kernel that is not square.

    References:
        Gaudio et al., ExplainFix, WIREs Data Mining and Knowledge Discovery, 2022, section 3.1.
    """
    if method not in INITIALISATIONS:
        raise ValueError(f"method must be one of {', '.join(INITIALISATIONS)}, got {method!r}")
    if steering not in STEERING:
        raise ValueError(f"steering must be one of {', '.join(STEERING)}, got {steering!r}")
    if (source is None) == (method == "guided_steer"):
        raise ValueError(
            "source must be given for 'guided_steer' and only there, got "
            f"{'none' if source is None else 'one'} for {method!r}"
        )
    kernels = spatial_kernels(model)
    if method == "unchanged":
        return model
    trained = _trained(kernels, source)
    for name, filters in trained.items() if steering == "kde" else ():
        if len(filters) < 2:
            raise ValueError(
                "source must have two or more filters in each layer for a density of them, got "
                f"one in {name}; steering='normal' repeats it"
            )
    drawn = {}
    for number, (name, kernel) in enumerate(kernels.items()):
        rng = generator(jax.random.fold_in(key, number))
        if method == "guided_steer":
            drawn[name] = _steer(rng, kernel.shape, trained[name], steering)
        elif method in _SQUARE and kernel.shape[0] != kernel.shape[1]:
            raise ValueError(
                f"method must be one of dct2, kaiming and guided_steer for {name}'s kernels of "
                f"{kernel.shape[0]}x{kernel.shape[1]}, got {method!r}, which makes square ones"
            )
        else:
            drawn[name] = _DRAW[method](rng, kernel.shape)
    return model.replace_kernels(drawn)


def _trained(kernels: dict[str, Array], source: Classifier | None) -> dict[str, np.ndarray]:
    """Return the source's filters (N, H * W) of each layer."""
    if source is None:
        return {}
    others = spatial_kernels(source)
    wanted = [(name, kernel.shape[:2]) for name, kernel in kernels.items()]
    found = [(name, kernel.shape[:2]) for name, kernel in others.items()]
    if wanted != found:
        raise ValueError(
            "source must have the model's spatial layers: "
            f"{', '.join(f'{n} {h}x{w}' for n, (h, w) in wanted)}; got "
            f"{', '.join(f'{n} {h}x{w}' for n, (h, w) in found)}"
        )
    return {
        name: np.asarray(kernel, np.float64).reshape(-1, kernel.shape[2] * kernel.shape[3]).T
        for name, kernel in others.items()
    }


def _steer(rng: np.random.Generator, shape: Shape, trained: np.ndarray, steering: str) -> Kernel:
    """Draw filters whose weights of the trained filters' singular vectors are distributed alike."""
    vectors = np.linalg.svd(trained, full_matrices=False)[2]  # (components, H * W)
    weights = trained @ vectors.T
    count = shape[2] * shape[3]
    noise = rng.standard_normal((count, weights.shape[1]))
    if steering == "normal":
        drawn = weights.mean(0) + weights.std(0) * noise
    else:
        # A sample of a Gaussian kernel density is a data point with noise of the kernel's
        # covariance: the data's, times the square of Scott's factor n ** (-1 / (dimensions + 4)).
        points = weights[rng.integers(len(weights), size=count)]
        factor = len(weights) ** (-1 / (weights.shape[1] + 4))
        variances, axes = np.linalg.eigh(np.cov(weights.T))
        drawn = points + factor * (noise * np.sqrt(variances.clip(0))) @ axes.T
    return (drawn @ vectors).T.reshape(shape)


def _ghaar(rng: np.random.Generator, shape: Shape) -> Kernel:
    size, count = shape[0], shape[2] * shape[3]
    directions = rng.uniform(-1, 1, (count, 3))
    frequencies = rng.uniform(0, 2 * (size - 1), count)
    return _arrange(_many_ghaar(size, directions, frequencies), shape)


def _psine(rng: np.random.Generator, shape: Shape) -> Kernel:
    size, count = shape[0], shape[2] * shape[3]
    # A random number of terms, of which fewer are as likely as twice as many; the rest weigh 0.
    terms = 3 + (2 ** rng.uniform(0, 6, (count, 1))).astype(int)
    used = np.arange(_PSINE_MOST) < terms
    frequencies = rng.uniform(1, 5, (count, 1, 1)) * rng.random((count, _PSINE_MOST, 2))
    phases = rng.uniform(0, 2 * np.pi, (count, _PSINE_MOST, 2))
    powers = 1 + ((terms - 1) / 2 - 1) * rng.random((count, _PSINE_MOST))
    shares = np.where(used, rng.random((count, _PSINE_MOST)), 0)
    weights = np.where(used, 2 * shares / shares.sum(1, keepdims=True) - 1, 0)
    kernels = _many_psine(size, frequencies, phases, powers, weights)
    low, high = kernels.min((1, 2), keepdims=True), kernels.max((1, 2), keepdims=True)
    kernels = 2 * (kernels - low) / (high - low) - 1
    return _arrange(kernels / np.sqrt((kernels**2).sum((1, 2), keepdims=True)), shape)


def _dct2(rng: np.random.Generator, shape: Shape) -> Kernel:
    height, width, inputs, outputs = shape
    basis = np.asarray(dct_basis((height, width)))
    if inputs == 1:  # a depthwise convolution: the outputs share the basis among them
        order = rng.permutation(outputs)[None] % len(basis)
    else:
        order = rng.permuted(np.tile(np.arange(inputs), (outputs, 1)), axis=1).T % len(basis)
    return np.moveaxis(basis[order], (2, 3), (0, 1))


def draw_kaiming(rng: np.random.Generator, shape: Shape) -> Kernel:
    """Return kernels (HWIO) as PyTorch's convolutions begin: uniform, of variance 1 / (3 * H*W*I).

    References:
        He et al., Delving Deep into Rectifiers, ICCV 2015, for a leaky ReLU of slope sqrt(5).
    """
    most = 1 / np.sqrt(np.prod(shape[:3]))
    return rng.uniform(-most, most, shape)


def _many(core, size: int, *parameters: np.ndarray) -> np.ndarray:
    """Return `core` of each row of the parameters, in blocks of one shape, compiled once."""
    count, kernels = len(parameters[0]), []
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, start + _BLOCK).clip(max=count - 1)
        block = [jnp.asarray(values[rows], jnp.float32) for values in parameters]
        kernels.append(np.asarray(core(*block, size=size)))
    return np.concatenate(kernels)[:count]


def _arrange(kernels: Float[np.ndarray, "n h w"], shape: Shape) -> Kernel:
    return np.moveaxis(kernels.reshape(shape[2], shape[3], *shape[:2]), (2, 3), (0, 1))


def _ghaar_block(directions, frequencies, *, size):
    return jax.vmap(lambda d, f: ghaar(size, *d, frequency=f))(directions, frequencies)


def _psine_block(*parameters, size):
    return jax.vmap(lambda *one: polynomial_sine(size, *one))(*parameters)


_many_ghaar = partial(_many, jit(_ghaar_block, static_argnames=["size"]))
_many_psine = partial(_many, jit(_psine_block, static_argnames=["size"]))
_DRAW: dict[str, Callable[[np.random.Generator, Shape], Kernel]] = {
    "ghaar": _ghaar, "psine": _psine, "dct2": _dct2, "kaiming": draw_kaiming
}  # fmt: skip
