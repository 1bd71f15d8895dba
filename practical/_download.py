"""Download a file over HTTP: a silent server ends it, and the content is checked."""

import hashlib
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from practical._files import DownloadError, atomic_path

STALL = 60.0  # seconds without a byte after which a download is given up
_BLOCK = 2**16  # bytes
_MOST_TEXT = 2**20


def open_url(url: str, *, wanted: str, optional: bool = False) -> Any:
    """Return the server's answer, or None where an `optional` file does not exist.

    Args:
        url: The address.
        wanted: What the file should be, for messages, such as "an archive".
        optional: Whether the server may not have the file.

    Raises:
        DownloadError: If the server refuses, is silent for `STALL` seconds, or sends a web page.
    """
    try:
        answer = urllib.request.urlopen(url, timeout=STALL)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        if optional and error.code == 404:
            return None
        raise DownloadError(
            f"{url} cannot be downloaded: the server answers {error.code} {error.reason}. Check "
            f"PRACTICAL_MIRROR if you set it, or try again later"
        ) from error
    except (OSError, HTTPException) as error:
        silent = isinstance(getattr(error, "reason", error), TimeoutError)
        reason = f"it was silent for {STALL:.0f} s" if silent else error
        raise DownloadError(
            f"no answer from the server of {url} ({reason}). Check the connection, and "
            f"PRACTICAL_MIRROR if you set it, or try again later"
        ) from error
    if (kind := answer.headers.get_content_type()) == "text/html":
        answer.close()
        raise DownloadError(
            f"{url} is {kind}, not {wanted}. This is often the login page of a network: open any "
            f"page in a browser, log in, and try again"
        )
    return answer


def download(url: str, path: Path, *, size: int, sha256: str) -> None:
    """Write the file at `url` to `path`, where it appears only when it is whole and checked.

    Raises:
        DownloadError: If the file cannot be downloaded, or has another size or checksum.
        OSError: If it cannot be stored.
    """
    checksum, received = hashlib.sha256(), 0
    with (
        # Shown first, because a silent server takes a while to be given up.
        tqdm(desc=path.name, total=size, unit="B", unit_scale=True) as bar,
        open_url(url, wanted="an archive") as answer,
        atomic_path(path) as temporary,
    ):
        length = answer.headers.get("Content-Length")
        if length is not None and length != str(size):
            raise DownloadError(
                f"{url} is not the expected file: it has {length} bytes and should have {size:,}. "
                f"The server's file was changed or damaged; try again later"
            )
        with temporary.open("wb") as file:
            while received <= size and (block := _read(answer, url)):
                file.write(block)
                checksum.update(block)
                received += len(block)
                bar.update(len(block))
        if received < size:
            raise _cut_off(url, f"{received:,} of {size:,} bytes arrived")
        if received > size or checksum.hexdigest() != sha256:
            raise DownloadError(
                f"{url} is not the expected file of {size:,} bytes with sha256 {sha256}; the "
                f"download is removed. Try again later; if it persists, the server's file was "
                f"changed or damaged"
            )


def read_text(url: str, *, wanted: str) -> str:
    """Return the text at `url`, which is empty where the server has no such file.

    Raises:
        DownloadError: If the server refuses, is silent, sends a web page, or not the whole text.
    """
    answer = open_url(url, wanted=wanted, optional=True)
    if answer is None:
        return ""
    with answer:
        content = _read(answer, url, _MOST_TEXT)
        if answer.length:
            raise _cut_off(url, f"{answer.length:,} bytes are missing")
        return content.decode(errors="replace")


def _read(answer: Any, url: str, size: int = _BLOCK) -> bytes:
    try:
        return answer.read(size)
    except TimeoutError as error:
        raise _cut_off(url, f"no byte arrived for {STALL:.0f} s") from error
    except (OSError, HTTPException) as error:
        raise _cut_off(url, error) from error


def _cut_off(url: str, reason: object) -> DownloadError:
    return DownloadError(
        f"the download of {url} was cut off ({reason}); the part that arrived is removed. Check "
        f"the connection and load the data set again"
    )
