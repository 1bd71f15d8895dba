"""torchvision's names and layouts for a ResNet's weights, to and from jax-resnet's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from practical.models.architecture import Architecture

_MAX_HEADER = 4 * 2**20  # bytes; a ResNet-152's has 0.1 million
_NORM = (  # torchvision's suffix, flax's collection and name
    ("weight", "params", "scale"),
    ("bias", "params", "bias"),
    ("running_mean", "batch_stats", "mean"),
    ("running_var", "batch_stats", "var"),
)


def read_architecture(
    state_dict: Mapping[str, np.ndarray], *, stem_stride: int, pool: bool,
    dilated: Sequence[bool], stride_in_1x1: bool,
) -> Architecture:  # fmt: skip
    """Read the architecture off the names and shapes of a torchvision ResNet's tensors."""

    def shape(name: str, axes: int = 4) -> tuple[int, ...]:
        if name not in state_dict:
            raise ValueError(
                f"state_dict must be a torchvision-style ResNet's; it has no {name!r}"
                f" among its {len(state_dict)} tensors (first: {next(iter(state_dict), None)!r})"
            )
        found = tuple(state_dict[name].shape)
        if len(found) != axes or 0 in found:
            raise ValueError(f"state_dict[{name!r}] must have {axes} axes, got shape {found}")
        return found

    stem = shape("conv1.weight")
    bottleneck = "layer1.0.conv3.weight" in state_dict
    last = "conv3" if bottleneck else "conv2"
    stage_sizes, widths, outputs = [], [], []
    hidden: list[tuple[int, ...]] = []
    while f"layer{len(widths) + 1}.0.conv1.weight" in state_dict:
        stage = f"layer{len(widths) + 1}"
        widths.append(shape(f"{stage}.0.conv1.weight")[0])
        outputs.append(shape(f"{stage}.0.{last}.weight")[0])
        blocks = 0
        while f"{stage}.{blocks}.conv1.weight" in state_dict:
            inside = ("conv1", "conv2") if bottleneck else ("conv1",)
            hidden.append(tuple(shape(f"{stage}.{blocks}.{conv}.weight")[0] for conv in inside))
            blocks += 1
        stage_sizes.append(blocks)
    if not bottleneck and (any(dilated) or stride_in_1x1):
        raise ValueError(
            "replace_stride_with_dilation and stride_in_1x1 must be left out for a ResNet of basic "
            "blocks (two 3x3 convolutions), which has neither in torchvision"
        )
    if any(dilated) and len(dilated) != len(widths) - 1:
        raise ValueError(
            f"replace_stride_with_dilation must have one value for each of the {len(widths) - 1} "
            f"stages after the first, got {tuple(dilated)}"
        )
    first_width, second = shape("layer1.0.conv1.weight")[0], shape("layer1.0.conv2.weight")
    # At least 1, also for shapes that no ResNet has: `to_variables` says which.
    expansion = max(1, outputs[0] // first_width)
    architecture = Architecture(
        block="bottleneck" if bottleneck else "basic",
        stage_sizes=tuple(stage_sizes),
        widths=tuple(widths),
        classes=shape("fc.weight", axes=2)[0],
        stem_width=stem[0],
        stem_kernel=stem[2],
        stem_stride=stem_stride,
        pool=pool,
        groups=max(1, first_width // second[1]),
        expansion=expansion,
        dilated=tuple(map(bool, dilated)) if any(dilated) else (),
        stride_in_1x1=stride_in_1x1,
    )
    if (stem[0] != outputs[0]) != ("layer1.0.downsample.0.weight" in state_dict):
        architecture = replace(architecture, projection=stem[0] == outputs[0])
    regular = tuple(block.widths for block in architecture.blocks())
    found = tuple(
        (*inside, outputs[stage])
        for inside, stage in zip(hidden, np.repeat(range(len(widths)), stage_sizes), strict=True)
    )
    if found != regular:  # a pruned network
        architecture = replace(
            architecture, widths=tuple(outputs), expansion=1, hidden=tuple(hidden)
        )
    return architecture


def to_variables(architecture: Architecture, state_dict: Mapping[str, np.ndarray]) -> dict:
    """Return flax variables, after checking every tensor's name and shape.

    Raises:
        ValueError: If a tensor is missing, left over, or of another shape or not finite.
    """
    import jax  # for eval_shape: the module itself says what it needs

    tensors = {
        name: np.asarray(value)
        for name, value in state_dict.items()
        if not name.endswith("num_batches_tracked")
    }
    blocks = sum(architecture.stage_sizes)
    if blocks > len(tensors):  # to build so many would take long
        raise ValueError(
            f"state_dict must have the tensors of {blocks:,} blocks, got {len(tensors):,} tensors"
        )
    places = _places(architecture)
    for name in places:
        if name not in tensors:
            raise ValueError(f"state_dict must have {name!r}, which this ResNet needs; it has not")
    expected = jax.eval_shape(
        architecture.module().init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))
    )
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, (collection, *place) in places.items():
        array = _to_flax(name, _checked(name, tensors.pop(name)))
        needs, holds = expected[collection], variables[collection]
        for step in place[:-1]:
            needs, holds = needs[step], holds.setdefault(step, {})
        if array.shape != needs[place[-1]].shape:
            raise ValueError(
                f"state_dict[{name!r}] must have shape {needs[place[-1]].shape} in this ResNet "
                f"(height, width, in, out for a convolution), got {array.shape}"
            )
        holds[place[-1]] = jnp.asarray(array)
    if tensors:
        raise ValueError(
            "state_dict must hold a ResNet's tensors and no others, got "
            + ", ".join(sorted(tensors)[:5])
            + (f" and {len(tensors) - 5} more" if len(tensors) > 5 else "")
        )
    return variables


