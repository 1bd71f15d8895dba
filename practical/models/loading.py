"""Networks by name: the embedded ones, torchvision's pretrained ones, and users' own files."""

import argparse
import difflib
import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from practical.models.classifier import Classifier, from_torchvision
from practical.models.torchvision import read_safetensors

_EMBEDDED = {"shapes": "shapes.safetensors", "shapes-shuffled": "shapes-shuffled.safetensors"}
_PYTORCH = (".pth", ".pt", ".pth.tar")
_IMAGENET_CLASSES = 1000
# Where Imagenette's ten classes stand among ImageNet's thousand, in the order of their wnids.
_IMAGENETTE = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)


def load_model(
    name: str | Path, *, dataset: str | None = None, options: Mapping[str, Any] | None = None
) -> Classifier:
    """Return a trained classifier.

    Args:
        name: "shapes" (embedded; no download), "shapes-shuffled" (embedded; it has memorized
            labels that are independent of its images, for `metrics.label_randomization`), a
            torchvision ResNet pretrained on ImageNet ("resnet18", "resnet34", "resnet50", ...;
            downloaded once, see `models.hub.PRETRAINED`), or the path of a file: a .safetensors
            that `Classifier.save` wrote, or the state dict of a torchvision-style ResNet, as
            .safetensors, or as .pth or .pt where PyTorch is installed.
        dataset: The name of a data set. "imagenette" cuts an ImageNet network's head to
            Imagenette's ten classes. The logits of a state dict, which has no class names, get
            those of the data set, in its order (sorted, as in torchvision's `ImageFolder`), where
            there are as many. Otherwise it has no effect.
        options: Arguments of `from_torchvision` for a state dict, such as `mean`, `std`,
            `stem_stride` or `replace_stride_with_dilation`. Without them it is taken for a network
            that was trained on images normalized as ImageNet's are.

    Raises:
        ValueError: If no network or data set has that name, a file is damaged or no ResNet, or
            `options` are given for another network or are not those of `from_torchvision`.
        FileNotFoundError: If `name` is a path that does not exist.
        DownloadError: If a network cannot be fetched.
    """
    name, options = str(name), dict(options or {})
    _check_dataset(dataset)
    if name.endswith((".safetensors", *_PYTORCH)):
        return _load_file(Path(name).expanduser(), dataset, options)
    _refuse_options(name, options)
    if name in _EMBEDDED:
        with as_file(files("practical.models") / "weights" / _EMBEDDED[name]) as path:
            return Classifier.load(path)

    from practical.models.hub import PRETRAINED, download_pretrained

    known = [*_EMBEDDED, *PRETRAINED]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"name must be one of {', '.join(known)}, or the path of a .safetensors, .pth or .pt "
            f"file, got {name!r}{hint}"
        )
    state, _ = read_safetensors(download_pretrained(name))
    return _named_after(from_torchvision(state), "imagenette" if dataset == "imagenette" else None)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add `--model-options` to a command line, for `load_model`."""
    parser.add_argument(
        "--model-options", type=_model_options, default={}, metavar="JSON",
        help="arguments of models.from_torchvision for a PyTorch ResNet (.pth, .pt or "
        """.safetensors), such as '{"std": [0.5, 0.5, 0.5], "stride_in_1x1": true}'""",
    )  # fmt: skip


def _model_options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be JSON, got {text!r} ({error})") from error
    if not isinstance(options, dict):
        raise argparse.ArgumentTypeError(f'must be like {{"name": value}}, got {text!r}')
    return options


def _load_file(path: Path, dataset: str | None, options: dict[str, Any]) -> Classifier:
    if path.name.endswith(_PYTORCH):
        state = _read_pytorch(path)
    else:
        state, metadata = read_safetensors(path)
        if "practical" in metadata:
            _refuse_options(str(path), options)
            return Classifier.load(path)
    known = list(inspect.signature(from_torchvision).parameters)[1:]
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"options must be some of {', '.join(known)}, got {', '.join(unknown)}")
    # PyTorch's DataParallel puts "module." before each name.
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    try:
        model = from_torchvision(state, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a ResNet that can be loaded: {error}") from error
    return model if "class_names" in options else _named_after(model, dataset)


def _refuse_options(name: str, options: dict[str, Any]) -> None:
    if options:
        raise ValueError(
            f"options must be left out for {name!r}, which is not the state dict of a PyTorch "
            f"ResNet, got {', '.join(options)}"
        )


def _named_after(model: Classifier, dataset: str | None) -> Classifier:
    """Return a model whose logits have a data set's class names, where there are as many."""
    if dataset is None:
        return model
    if dataset == "imagenette":
        from practical.data.archive import CLASSES

        names = tuple(CLASSES.values())
        if model.architecture.classes == _IMAGENET_CLASSES:
            return model.select_classes(_IMAGENETTE, names)
    else:
        from practical.data import load_dataset

        names = load_dataset(dataset, count=1).class_names
    return replace(model, class_names=names) if len(names) == len(model.class_names) else model


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a state dict that PyTorch saved; no code in the file is run."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            f"{path} can only be read with PyTorch, which is not installed here. Install it, or "
            f"run these two lines where it is installed and name the new file:\n"
            f"    import torch, safetensors.torch\n"
            f"    safetensors.torch.save_file(torch.load({path.name!r}, map_location='cpu', "
            f"weights_only=True), {path.stem + '.safetensors'!r})"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zipfile's or PyTorch's own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} does not hold just tensors ({reason}); save them with "
            f"torch.save(model.state_dict(), {path.name!r})"
        ) from error
    for name in ("state_dict", "model"):  # a checkpoint of PyTorch's or torchvision's examples
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(map(torch.is_tensor, state.values())):
        raise ValueError(
            f"{path} must hold a state dict, which has a tensor under each name, got "
            f"{type(state).__name__}; save it with torch.save(model.state_dict(), {path.name!r})"
        )
    return {
        str(name): (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in state.items()
    }


def _check_dataset(dataset: str | None) -> None:
    known = ["shapes", "imagenette", "folder:PATH"]
    if dataset is None or dataset in known[:2] or str(dataset).startswith("folder:"):
        return
    near = difflib.get_close_matches(str(dataset), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"dataset must be one of {', '.join(known)}, or None, got {dataset!r}{hint}")
