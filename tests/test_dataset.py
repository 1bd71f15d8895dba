"""`LazyArray` against NumPy's own indexing, and `Dataset`."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from practical.data import Dataset
from practical.data import dataset as module
from practical.data.dataset import LazyArray

ROWS = 7
WHOLE = np.random.default_rng(0).integers(0, 256, (ROWS, 3, 2, 3), np.uint8)
FLOATS = WHOLE / np.float32(255)


def lazy(whole: np.ndarray = WHOLE, log: list | None = None) -> LazyArray:
    def read(index: int) -> np.ndarray:
        if log is not None:
            log.append(index)
        return whole[index]

    return LazyArray(read, whole.shape, whole.dtype.type)


def positions(low: int = -ROWS, high: int = ROWS - 1):
    return st.integers(low, high)


INDICES = st.one_of(
    positions(),
    st.slices(ROWS),
    st.slices(3 * ROWS),
    st.lists(positions(), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
    st.lists(positions(), min_size=1, max_size=12).map(np.array),
    st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).map(np.array),
    positions().map(np.int32),
    positions().map(np.array),  # of no axes
    st.lists(st.lists(positions(), min_size=2, max_size=2), min_size=1, max_size=4).map(np.array),
    st.just(np.array([], int)),
    st.just([]),
    st.just(...),
)


@pytest.mark.parametrize("fits", [True, False], ids=["kept in memory", "read again"])
@given(indices=st.lists(INDICES, min_size=1, max_size=3))
@settings(deadline=None)
def test_indexing_is_numpys(fits, indices):
    array = lazy()
    if not fits:
        array._rows = None
    for index in indices:
        expected = FLOATS[index]
        found = array[index]
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)


@given(index=st.one_of(positions(ROWS, 99), positions(-99, -ROWS - 1)))
@settings(deadline=None)
def test_out_of_range_is_an_error(index):
    for where in (index, [0, index]):
        with pytest.raises(IndexError, match="out of bounds"):
            lazy()[where]


@pytest.mark.parametrize("index", ["a", 1.5, [True] * (ROWS - 1), (..., 0)])
def test_other_indices_are_errors(index):
    array = lazy()
    with pytest.raises(IndexError, match=r"index|indices"):
        array[index]


def test_the_shape_of_an_array():
    array = lazy()
    assert len(array) == ROWS
    assert array.shape == (ROWS, 3, 2, 3)
    assert array.ndim == 4
    assert array.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(array), FLOATS)
    np.testing.assert_array_equal(np.asarray(array, np.float64), FLOATS.astype(np.float64))
    assert [row.tolist() for row in array] == FLOATS.tolist()
    with pytest.raises(ValueError, match="cannot be viewed uncopied"):
        np.asarray(array, copy=False)


def test_other_types_are_kept_as_they_are():
    masks = WHOLE[..., 0] > 99
    assert lazy(masks)[:].dtype == bool
    np.testing.assert_array_equal(lazy(masks)[2:], masks[2:])


def test_rows_are_read_when_looked_at_and_once():
    log = []
    array = lazy(log=log)
    assert log == []
    array[3]
    assert log == [3]
    array[[3, 3, 5]]
    assert sorted(log) == [3, 5]
    array[:]
    assert sorted(log) == list(range(ROWS))


def test_rows_that_do_not_fit_are_read_again(monkeypatch):
    monkeypatch.setattr(module, "_CACHE_BYTES", WHOLE.nbytes - 1)
    log = []
    array = lazy(log=log)
    for _ in range(2):
        np.testing.assert_array_equal(array[1:3], FLOATS[1:3])
    assert log == [1, 2, 1, 2]


def test_what_was_given_cannot_change_what_is_kept():
    array = lazy()
    array[:][:] = 0
    np.testing.assert_array_equal(array[:], FLOATS)
    masks = lazy(WHOLE[..., 0] > 99)
    masks[:][:] = False
    np.testing.assert_array_equal(masks[:], WHOLE[..., 0] > 99)


def test_a_row_that_fails_is_not_kept():
    fail = [True]

    def read(index: int) -> np.ndarray:
        if index == 5 and fail[0]:
            raise ValueError("row 5 is broken")
        return WHOLE[index]

    array = LazyArray(read, WHOLE.shape, np.uint8)
    with pytest.raises(ValueError, match="row 5 is broken"):
        array[:]
    fail[0] = False
    np.testing.assert_array_equal(array[:], FLOATS)


def test_many_threads_see_the_same():
    whole = np.random.default_rng(1).integers(0, 256, (200, 4, 4, 3), np.uint8)
    log, lock = [], threading.Lock()

    def read(index: int) -> np.ndarray:
        with lock:
            log.append(index)
        return whole[index]

    array = LazyArray(read, whole.shape, np.uint8)

    def look(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(0, 200, (20, 10)):
            np.testing.assert_array_equal(array[index], whole[index] / np.float32(255))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(look, range(16)))
    assert sorted(log) == sorted(set(log))


# --- Dataset -------------------------------------------------------------------------------------

LABELS = np.array([1, 0, 1, 1, 0, 1, 0], np.int32)


def dataset(**options) -> Dataset:
    return Dataset(lazy(), LABELS, ("cat", "dog"), **options)


@pytest.mark.parametrize(
    ("labels", "masks", "message"),
    [
        (LABELS + 1, None, "labels must be from 0 to 1, .* got labels from 1 to 2"),
        (LABELS - 1, None, "labels must be from 0 to 1, .* got labels from -1 to 0"),
        (LABELS[:5], None, r"one for each of the 7 images, got int32 of shape \(5,\)"),
        (LABELS / 1, None, r"labels must be integers, .* got float64 of shape \(7,\)"),
        (np.eye(2)[LABELS], None, r"got float64 of shape \(7, 2\)"),
        (LABELS, WHOLE[:5, :, :, 0] > 99, r"masks must have shape \(7, 3, 2\), got \(5, 3, 2\)"),
    ],
)
def test_parts_that_do_not_belong_together(labels, masks, message):
    with pytest.raises(ValueError, match=message):
        Dataset(lazy(), labels, ("cat", "dog"), masks)


def test_select():
    masks = WHOLE[..., 0] > 99
    part = dataset(masks=lazy(masks), name="mine").select(LABELS == 0)
    np.testing.assert_array_equal(part.images, FLOATS[[1, 4, 6]])
    np.testing.assert_array_equal(part.masks, masks[[1, 4, 6]])
    assert part.labels.tolist() == [0, 0, 0]
    assert len(part) == 3
    assert repr(part) == ("Dataset('mine': 3 images of 3x2 pixels, 2 classes, with object masks)")


def test_per_class():
    part = dataset().per_class(2)
    assert part.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(part.images, FLOATS[[1, 4, 0, 2]])
    with pytest.raises(ValueError, match="'cat' has 3, got count=4"):
        dataset().per_class(4)


def test_shrinking_takes_means():
    rng = np.random.default_rng(0)
    images, masks = rng.random((2, 4, 6, 3), np.float32), np.zeros((2, 4, 6), bool)
    masks[1, 2, 4:] = masks[1, 0, 0] = True  # a half of one square, a quarter of another
    whole = Dataset(images, LABELS[:2], ("cat", "dog"), masks)
    small = whole.shrink(2)
    assert small.images.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(small.images[1, 1, 2], images[1, 2:, 4:].mean((0, 1)), rtol=1e-6)
    assert np.argwhere(small.masks).tolist() == [[1, 1, 2]]
    assert whole.shrink(1) is whole
    assert dataset().shrink(1).shrink(1).masks is None
    with pytest.raises(ValueError, match="factor must divide 4x6 pixels, got 4"):
        whole.shrink(4)
    with pytest.raises(ValueError, match="factor must be an integer of at least 1, got 0"):
        whole.shrink(0)


def test_classes_numbered_as_a_model_numbers_them():
    whole = Dataset(FLOATS, LABELS, ("cat", "dog"))
    turned = whole.numbered_as(np.array(["dog", "cat"]))
    assert turned.class_names == ("dog", "cat")
    assert turned.images is FLOATS
    np.testing.assert_array_equal(turned.labels, 1 - LABELS)
    assert whole.numbered_as(["cat", "dog"]) is whole
    many = [f"n{k}" for k in range(10_000)]
    listed = r"\(n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, ... \(10000 in all\)\)"
    message = f"10000 classes, got 2: 10000 missing {listed}, 2 unknown to the model .cat, dog.$"
    with pytest.raises(ValueError, match=message):
        whole.numbered_as(many)
    with pytest.raises(ValueError, match="model's 3 classes, got 2: several have one name"):
        whole.numbered_as(["cat", "dog", "dog"])


def test_only_some_classes():
    log = []
    whole = Dataset(lazy(log=log), LABELS, ("cat", "dog", "emu"), lazy(WHOLE[..., 0] > 99))
    part = whole.only(["dog"])
    assert not log  # read when looked at
    assert part.class_names == ("dog",)
    assert part.labels.tolist() == [0] * 4
    np.testing.assert_array_equal(part.images[1:3], FLOATS[[2, 3]])
    assert sorted(log) == [2, 3]
    np.testing.assert_array_equal(part.masks[:], WHOLE[[0, 2, 3, 5], :, :, 0] > 99)
    turned = Dataset(FLOATS, LABELS, ("cat", "dog", "emu")).only(("dog", "cat"))
    np.testing.assert_array_equal(turned.labels, 1 - LABELS)
    np.testing.assert_array_equal(turned.images, FLOATS)
    for names in (["bee"], ["dog", "dog"], [], "dog"):
        with pytest.raises(ValueError, match="names must be some of cat, dog, emu, each once, got"):
            whole.only(names)
