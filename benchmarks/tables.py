"""What `speed.py` prints: one row a work, as Markdown."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from work import OURS

GOAL = 0.8  # of the best peer's time, at most


@dataclass
class Result:
    """All that was measured of one work, in seconds and bytes."""

    case: str
    work: str
    what: str
    images: int
    flops: int  # that it needs, see flops.py
    seconds: dict[str, list[float]] = field(default_factory=dict)  # by whom, one a round
    heats: dict[str, float] = field(default_factory=dict)  # each peer on a part of the work
    differences: dict[str, float] = field(default_factory=dict)  # from our answer
    failed: dict[str, str] = field(default_factory=dict)  # why somebody's time does not count
    alone: dict[str, dict[str, float | None]] = field(default_factory=dict)

    @property
    def best(self) -> str | None:
        """The fastest of the others, if any."""
        medians = {who: statistics.median(s) for who, s in self.seconds.items() if who != OURS}
        return min(medians, key=medians.__getitem__) if medians else None

    @property
    def ratios(self) -> list[float]:
        """Our time over the best peer's, round by round."""
        if self.best is None:
            return []
        pairs = zip(self.seconds[OURS], self.seconds[self.best], strict=True)
        return [ours / theirs for ours, theirs in pairs]


def warm_table(results: Sequence[Result], rate: float, *, throughput: bool = False) -> list[str]:
    """Return the lines of the table of warm times; `rate` is the machine's, in FLOP/s."""
    header = ["what", OURS, "best peer", "which", "ratio", "from", "to", "share", "peer's", "apart"]
    header += ["images/s", "peer's"] if throughput else []
    rows = []
    for one in results:
        ours, best = statistics.median(one.seconds[OURS]), one.best
        theirs = None if best is None else statistics.median(one.seconds[best])
        times = [ours, theirs]
        row = [one.what, *(seconds(time) for time in times), best or "none"]
        row += [_ratio(f(one.ratios)) for f in (statistics.median, min, max)] if best else [""] * 3
        row += ["" if time is None else f"{one.flops / time / rate:.0%}" for time in times]
        row += ["" if best is None else f"{one.differences[best]:.0e}"]
        if throughput:
            row += ["" if time is None else f"{one.images / time:.0f}" for time in times]
        rows.append(row)
    return markdown(header, rows)


def alone_table(results: Sequence[Result]) -> list[str]:
    """Return the lines of the table of what is measured in processes of their own."""
    header = ["what", "first call", "peer's", "compiling", "peer's", "peak, GB", "peer's", "which"]
    rows = []
    for one in results:
        if not one.alone:
            continue
        row = [one.what]
        for kind, show in (("first", seconds), ("compile", seconds), ("peak", _gigabytes)):
            row += [show(one.alone.get(who or "", {}).get(kind)) for who in (OURS, one.best)]
        rows.append([*row, one.best or "none"])
    return markdown(header, rows) if rows else []


def verdict(results: Sequence[Result]) -> str:
    """Return one line on the goal."""
    compared = {f"{one.case} {one.work}": one.ratios for one in results if one.ratios}
    above = [
        f"{name} ({_ratio(statistics.median(ratios))})"
        for name, ratios in compared.items()
        if not statistics.median(ratios) <= GOAL
    ]
    counted = f"{len(compared) - len(above)} of {len(compared)} at most {GOAL} of the best peer"
    return f"{counted}; above: {', '.join(above)}" if above else counted


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def seconds(time: float | None) -> str:
    """Return a time to three digits, in s or ms."""
    if time is None:
        return "–"
    unit, scale = ("ms", 1000) if time < 0.1 else ("s", 1)
    number = time * scale
    digits = max(0, 2 - (number >= 10) - (number >= 100))
    return f"{number:.{digits}f} {unit}"


def _ratio(number: float) -> str:
    return f"{number:.2f}"


def _gigabytes(size: float | None) -> str:
    return "–" if size is None else f"{size / 1e9:.2f}"
