"""Networks by name: the embedded one, torchvision's pretrained ones, and one's own files."""

import difflib
from importlib.resources import as_file, files
from pathlib import Path

from practical.models.classifier import Classifier, from_torchvision
from practical.models.torchvision import read_safetensors

_EMBEDDED = {"shapes": "shapes.safetensors", "shapes-shuffled": "shapes-shuffled.safetensors"}
# Where Imagenette's ten classes stand among ImageNet's thousand, in the order of their wnids.
_IMAGENETTE = (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)


def load_model(name: str | Path, *, dataset: str | None = None) -> Classifier:
    """Return a trained classifier.

    Args:
        name: "shapes" (embedded; no download), "shapes-shuffled" (embedded; it has memorised
            labels that have nothing to do with its images, for `metrics.label_randomization`), a
            torchvision ResNet pretrained on ImageNet ("resnet18", "resnet34", "resnet50", ...;
            downloaded once, see `models.hub.PRETRAINED`), or the path of a .safetensors that
            `Classifier.save` wrote.
        dataset: "imagenette" cuts an ImageNet network's head to Imagenette's ten classes.
            Otherwise it has no effect, and the network keeps the classes that it was trained on.

    Raises:
        ValueError: If no network or data set has that name, or a file is damaged.
        FileNotFoundError: If `name` is a path that does not exist.
        DownloadError: If a network cannot be fetched.
    """
    name = str(name)
    _check_dataset(dataset)
    if name in _EMBEDDED:
        with as_file(files("practical.models") / "weights" / _EMBEDDED[name]) as path:
            return Classifier.load(path)
    if name.endswith(".safetensors"):
        return Classifier.load(Path(name).expanduser())

    from practical.models.hub import PRETRAINED, download_pretrained

    known = [*_EMBEDDED, *PRETRAINED]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"name must be one of {', '.join(known)}, or the path of a .safetensors file, "
            f"got {name!r}{hint}"
        )
    state, _ = read_safetensors(download_pretrained(name))
    model = from_torchvision(state, class_names=None)
    if dataset == "imagenette":
        from practical.data.archive import CLASSES

        return model.select_classes(_IMAGENETTE, tuple(CLASSES.values()))
    return model


def _check_dataset(dataset: str | None) -> None:
    known = ["shapes", "imagenette", "folder:PATH"]
    if dataset is None or dataset in known[:2] or str(dataset).startswith("folder:"):
        return
    near = difflib.get_close_matches(str(dataset), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"dataset must be one of {', '.join(known)}, or None, got {dataset!r}{hint}")
