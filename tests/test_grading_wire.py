"""The wire: what is sent arrives, and what should not be sent is refused."""

import io
import json
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from practical.grading import wire
from practical.grading.wire import Frame, Network, WireError

numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
some = arrays(
    st.sampled_from([np.float32, np.float64, np.int32, np.uint8, np.bool_]),
    array_shapes(min_dims=0, max_dims=6, max_side=3),
)
values = st.recursive(
    numbers | some,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


def there_and_back(value):
    found: list[np.ndarray] = []
    packed = wire.pack(value, found)
    stream = io.BytesIO()
    wire.send(stream, {"kind": "call", "values": packed}, found)
    stream.seek(0)
    frame = wire.receive(stream)
    return wire.unpack(frame.header["values"], frame.arrays, network=lambda weights: weights)


def same(one, other) -> bool:
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(
            one, other, equal_nan=one.dtype.kind == "f"
        )
    return type(one) is type(other) and (one == other or one != one)


def depth(value) -> int:
    if not isinstance(value, tuple | dict):
        return 0
    items = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, items), default=0)


@given(values)
def test_what_is_sent_arrives(value):
    if depth(value) > 4:
        with pytest.raises(WireError, match="too deep"):
            there_and_back(value)
    else:
        assert same(value, there_and_back(value))


def test_other_libraries_arrays_and_networks_arrive():
    np.testing.assert_array_equal(there_and_back(jnp.arange(3)), [0, 1, 2])
    assert there_and_back(jnp.ones(2, jnp.bfloat16)).dtype == np.float32
    assert there_and_back(Network(b"weights")) == b"weights"
    assert there_and_back([1, (2.5, None)]) == (1, (2.5, None))


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (np.array([object()]), "an array of object, which is not of numbers"),
        (np.array(["a"]), "an array of <U1"),
        (np.zeros(2, [("a", "f4")]), "which is not of numbers"),
        (np.zeros(2, complex), "an array of complex128"),
        (np.zeros((1,) * 7), "more than 6 axes"),
        (object(), "a object, which is neither a number nor an array"),
        (b"bytes", "a bytes, which"),
        ([[[[[1]]]]], "too deep or too long"),
        ([0] * 65, "a list of 65, too deep or too long"),
    ],
)
def test_what_is_no_number_is_not_packed(value, rule):
    with pytest.raises(WireError, match=rule):
        wire.pack(value, [])


def test_too_much_is_neither_packed_nor_sent():
    with pytest.raises(WireError, match="more than 64,000,000 bytes"):
        wire.pack(np.broadcast_to(np.float64(0), (10_000, 10_000)), [])
    stream = io.BytesIO()
    half = np.zeros(5_000_000)
    with pytest.raises(WireError, match="are more than the"):
        wire.send(stream, {"kind": "call"}, [half, half])
    assert not stream.getvalue()


def frame(
    header: bytes, content: bytes = b"", *, lengths: tuple[int, int] | None = None
) -> io.BytesIO:
    return io.BytesIO(
        struct.pack(">IQ", *(lengths or (len(header), len(content)))) + header + content
    )