def _checked(name: str, array: np.ndarray) -> np.ndarray:
    """Return a weight as float32, after checking its values."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"state_dict[{name!r}] must hold floating-point numbers, got {array.dtype}; "
            "a quantized network must be converted back first"
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"state_dict[{name!r}] must be finite, got NaN or infinity in it")
    if name.endswith("running_var") and (array < 0).any():
        raise ValueError(f"state_dict[{name!r}] must be variances of at least 0, got {array.min()}")
    return array


def to_state_dict(architecture: Architecture, variables: Mapping[str, Any]) -> dict:
    """Return torchvision's tensors (OIHW, contiguous float32 NumPy) of flax variables."""
    state = {}
    for name, (*place, leaf) in _places(architecture).items():
        tree: Any = variables
        for step in place:
            tree = tree[step]
        state[name] = np.ascontiguousarray(_from_flax(name, np.asarray(tree[leaf], np.float32)))
    return state


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, of another format, or has tensors that NumPy cannot hold.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    with path.open("rb") as file:  # the first 8 bytes are the header's length
        length = int.from_bytes(file.read(8), "little")
    if _MAX_HEADER < length < path.stat().st_size:  # it would be parsed for many seconds
        raise ValueError(
            f"{path} has a header of {length:,} bytes, and no network of ours has over "
            f"{_MAX_HEADER:,}; it is damaged or was made to do harm"
        )
    tensors = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():
                try:
                    tensors[name] = file.get_tensor(name)
                except AttributeError as error:
                    raise ValueError(
                        f"{path} has {name!r} as {file.get_slice(name).get_dtype()}, which NumPy "
                        f"cannot read; store float32 (in PyTorch: tensor.float())"
                    ) from error
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); delete it and fetch it again"
        ) from error


def _places(architecture: Architecture) -> dict[str, tuple[str, ...]]:
    """Return torchvision name -> (flax collection, path)."""
    places = {}
    for conv, norm, place in architecture.convolutions():
        places[f"{conv}.weight"] = ("params", *place, "Conv_0", "kernel")
        for suffix, collection, leaf in _NORM:
            places[f"{norm}.{suffix}"] = (collection, *place, "BatchNorm_0", leaf)
    places["fc.weight"] = ("params", architecture.dense, "kernel")
    places["fc.bias"] = ("params", architecture.dense, "bias")
    return places


def _to_flax(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T if name == "fc.weight" else array


def _from_flax(name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T if name == "fc.weight" else array
