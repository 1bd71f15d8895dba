"""How two libraries' numbers are held side by side, judged and printed."""

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Arrays = dict[str, np.ndarray]


class Tolerance(NamedTuple):
    """The largest differences allowed, in units of the array's root mean square."""

    float32_max: float
    float32_rms: float  # root mean square over the array
    float64_max: float


ACTIVATIONS = Tolerance(1e-4, 1e-4, 1e-11)
# A pre-activation that rounding moves over 0, or another winner in a max-pool's window, changes a
# few pixels by any amount. The mean still tells, and in float64 it does not happen.
GRADIENTS = Tolerance(np.inf, 5e-2, 1e-5)


class Row(NamedTuple):
    """One array in both precisions. All but the first difference are over its root mean square."""

    name: str
    shape: tuple[int, ...]
    difference: float  # float32: largest |practical - other|, as it is
    float32_max: float
    float32_rms: float
    other_max: float  # largest |other's float32 - other's float64|: rounding alone
    float64_max: float  # largest |practical - other|
    good: bool


class Check(NamedTuple):
    """One array in single precision, against the other library's or the definition's in double."""

    name: str
    against: str
    difference: float  # largest |practical - other|, over the root mean square
    tolerance: float

    @property
    def good(self) -> bool:
        """Whether the difference is within its tolerance; NaN is not."""
        return bool(self.difference <= self.tolerance)


def compare(
    ours: tuple[Arrays, Arrays],
    theirs: tuple[Arrays, Arrays],
    tolerances: dict[str, Tolerance],
    default: Tolerance,
    random: Container[str] = (),
) -> Iterator[Row]:
    """Compare arrays of the same names, each library's in (float32, float64).

    Those that are `random` have other random numbers in float64, so rounding alone is unknown.
    """
    if ours[0].keys() != theirs[0].keys():
        raise ValueError(f"compared different things: {ours[0].keys() ^ theirs[0].keys()}")
    for name, exact in theirs[1].items():
        scale = _rms(exact)
        float32 = _difference(ours[0][name], theirs[0][name])
        rounding = _difference(theirs[0][name], exact)
        float64 = _difference(ours[1][name], exact)
        errors = float32.max() / scale, _rms(float32) / scale, float64.max() / scale
        allowed = tolerances.get(name, default)
        good = all(error <= most for error, most in zip(errors, allowed, strict=True))  # NaN is not
        other = np.nan if name in random else rounding.max() / scale
        yield Row(name, exact.shape, float32.max(), *errors[:2], other, errors[2], good)


def check(name: str, against: str, ours: ArrayLike, theirs: ArrayLike, tolerance: float) -> Check:
    """Compare one array."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return Check(name, against, _difference(ours, theirs).max() / _rms(theirs), tolerance)


def check_means(
    name: str, against: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float
) -> Check:
    """Compare the means of two libraries' independent runs, (runs, ...), by their standard error.

    The root mean square of the difference over that which chance alone makes: about 1.
    """
    error = sum(runs.var(0, ddof=1).mean() / len(runs) for runs in (ours, theirs))
    difference = _rms(ours.mean(0) - theirs.mean(0))
    return Check(name, against, difference / np.sqrt(error), tolerance)


def print_rows(rows: Sequence[Row], *, inside: Sequence[Row] = (), other: str = "torch") -> None:
    """Print rows under their header; of those `inside` of blocks the bad ones and the worst."""
    print(f"{'array':<24}{'shape':<16}{'max abs':>9}{'max':>9}{'rms':>9}{other:>9}{'float64':>9}")
    for row in rows:
        if not row.good or row not in inside:
            _print_row(row)
    if inside:
        print(f"{len(inside)} convolutions and batch norms inside of the blocks, the worst:")
        _print_row(max(inside, key=lambda row: (not row.good, row.float64_max)))


def _print_row(row: Row) -> None:
    numbers = "".join("        –" if np.isnan(n) else f"{n:>9.1e}" for n in row[2:-1])
    shape = "x".join(map(str, row.shape))
    print(f"{row.name:<24}{shape:<16}{numbers}{'' if row.good else '  BEYOND TOLERANCE'}")


def print_checks(checks: Sequence[Check]) -> None:
    """Print checks under their header."""
    print(f"{'what':<38}{'against':<34}{'max':>9}{'at most':>9}")
    for row in checks:
        note = "  ok" if row.good else "  BEYOND TOLERANCE"
        print(f"{row.name:<38}{row.against:<34}{row.difference:>9.1e}{row.tolerance:>9.1e}{note}")


def verdict(names: dict[str, bool]) -> int:
    """Print how many of the comparisons, by name, were good; return the exit status."""
    bad = [name for name, good in names.items() if not good]
    if bad:
        print(
            f"\nDISAGREEMENT: {len(bad)} of {len(names)} beyond tolerance, "
            f"first {', '.join(bad[:3])}"
        )
        return 1
    print(f"\nagreement: {len(names)} comparisons, none beyond tolerance")
    return 0


def _difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    if ours.shape != theirs.shape:
        return np.array(np.inf)
    return np.abs(ours.astype(np.float64) - theirs.astype(np.float64))


def _rms(array: np.ndarray) -> np.floating:
    return np.sqrt(np.mean(np.square(array)))
