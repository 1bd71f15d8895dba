"""Values between the grader and a worker: a length, a header in JSON, arrays as npz.

Both ends read with the same distrust. Nothing is unpickled, nothing is decompressed, and no length
that the other end names is believed before it is compared with what is allowed.

    frame   = length of the header (4 bytes, big-endian), length of the arrays (8 bytes), both
    header  = JSON: {"kind": ..., ...}, with values in the form that `pack` gives them
    arrays  = an uncompressed zip of .npy files, "0.npy", "1.npy", ...; empty without arrays
"""

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

_LENGTHS = struct.Struct(">IQ")
MOST_HEADER = 4_000_000  # bytes; a notebook's cells have to fit in
MOST_ARRAYS = 64_000_000  # bytes
MOST_VALUES = 64  # arrays in a frame, and elements of a tuple
MOST_DIMENSIONS = 6
_DEPTH = 4
_CONTROL = dict.fromkeys({*range(32), *range(127, 160)} - {*map(ord, "\n\t")})
_KINDS = "biuf"  # of numbers: bool, int, uint, float


@runtime_checkable
class Readable(Protocol):
    """What is read from: a pipe, a file, or whatever gives up in time."""

    def read(self, count: int, /) -> bytes | None:
        """Return at most so many bytes; none at the end."""
        ...


@runtime_checkable
class Writable(Protocol):
    """What is written to."""

    def write(self, content: bytes, /) -> Any:
        """Write all of it."""
        ...


class WireError(Exception):
    """The other end sent what is not allowed."""


class Network(NamedTuple):
    """A classifier on the wire."""

    weights: bytes  # safetensors, as `Classifier.save` writes them


class Frame(NamedTuple):
    """One message."""

    header: dict[str, Any]
    arrays: list[np.ndarray]


def pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return a value as JSON, with its arrays put into `arrays`.

    Raises:
        WireError: If the value, or a part of it, is not a number, a text, None, an array of
            numbers, a network, or a tuple, list or dict of these.
    """
    return _pack(value, arrays, _DEPTH)


def unpack(packed: Any, arrays: list[np.ndarray], *, network: Callable[[bytes], Any]) -> Any:
    """Return the value that `pack` packed; `network` makes a classifier of its weights.

    Raises:
        WireError: If this is not what `pack` gives.
    """
    return _unpack(packed, dict(enumerate(arrays)), network, _DEPTH)


def plain_text(value: Any, most: int | None = None) -> str:
    """Return a stranger's text as one for files and terminals; "" if it is none.

    Without control characters but line breaks and tabs, and without what UTF-8 cannot write.
    """
    if not isinstance(value, str):
        return ""
    return value[:most].translate(_CONTROL).encode("utf-8", "replace").decode()


def send(stream: Writable, header: dict[str, Any], arrays: list[np.ndarray] | None = None) -> None:
    """Write a frame.

    Raises:
        WireError: If it is larger than the other end would take.
    """
    content = b""
    if arrays:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for number, array in enumerate(arrays):
                data = io.BytesIO()
                np.lib.format.write_array(data, array, allow_pickle=False)
                archive.writestr(f"{number}.npy", data.getvalue())
        content = buffer.getvalue()
    text = json.dumps(header).encode()
    if len(text) > MOST_HEADER or len(content) > MOST_ARRAYS or len(arrays or ()) > MOST_VALUES:
        raise WireError(
            f"{len(text):,} bytes of values and {len(content):,} bytes of arrays are more than the "
            f"{MOST_HEADER:,} and {MOST_ARRAYS:,} that are allowed"
        )
    stream.write(_LENGTHS.pack(len(text), len(content)) + text + content)


def receive(stream: Readable) -> Frame:
    """Read a frame.

    Raises:
        EOFError: If the other end is gone.
        WireError: If this is no frame, or not an allowed one.
    """
    header_length, arrays_length = _LENGTHS.unpack(_read(stream, _LENGTHS.size))
    if header_length > MOST_HEADER or arrays_length > MOST_ARRAYS:
        raise WireError(f"a frame of {header_length:,} + {arrays_length:,} bytes is not allowed")
    text, content = _read(stream, header_length), _read(stream, arrays_length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("the header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise WireError("the header has no kind")
    try:
        return Frame(header, _arrays(content) if content else [])
    except WireError:
        raise
    except Exception as error:  # zipfile and numpy have many words for what they cannot read
        raise WireError("the arrays cannot be read") from error


def _pack(value: Any, arrays: list[np.ndarray], depth: int) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return {"value": value}
    if isinstance(value, float):
        return {"value": value if math.isfinite(value) else repr(value)} | {"type": "float"}
    if isinstance(value, Network):
        arrays.append(np.frombuffer(value.weights, np.uint8))
        return {"network": len(arrays) - 1}
    if isinstance(value, tuple | list | dict):
        if not depth or len(value) > MOST_VALUES:
            raise WireError(f"a {type(value).__name__} of {len(value)}, too deep or too long")
        items = value.values() if isinstance(value, dict) else value
        packed = [_pack(item, arrays, depth - 1) for item in items]
        return {"items": packed} | (
            {"names": [*map(str, value)]} if isinstance(value, dict) else {}
        )
    # What a JAX, NumPy or other library calls an array has this method.
    if not hasattr(value, "__array__"):
        raise WireError(f"a {type(value).__name__}, which is neither a number nor an array")
    array = np.asarray(value)
    if array.dtype.name in ("bfloat16", "float8_e4m3fn"):
        array = array.astype(np.float32)
    _check(array.dtype, array.shape)
    arrays.append(array)
    return {"array": len(arrays) - 1}


def _unpack(packed: Any, arrays: dict[int, np.ndarray], network: Callable, depth: int) -> Any:
    """Return a value, and take its arrays out of `arrays`: each is sent for one place."""
    if not isinstance(packed, dict):
        raise WireError("a value is not in its form")
    if "value" in packed:
        value = packed["value"]
        if packed.get("type") == "float":
            try:
                return float(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise WireError("a number is none") from error
        if not (value is None or isinstance(value, str | bool | int)):
            raise WireError("a value is not in its form")
        return value
    for kind in ("array", "network"):
        if kind in packed:
            place = packed[kind]
            if type(place) is not int or place not in arrays:
                raise WireError(f"there is no {kind} {str(place)[:20]}, or no more")
            array = arrays.pop(place)
            return array if kind == "array" else network(array.tobytes())
    items, names = packed.get("items"), packed.get("names")
    if not isinstance(items, list) or not depth or len(items) > MOST_VALUES:
        raise WireError("a tuple is too deep, too long or none")
    values = [_unpack(item, arrays, network, depth - 1) for item in items]
    if names is None:
        return tuple(values)
    if not isinstance(names, list) or len(names) != len(values):
        raise WireError("a dict's names are not in their form")
    return dict(zip(map(str, names), values, strict=True))


def _arrays(content: bytes) -> list[np.ndarray]:
    """Return the arrays of a zip, whose every number is checked before it is used."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if len(entries) > MOST_VALUES:
            raise WireError(f"{len(entries)} arrays are not allowed")
        if [entry.filename for entry in entries] != [f"{i}.npy" for i in range(len(entries))]:
            raise WireError("the arrays are not numbered")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise WireError("the arrays are compressed")
        # Entries may lie inside of each other, and then be more than was received.
        if sum(entry.file_size for entry in entries) > len(content):
            raise WireError("the arrays overlap")
        return [_array(archive.read(entry)) for entry in entries]


def _array(data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise WireError("an array is of another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    _check(dtype, shape)
    count = math.prod(shape)
    body = data[stream.tell() :]
    if len(body) != count * dtype.itemsize:
        raise WireError(f"an array of shape {shape} has {len(body)} bytes")
    return np.frombuffer(body, dtype, count).reshape(shape, order="F" if fortran else "C").copy()


def _check(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise WireError(f"an array of {dtype}, which is not of numbers")
    if len(shape) > MOST_DIMENSIONS or any(length < 0 for length in shape):
        raise WireError(f"an array of shape {shape}, more than {MOST_DIMENSIONS} axes")
    if math.prod(shape) * dtype.itemsize > MOST_ARRAYS:
        raise WireError(f"an array of shape {shape}, more than {MOST_ARRAYS:,} bytes")


def _read(stream: Readable, count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(min(count, 1 << 20))
        if not part:
            raise EOFError("the other end is gone")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
