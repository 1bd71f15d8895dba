"""Imagenette, ten classes of ImageNet photographs, through TensorFlow Datasets without TensorFlow.

TensorFlow Datasets' own builder needs TensorFlow to list files, and its downloads have no timeout.
Ours downloads the same archive with the same checksum, reads it with `tarfile` (archive.py), and
writes array_record files, which `as_data_source` reads back.
"""

import contextlib
import csv
import errno
import hashlib
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from filelock import FileLock

from practical._download import download, read_text
from practical._files import DownloadError, cache_folder, explain_cache_errors, fingerprint, mirror
from practical.data.archive import ARCHIVES, CLASSES, SPLITS, Archive, members, survey
from practical.data.dataset import Dataset, LazyArray
from practical.data.folder import spread_over_classes
from practical.data.images import decode, resize_and_crop

_LABELS = {wnid: label for label, wnid in enumerate(CLASSES)}
_ORIGIN = "https://s3.amazonaws.com/fast-ai-imageclas"

# A split is written in parts of about this size: TensorFlow Datasets holds a part in memory, and
# from 1 GB on it would spill to disk with TensorFlow.
_PART_BYTES = 400_000_000


def imagenette(
    split: str, *, size: str, image_size: int | None = None, count: int | None = None, seed: int = 0
) -> Dataset:
    """Return a split of Imagenette; the first call downloads and prepares it below `home()`.

    The images come in an order drawn from `seed`, in which every class is spread evenly.

    Args:
        split: "train" or "validation".
        size: "160px", "320px" (the shorter side) or "full".
        image_size: Side of the squares in pixels; by default 160 for "160px", else 224.
        count: How many, from the first; by default all.
        seed: A non-negative integer.

    Raises:
        DownloadError: If the archive cannot be had, or is not what was expected.
        CacheFolderError: If it cannot be stored.
        ValueError: If `count` is over the number of images.
    """
    builder = _prepared(size)
    parts = sorted(name for name in builder.info.splits if name.startswith(f"{split}_"))
    raw = {"image": tfds.decode.SkipDecoding()}
    sources = builder.as_data_source(parts, decoders=raw)  # pyright: ignore[reportCallIssue]
    metadata = builder.info.metadata or {}
    labels = np.concatenate([metadata[part] for part in parts]).astype(np.int32)
    places = [(source, row) for source in sources for row in range(len(source))]
    order = spread_over_classes(labels, seed=seed, count=count)
    side = image_size or (160 if size == "160px" else 224)
    folder = Path(builder.data_path)

    def read(index: int) -> np.ndarray:
        source, row = places[order[index]]
        try:
            record = source[row]
        except Exception as error:  # the C++ reader raises many kinds
            raise _damaged(folder, error) from error
        return resize_and_crop(decode(record["image"], name=f"image {index} of {folder}"), side)

    return Dataset(
        images=LazyArray(
            read,
            (len(order), side, side, 3),
            np.uint8,
            identity=lambda rows: f"{metadata['sha256']} {fingerprint(order[rows])}",
        ),
        labels=labels[order],
        class_names=tuple(CLASSES.values()),
        name="imagenette",
    )


