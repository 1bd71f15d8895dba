"""A ResNet classifier as a JAX pytree: weights are leaves, everything else is structure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax_resnet import Sequential
from jaxtyping import Array, Float

from practical._files import atomic_path
from practical._inputs import ArrayLike, check_count, check_layout
from practical._jit import jit
from practical._names import ClassNames, check_class_names
from practical.models import torchvision
from practical.models.architecture import Architecture

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["variables", "mean", "std"],
    meta_fields=["architecture", "class_names"],
)
@dataclass(frozen=True)
class Classifier:
    """A callable from images (B, H, W, 3) in [0, 1] to logits (B, C), in inference mode.

    Normalisation is inside. Being a pytree, it passes through `jax.jit` as an argument, and
    another set of weights never compiles anew. Derivatives go in reverse (`jax.grad`, `jax.vjp`,
    also one inside of another, as in `jax.jacrev(jax.grad(...))`): its convolutions and its pool
    have gradients of their own, through which JAX cannot go forward (`jax.jvp`, `jax.hessian`).
    """

    architecture: Architecture
    class_names: tuple[str, ...]
    variables: Mapping[str, Any] = field(repr=False)  # flax's {"params": ..., "batch_stats": ...}
    mean: Float[Array, " 3"] = field(repr=False)  # of the images, per channel, in [0, 1]
    std: Float[Array, " 3"] = field(repr=False)

    def __call__(self, images: Float[ArrayLike, "b h w 3"]) -> Float[Array, "b c"]:
        """Return the logits of each image."""
        check_layout(images)
        return _logits(self, images)

    def features(self, images: Float[ArrayLike, "b h w 3"]) -> Float[Array, "b y x k"]:
        """Return the last convolutional feature maps, after the ReLU."""
        check_layout(images)
        return _features(self, images)

    def head(self, features: Float[ArrayLike, "b y x k"]) -> Float[Array, "b c"]:
        """Return the logits of feature maps: global average pool, then a dense layer."""
        return _head(self, features)

    def kernels(self) -> dict[str, Float[Array, "h w i o"]]:
        """Return every convolution's kernel (HWIO) under its torchvision name, in order."""
        params = self.variables["params"]
        return {
            name: _descend(params, place)["Conv_0"]["kernel"]
            for name, _, place in self.architecture.convolutions()
        }

    def replace_kernels(self, kernels: Mapping[str, Any]) -> Classifier:
        """Return a classifier with the kernels named in `kernels` (HWIO) in place of its own.

        Raises:
            ValueError: If a name is no convolution of this network, or a shape differs.
        """
        places = {name: place for name, _, place in self.architecture.convolutions()}
        params = jax.tree.map(lambda leaf: leaf, self.variables["params"])  # new dicts, same leaves
        for name, kernel in kernels.items():
            if name not in places:
                raise ValueError(
                    f"kernels must name convolutions of this network, got {name!r}; "
                    f"it has {', '.join(places)}"
                )
            conv = _descend(params, places[name])["Conv_0"]
            if np.shape(kernel) != conv["kernel"].shape:
                raise ValueError(
                    f"kernels[{name!r}] must have shape {conv['kernel'].shape} (HWIO), "
                    f"got {np.shape(kernel)}"
                )
            conv["kernel"] = jnp.asarray(kernel, conv["kernel"].dtype)
        return replace(self, variables={**self.variables, "params": params})

    def select_classes(self, indices: Sequence[int], class_names: ClassNames) -> Classifier:
        """Return a classifier whose head answers for the classes at `indices` alone."""
        class_names = check_class_names(class_names)
        if len(indices) != len(class_names):
            raise ValueError(
                f"class_names must have one name for each of the {len(indices)} indices, "
                f"got {len(class_names)}"
            )
        wrong = [i for i in indices if not 0 <= i < self.architecture.classes]
        if wrong:
            raise ValueError(
                f"indices must be from 0 to {self.architecture.classes - 1}, got {wrong}"
            )
        dense = self.variables["params"][self.architecture.dense]
        chosen = np.asarray(indices)
        return self._with_head(
            {"kernel": dense["kernel"][:, chosen], "bias": dense["bias"][chosen]}, class_names
        )

    def reset_head(self, class_names: ClassNames, *, key: jax.Array) -> Classifier:
        """Return a classifier with a new random head, to be fine-tuned on other classes."""
        class_names = check_class_names(class_names)
        dense = self.variables["params"][self.architecture.dense]
        inputs = dense["kernel"].shape[0]
        kernel = jax.nn.initializers.lecun_normal()(key, (inputs, len(class_names)))
        return self._with_head({"kernel": kernel, "bias": jnp.zeros(len(class_names))}, class_names)

    def reset(self, *, key: jax.Array, keep: int = 0) -> Classifier:
        """Return a classifier of the same architecture with new random weights.

        Args:
            key: Decides the weights.
            keep: How many stages stay as they are, from the input on, and the stem with them.

        Raises:
            ValueError: If `keep` is not from 0 to the number of stages.
        """
        stages = self.architecture.stage_sizes
        if check_count("keep", keep, least=0) > len(stages):
            raise ValueError(f"keep must be at most the network's {len(stages)} stages, got {keep}")
        variables = self.architecture.module().init(key, jnp.zeros((1, 64, 64, 3)))
        kept = ["layers_0"] if keep else []
        kept += [
            f"layers_{b.layer}" for b in list(self.architecture.blocks())[: sum(stages[:keep])]
        ]
        return replace(
            self,
            variables={
                kind: {**fresh, **{name: self.variables[kind][name] for name in kept}}
                for kind, fresh in variables.items()
            },
        )

    def _with_head(self, dense: dict[str, jax.Array], class_names: tuple[str, ...]) -> Classifier:
        params = {**self.variables["params"], self.architecture.dense: dense}
        return replace(
            self,
            architecture=replace(self.architecture, classes=len(class_names)),
            class_names=class_names,
            variables={**self.variables, "params": params},
        )

    def save(self, path: str | Path) -> None:
        """Write the classifier as safetensors with torchvision's names, atomically.

        The metadata holds what the shapes do not say, so that `load` needs nothing else.
        """
        from safetensors.numpy import save

        state = torchvision.to_state_dict(self.architecture, self.variables)
        about = {
            "architecture": asdict(self.architecture),
            "class_names": self.class_names,
            "mean": np.asarray(self.mean).tolist(),
            "std": np.asarray(self.std).tolist(),
        }
        content = save(state, metadata={"practical": json.dumps(about)})
        with atomic_path(Path(path)) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged, or was not written by `save`.
        """
        state, metadata = torchvision.read_safetensors(path)
        try:
            about = json.loads(metadata["practical"])
            fields = {name: _tuples(value) for name, value in about["architecture"].items()}
            mean, std, class_names = about["mean"], about["std"], about["class_names"]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} holds no description of a Classifier, so it was not written by "
                "Classifier.save; give a torchvision file's tensors to models.from_torchvision"
            ) from error
        try:
            architecture = Architecture(**fields)
            class_names = check_class_names(class_names, architecture.classes)
            return cls(
                architecture=architecture,
                class_names=class_names,
                variables=torchvision.to_variables(architecture, state),
                mean=_three("mean", mean),
                std=_three("std", std),
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path} does not hold a network that can be built: {error}"
            ) from error


def _features_core(model: Classifier, images: ArrayLike) -> jax.Array:
    body = Sequential(model.architecture.module().layers[:-2])
    # Batch norms stay what they are: XLA scales and shifts in the loop that adds and rectifies. To
    # fold them into the kernels, here, would write all weights anew at each call.
    maps = body.apply(model.variables, (images - model.mean) / model.std, mutable=False)
    return cast(jax.Array, maps)


def _head_core(model: Classifier, features: ArrayLike) -> jax.Array:
    dense = model.variables["params"][model.architecture.dense]
    return features.mean((1, 2)) @ dense["kernel"] + dense["bias"]


def _logits_core(model: Classifier, images: ArrayLike) -> jax.Array:
    return _head_core(model, _features_core(model, images))


_features = jit(_features_core, per_image=["images"])
_head = jit(_head_core, per_image=["features"])
_logits = jit(_logits_core, per_image=["images"])


def from_torchvision(
    state_dict: Mapping[str, np.ndarray],
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    class_names: ClassNames | None = None,
    stem_stride: int = 2,
    pool: bool = True,
    replace_stride_with_dilation: Sequence[bool] = (),
    stride_in_1x1: bool = False,
) -> Classifier:
    """Build a classifier from a torchvision-style ResNet state dict of NumPy arrays.

    Block type, stages, widths and groups are read off the shapes. The arguments describe what no
    shape shows, and a wrong one gives another network without an error. The rest is assumed to be
    as in torchvision: RGB images, zero padding that is equal on both sides, ReLUs, batch norms with
    an epsilon of 1e-5, and a 3x3 max-pool of stride 2 and padding 1. Compare the logits of one
    image with those of the original.

    Args:
        state_dict: Arrays under torchvision's names: kernels (O, I, H, W), batch norms' statistics,
            and the dense layer.
        mean: Of the training images in [0, 1], for each of three channels.
        std: Their standard deviation.
        class_names: One for each logit; by default "class 0" and so on.
        stem_stride: Of the first convolution.
        pool: Whether a max-pool follows it.
        replace_stride_with_dilation: For each stage after the first, whether dilated 3x3
            convolutions replace its stride, as in the backbones of segmentation networks; by
            default in none. It is torchvision's argument of this name.
        stride_in_1x1: Whether a bottleneck's stride is in its first 1x1 convolution, as in the
            networks of Caffe and MXNet (v1) and Detectron; torchvision's is in the 3x3.

    Returns:
        A model of images in [0, 1], which it normalises itself.

    Raises:
        ValueError: If a tensor is missing, left over, not finite, or of a shape or type that no
            ResNet has, `class_names` are not as many as the logits, `mean` is above 1, or dilation
            or `stride_in_1x1` is asked for where there are no bottlenecks.
    """
    architecture = torchvision.read_architecture(
        state_dict, stem_stride=stem_stride, pool=pool, dilated=replace_stride_with_dilation,
        stride_in_1x1=stride_in_1x1,
    )  # fmt: skip
    if class_names is None:
        class_names = [f"class {i}" for i in range(architecture.classes)]
    class_names = check_class_names(class_names, architecture.classes)
    return Classifier(
        architecture=architecture,
        class_names=class_names,
        variables=torchvision.to_variables(architecture, state_dict),
        mean=_three("mean", mean),
        std=_three("std", std),
    )


def new_resnet(
    class_names: ClassNames,
    *,
    key: jax.Array,
    block: str = "basic",
    stage_sizes: Sequence[int] = (1, 2, 2),
    widths: Sequence[int] = (32, 64, 128),
    stem_width: int = 32,
    stem_kernel: int = 7,
    stem_stride: int = 2,
    pool: bool = False,
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.25, 0.25, 0.25),
) -> Classifier:
    """Return a small ResNet with random weights; by default 8x8 feature maps at 64 pixels.

    Args:
        class_names: One for each logit.
        key: Decides the weights.
        block: "basic", two 3x3 convolutions; or "bottleneck", 1x1, 3x3 and 1x1, with four times its
            width as output.
        stage_sizes: Blocks in each stage; each stage after the first halves height and width.
        widths: Channels of each stage's 3x3 convolutions.
        stem_width: Channels of the first convolution.
        stem_kernel: Its side.
        stem_stride: Its stride.
        pool: Whether a 3x3 max-pool of stride 2 follows it.
        mean: Of the training images in [0, 1], for each of three channels.
        std: Their standard deviation.

    Raises:
        ValueError: If `block` is neither "basic" nor "bottleneck", or stages and widths differ
            in number.
    """
    class_names = check_class_names(class_names)
    if block not in ("basic", "bottleneck"):
        raise ValueError(f'block must be "basic" or "bottleneck", got {block!r}')
    if len(stage_sizes) != len(widths) or not widths:
        raise ValueError(
            f"widths must give one width for each stage, got stage_sizes={tuple(stage_sizes)} and "
            f"widths={tuple(widths)}"
        )
    architecture = Architecture(
        block=block,
        stage_sizes=tuple(stage_sizes),
        widths=tuple(widths),
        classes=len(class_names),
        stem_width=stem_width,
        stem_kernel=stem_kernel,
        stem_stride=stem_stride,
        pool=pool,
        expansion=1 if block == "basic" else 4,
    )
    variables = architecture.module().init(key, jnp.zeros((1, 64, 64, 3)))
    return Classifier(
        architecture=architecture,
        class_names=class_names,
        variables=dict(variables),
        mean=_three("mean", mean),
        std=_three("std", std),
    )


def _three(name: str, values: Sequence[float]) -> jax.Array:
    array = np.asarray(values, np.float32)
    if array.shape != (3,):
        raise ValueError(f"{name} must be three numbers, one a colour channel, got {values!r}")
    if not np.isfinite(array).all() or (name == "std" and not (array > 0).all()):
        rule = "finite and above 0" if name == "std" else "finite"
        raise ValueError(f"{name} must be {rule} in each channel, got {values!r}")
    if name == "mean" and (array > 1).any():
        raise ValueError(
            f"mean must be that of images in [0, 1], got {values!r}; divide mean and std by 255 if "
            "they are those of 8-bit images"
        )
    return jnp.asarray(array)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _descend(tree: Any, place: Sequence[str]) -> Any:
    for name in place:
        tree = tree[name]
    return tree
