"""Imagenette's archives: which there are, and reading one as a stream, trusting nothing in it."""

import functools
import gzip
import tarfile
import zlib
from collections.abc import Callable, Generator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from practical._files import DownloadError

# WordNet id -> the name of the class, in ImageNet's order, which is the order of the ids.
CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
SPLITS = {"train": "train", "val": "validation"}  # folder in the archive -> name of the split


class Archive(NamedTuple):
    """A file on the server, as it must arrive."""

    folder: str  # the top folder inside; the file is `folder`.tgz
    size: int  # bytes
    sha256: str


# From tensorflow_datasets/datasets/imagenette/checksums.tsv of tensorflow-datasets 4.9.10.
ARCHIVES = {
    "160px": Archive(
        "imagenette2-160",
        99_003_388,
        "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5",
    ),
    "320px": Archive(
        "imagenette2-320",
        341_663_724,
        "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
    ),
    "full": Archive(
        "imagenette2",
        1_557_161_267,
        "6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd",
    ),
}


class Place(NamedTuple):
    """Where an image of the archive belongs, and its bytes when asked for."""

    split: str
    wnid: str
    read: Callable[[], bytes]


def members(path: Path, top: str) -> Generator[tuple[str, Place], None, None]:
    """Yield the images of an archive in its order, without extracting any; see that it ends well.

    Raises:
        DownloadError: If a member is not where one should be, or the archive is cut or damaged.
    """
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                if (place := _place(member, top)) is not None:
                    read = functools.partial(_read, tar, member)
                    yield member.name, Place(*place, read)
            # tarfile takes a header that is cut or damaged for the end of the archive; the true
            # end is a block of zeros.
            rest = tar.fileobj
            rest.seek(tar.offset)
            if rest.read(512) != bytes(512):
                raise EOFError(f"no end of archive after {len(tar.getnames())} members")
            while rest.read(2**20):  # to the end, where gzip keeps its checksum
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DownloadError(
            f"the archive {top}.tgz is truncated or damaged ({error}); it is removed, so load the "
            f"data set again to download it anew"
        ) from error


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    if stream is None:
        content = b""
    else:
        with stream:
            content = stream.read()
    if len(content) != member.size:
        raise EOFError(f"{member.name} ends after {len(content)} of {member.size} bytes")
    return content


def _place(member: tarfile.TarInfo, top: str) -> tuple[str, str] | None:
    """Return the split and WordNet id of an image, or None for a folder or a file beside them."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise DownloadError(
            f"the archive {top}.tgz has a member that could leave its folder: {member.name!r} "
            f"(absolute, with .., or a link); do not use this archive"
        )
    folders = path.parts if member.isdir() else path.parts[:-1]
    known = ((top,), SPLITS, CLASSES)
    if len(folders) > 3 or any(f not in k for f, k in zip(folders, known, strict=False)):
        raise DownloadError(
            f"the archive {top}.tgz has the unexpected folder {'/'.join(folders)!r}; it should "
            f"hold {top}/train and {top}/val with the ten classes {', '.join(CLASSES)}"
        )
    if member.isdir() or len(folders) < 3 or path.name.startswith("."):
        return None  # such as the table noisy_imagenette.csv at the top
    return SPLITS[folders[1]], folders[2]


def survey(path: Path, top: str) -> None:
    """Read an archive through once, so that a fault at its end is found before anything is made."""
    found = {(place.split, place.wnid) for _, place in members(path, top)}
    wanted = {(split, wnid) for split in SPLITS.values() for wnid in CLASSES}
    if missing := sorted(wanted - found):
        names = ", ".join(f"{wnid} ({split})" for split, wnid in missing)
        raise DownloadError(f"the archive {top}.tgz has no images of {names}; it is removed")