class PracticalImagenette(tfds.core.GeneratorBasedBuilder):
    """Writes one archive's JPEG files, undecoded, with their labels in the metadata."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=size) for size in ARCHIVES]  # noqa: RUF012

    def __init__(self, *, url: str, archive: Archive, path: Path, **options):
        self._url, self._archive, self._path = url, archive, path
        self._made = tfds.core.MetadataDict()  # stored beside the records
        super().__init__(file_format="array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Ten classes of ImageNet, by fast.ai.",
            homepage="https://github.com/fastai/imagenette",
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(encoding_format="jpeg")}
            ),
            # Rows stay in the archive's order, so that the labels in the metadata are theirs.
            disable_shuffling=True,
            metadata=self._made,
        )

    def _split_generators(self, dl_manager):
        path = self._path
        survey(path, self._archive.folder)
        self._made.update(url=self._url, sha256=self._archive.sha256)
        parts = 1 + self._archive.size // _PART_BYTES
        return {
            f"{split}_{part}": self._generate_examples(path, split, part, parts)
            for split in SPLITS.values()
            for part in range(parts)
        }

    def _generate_examples(self, path: Path, split: str, part: int, parts: int):
        labels = []
        with contextlib.closing(members(path, self._archive.folder)) as found:
            for name, where in found:
                if where.split != split or zlib.crc32(name.encode()) % parts != part:
                    continue
                yield len(labels), {"image": self._checked(where.read(), name)}
                labels.append(_LABELS[where.wnid])
        self._made[f"{split}_{part}"] = labels

    def _checked(self, content: bytes, name: str) -> bytes:
        try:
            decode(content, name=name, formats=("JPEG",))
        except ValueError as error:
            raise DownloadError(f"{self._url} holds what is no JPEG image: {error}") from error
        return content


def _prepared(size: str) -> PracticalImagenette:
    """Return the builder of `size` with its files on disk, which takes no network if they were."""
    server, archive = mirror(), ARCHIVES[size]
    url = f"{server or _ORIGIN}/{archive.folder}.tgz"
    folder = cache_folder("imagenette")
    if not _is_prepared(folder, size):
        with explain_cache_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{size}.lock"):  # a second process waits here for the first
                if not _is_prepared(folder, size):
                    expected = archive if server is None else _expected_of(server, archive)
                    _prepare(folder, size, url, expected)
    try:
        builder = _builder(folder, size, url, archive)
        metadata = dict(builder.info.metadata or {})
        made_from = metadata["url"], metadata["sha256"]
    except Exception as error:  # whatever reading a damaged description raises
        raise _damaged(_dataset_folder(folder, size), error) from error
    if made_from[0] != url or (server is None and made_from[1] != archive.sha256):
        raise _damaged(_dataset_folder(folder, size), f"made from {made_from}, not from {url}")
    return builder


def _dataset_folder(folder: Path, size: str) -> Path:
    return folder / PracticalImagenette.name / size / str(PracticalImagenette.VERSION)


def _is_prepared(folder: Path, size: str) -> bool:
    # The folder gets its name in one step, when everything in it is written.
    return (_dataset_folder(folder, size) / "dataset_info.json").is_file()


def _damaged(folder: Path, why: object) -> DownloadError:
    return DownloadError(
        f"the prepared data in {folder} is damaged ({why}); delete that folder, and the data set "
        f"is prepared again"
    )


def _prepare(folder: Path, size: str, url: str, archive: Archive) -> None:
    """Download, check and convert one archive; after a failure nothing half-made is left."""
    path = _download_folder(folder, size) / f"{archive.folder}.tgz"
    _clear(folder, size)  # what a killed process left
    here = _is_archive(path, archive)
    _check_room(folder, archive.size if here else 2 * archive.size)
    if not here:
        download(url, path, size=archive.size, sha256=archive.sha256)
    try:
        _builder(folder, size, url, archive).download_and_prepare(download_dir=path.parent)
    except DownloadError:  # the archive is useless
        shutil.rmtree(path.parent, ignore_errors=True)
        raise
    finally:
        _clear(folder, size)
    shutil.rmtree(path.parent, ignore_errors=True)  # the photographs are in the prepared files now


def _download_folder(folder: Path, size: str) -> Path:
    return folder / f"downloads-{size}"  # one per size: two may be prepared at once


def _builder(folder: Path, size: str, url: str, archive: Archive) -> PracticalImagenette:
    path = _download_folder(folder, size) / f"{archive.folder}.tgz"
    return PracticalImagenette(url=url, archive=archive, path=path, data_dir=folder, config=size)


def _is_archive(path: Path, archive: Archive) -> bool:
    if not path.is_file() or path.stat().st_size != archive.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == archive.sha256


def _clear(folder: Path, size: str) -> None:
    """Remove what an attempt left unfinished; a download that is whole and checked may stay."""
    for unfinished in _dataset_folder(folder, size).parent.glob("incomplete.*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    for unfinished in _download_folder(folder, size).glob(".*.part"):
        unfinished.unlink(missing_ok=True)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed and {free:,} are free")


def _expected_of(server: str, archive: Archive) -> Archive:
    """Return the size and checksum in the mirror's checksums.tsv, or the archive's own."""
    url = f"{server}/checksums.tsv"
    table = read_text(url, wanted="a table of checksums")
    for row in csv.reader(table.splitlines(), delimiter="\t"):
        if row and row[0].rsplit("/", 1)[-1] == f"{archive.folder}.tgz":
            if len(row) < 3 or not row[1].isdigit() or not re.fullmatch("[0-9a-f]{64}", row[2]):
                raise DownloadError(
                    f"{url} has the line {row}; it should be name, bytes and sha256, by tabs"
                )
            return archive._replace(size=int(row[1]), sha256=row[2])
    return archive