def npz(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


HEADER = b'{"kind": "returned"}'
HUGE = npy(np.zeros(2)).replace(b"(2,)", b"(9,)")


def with_header(text: bytes) -> bytes:
    """Return a .npy file whose header is this."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def overlapping() -> bytes:
    """Return a zip whose directory has the first entry reach over all that is there."""
    archive = bytearray(npz(*((f"{number}.npy", npy(np.zeros(1000))) for number in range(2))))
    line = archive.index(b"PK\x01\x02")  # the first in the directory
    archive[line + 20 : line + 28] = 2 * struct.pack("<I", line - 100)  # its sizes
    return bytes(archive)


WRONG = {
    "a header that does not end": (
        frame(HEADER, npz(("0.npy", with_header(b"{\n")))), "the arrays cannot be read",
    ),
    "a header that is deep": (
        frame(HEADER, npz(("0.npy", with_header(b"-" * 9000 + b"1\n")))),
        "the arrays cannot be read",
    ),
    "no numbers and endless axes": (
        frame(
            HEADER,
            npz((
                "0.npy",
                with_header(
                    b"{'descr': '<f8', 'fortran_order': False, 'shape': (0, %d)}\n" % 10**30
                ),
            )),
        ),
        "the arrays cannot be read",
    ),
    "a name that is no text": (
        frame(HEADER, npz(("0.npy", npy(np.zeros(2)))).replace(b"0.npy", b"\xff.npy")),
        "are not numbered|cannot be read",
    ),
    "entries that overlap": (frame(HEADER, overlapping()), "the arrays overlap"),
    "a header longer than is allowed": (frame(b"", lengths=(2**31, 0)), "is not allowed"),
    "arrays longer than are allowed": (frame(HEADER, lengths=(20, 2**40)), "is not allowed"),
    "no JSON": (frame(b"{"), "the header is not JSON"),
    "deep JSON": (frame(b"[" * 100_000), "the header is not JSON"),
    "a list": (frame(b"[1]"), "the header has no kind"),
    "a kind that is none": (frame(b'{"kind": 3}'), "the header has no kind"),
    "no zip": (frame(HEADER, b"PK\x03\x04" + bytes(50)), "the arrays cannot be read"),
    "a bomb": (
        frame(HEADER, npz(("0.npy", npy(np.zeros(10**7))), compression=zipfile.ZIP_DEFLATED)),
        "the arrays are compressed",
    ),
    "another name": (frame(HEADER, npz(("../0.npy", npy(np.zeros(2))))), "are not numbered"),
    "a pickle": (
        frame(HEADER, npz(("0.npy", npy(np.array([{}]), allow_pickle=True)))),
        "an array of object, which is not of numbers",
    ),
    "an array shorter than it says": (frame(HEADER, npz(("0.npy", HUGE))), "has 16 bytes"),
    "no array": (frame(HEADER, npz(("0.npy", b"12345678901234"))), "the arrays cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_frame_is_refused(name):
    stream, rule = WRONG[name]
    with pytest.raises(WireError, match=rule):
        wire.receive(stream)


@pytest.mark.parametrize("cut", [0, 5, 12, 20])
def test_half_a_frame_is_the_end(cut):
    stream = frame(HEADER, npz(("0.npy", npy(np.zeros(2)))))
    with pytest.raises(EOFError, match="the other end is gone"):
        wire.receive(io.BytesIO(stream.getvalue()[:cut]))


@pytest.mark.parametrize(
    "packed",
    [
        3, {"array": 1}, {"array": -1}, {"array": True}, {"array": "0"}, {"network": 7},
        {"items": 3}, {"items": [{"value": 1}], "names": []}, {"value": [1]},
        {"value": "x", "type": "float"}, {}, {"items": [{"value": 1}] * 65},
        {"value": 10**400, "type": "float"}, {"items": [{"array": 0}, {"array": 0}]},
    ],
)  # fmt: skip
def test_what_pack_does_not_give_is_not_unpacked(packed):
    with pytest.raises(WireError):
        wire.unpack(packed, [np.zeros(2)], network=bytes)


def test_a_text_is_one_that_may_be_printed_and_written():
    assert wire.plain_text("a\x1b[2J\x07b\n\tc\x9b", 99) == "a[2Jb\n\tc"
    assert wire.plain_text("half \ud800", 99) == "half ?"
    assert wire.plain_text("abc", 2) == "ab"
    assert wire.plain_text(["a"], 9) == ""


@given(st.binary(max_size=300))
def test_noise_is_refused_and_breaks_nothing(noise):
    try:
        found = wire.receive(io.BytesIO(noise))
    except (WireError, EOFError):
        return
    assert isinstance(found, Frame)
    json.dumps(found.header)
