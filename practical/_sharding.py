"""Images that lie on several devices: each device computes its own, and none waits for another."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def images_mesh(arguments: Sequence[Any]) -> Mesh | None:
    """Return the devices that axis 0 of some argument is split over, or None if there are none."""
    for array in arguments:
        sharding = getattr(array, "sharding", None)
        if isinstance(sharding, NamedSharding) and len(sharding.mesh.axis_names) == 1:
            mesh, spec = sharding.mesh, (*sharding.spec, None)
            if isinstance(mesh, Mesh) and mesh.size > 1 and spec[0] == mesh.axis_names[0]:
                return mesh
    return None


def device_mesh(devices: Sequence[Any] | None) -> Mesh:
    """Return devices of this process in a row, by default all, for `spread`.

    Raises:
        ValueError: If they are not some of this process's, each once.
    """
    here = jax.local_devices()
    devices = here if devices is None else list(devices)
    if not devices or len(set(devices)) < len(devices) or not set(devices) <= set(here):
        raise ValueError(
            f"devices must be some of this process's, jax.local_devices(), each once, got {devices}"
        )
    return Mesh(np.array(devices), ("images",))


def spread(tree: Any, mesh: Mesh, *, rows: bool) -> Any:
    """Return a tree's arrays on all devices: an equal share of the rows each, or all of them."""
    spec = PartitionSpec(mesh.axis_names[0]) if rows else PartitionSpec()
    sharding = NamedSharding(mesh, spec)

    def put(leaf):
        # What else a model holds (a function, a rate) lies on no device.
        array = isinstance(leaf, jax.Array | np.ndarray)
        return jax.device_put(leaf, sharding) if array else leaf

    return jax.tree.map(put, tree)


def without_explicit_axes(array: jax.Array) -> jax.Array:
    """Return `array` where it lies, with XLA free to choose where what is made of it lies.

    On the explicit axes of `jax.make_mesh`, JAX refuses to index along a sharded axis.
    """
    sharding = getattr(array, "sharding", None)
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        return array
    if AxisType.Auto in sharding.mesh.axis_types:
        return array
    mesh = Mesh(sharding.mesh.devices, sharding.mesh.axis_names)
    return jax.device_put(array, NamedSharding(mesh, sharding.spec))


def on_own_images(function: Callable, mesh: Mesh, per_image: Sequence[bool]) -> Callable:
    """Return `function` as a program that every device runs on its own images.

    Left to itself, XLA would gather all images on all devices: the cores walk through chunks and
    pairs of them. What they answer must have a row an image in every array.

    Args:
        function: Keyword arguments are static.
        mesh: The devices.
        per_image: For each positional argument whether it has a row an image, or is the same for
            all of them.
    """
    axis = mesh.axis_names[0]
    specs = [PartitionSpec(axis) if own else PartitionSpec() for own in per_image]

    @functools.wraps(function)
    def call(*arguments, **static):
        return jax.shard_map(
            functools.partial(function, **static),
            mesh=mesh,
            in_specs=tuple(specs[: len(arguments)]),
            out_specs=PartitionSpec(axis),
            # Loops start from zeros, the same on all devices, and end differently on each.
            check_vma=False,
        )(*arguments)

    return call
