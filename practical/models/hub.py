"""Weights of networks that were pretrained on ImageNet, from the Hugging Face hub."""

import contextlib
import difflib
import hashlib
import os
import re
from pathlib import Path

from practical._download import open_url
from practical._files import (
    CacheFolderError,
    DownloadError,
    cache_folder,
    explain_cache_errors,
    mirror,
)

# Torchvision's ResNets with its key names and shapes, trained on ImageNet-1k ("tv_in1k").
PRETRAINED = {
    name: f"timm/{name}.tv_in1k"
    for name in (
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
        "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2",
    )
}  # fmt: skip
_FILE = "model.safetensors"
_TIMEOUT = 20.0  # seconds for the server to answer


def download_pretrained(name: str) -> Path:
    """Return the safetensors file of a pretrained network, downloaded below `home()` once.

    `PRACTICAL_MIRROR` names another server to ask. The file's sha256 is checked each time; a file
    that is cached needs no network.

    Args:
        name: A key of `PRETRAINED`, such as "resnet18".

    Raises:
        ValueError: If the name is unknown.
        DownloadError: If the file cannot be had, or is not what the server announced.
        CacheFolderError: If it cannot be stored.
    """
    if name not in PRETRAINED:
        near = difflib.get_close_matches(str(name), PRETRAINED, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name must be one of {', '.join(PRETRAINED)}; got {name!r}{hint}")
    # Over plain HTTP the library gives up a server that is silent for about a minute (six attempts
    # of 10 s); its limit does not reach hf_xet, the other protocol's client. The library reads this
    # when it is first imported.
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    from huggingface_hub import try_to_load_from_cache

    folder = cache_folder("hub")
    cached = try_to_load_from_cache(PRETRAINED[name], _FILE, cache_dir=folder)
    path, sha256 = _download(name, folder) if not isinstance(cached, str) else (Path(cached), None)
    _verify(path, sha256 or _announced(path))
    return path


def _download(name: str, folder: Path) -> tuple[Path, str | None]:
    """Return the downloaded file and the checksum that the server announced for it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    repository, endpoint = PRETRAINED[name], mirror()
    url = hf_hub_url(repository, _FILE, endpoint=endpoint)
    try:
        with explain_cache_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Asked first because hf_hub_download tries a dead server again for half a minute.
            announced = get_hf_file_metadata(url, token=False, timeout=_TIMEOUT, endpoint=endpoint)
            if announced.commit_hash is None:  # not a hub: perhaps a login page
                open_url(url, wanted="a file of weights").close()
            path = hf_hub_download(
                repository, _FILE, cache_dir=folder, endpoint=endpoint, token=False,
                etag_timeout=_TIMEOUT,
            )  # fmt: skip
    except (CacheFolderError, DownloadError):
        raise
    except Exception as error:  # the hub's, its HTTP library's and its Rust helper's, by version
        raise DownloadError(
            f"the weights of {name} cannot be downloaded from {url} ({_first_line(error)}). Check "
            f"the connection, and PRACTICAL_MIRROR if you set it, or try again later"
        ) from error
    return Path(path), _sha256_or_none(announced.etag)


def _announced(path: Path) -> str | None:
    """Return the checksum of a cached file, which is the name of what its link points to."""
    return _sha256_or_none(Path(os.readlink(path)).name) if path.is_symlink() else None


def _sha256_or_none(etag: str | None) -> str | None:
    # Small files have git's 40-digit checksum instead.
    return etag if etag and re.fullmatch("[0-9a-f]{64}", etag) else None


def _verify(path: Path, expected: str | None) -> None:
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == expected:
        return
    linked = [path.parent / os.readlink(path)] if path.is_symlink() else []
    for part in (path.resolve(), *linked, path):
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    raise DownloadError(
        f"{path} is not what the server announced: its sha256 should be {expected} and is {found}. "
        f"The file is removed; load the model again to download it anew"
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
