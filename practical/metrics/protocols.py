"""What exactly "delete" and "insert" mean: a protocol, and those of the tools that people use."""

import difflib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from practical._inputs import check_count
from practical._outputs import check_output
from practical.baselines import Baseline

ORDERS = ("most", "least")
IMPUTE = "impute"  # instead of a baseline: each removed pixel is interpolated from what is left


@dataclass(frozen=True)
class Protocol:
    """How deletion and insertion replace pixels, and how the area under their curve is taken."""

    steps: int = 28  # equal steps from no pixel to all of them, or:
    step: int | str | None = None  # this many at a time; "row": as many as the image is wide
    deletion: Baseline = "mean"  # what a deleted pixel shows, or "impute"
    insertion: Baseline = "blur"  # what the pixels are inserted into
    output: str = "probability"  # or "logit"
    order: str = "most"  # which pixels go first: the "most" or the "least" relevant
    unit: str = "pixel"  # all channels together, or each "value" for itself
    ends: str = "both"  # points of the curve: "both" ends, the "last" alone, or "neither"
    # The area: "fraction", trapezoids over the true shares; "equal", over equal steps from 0 to 1;
    # "steps", over equal steps of length 1; "mean", the mean of the points.
    area: str = "fraction"

    def __post_init__(self):
        check_count("steps", self.steps)
        if self.step is not None and self.step != "row":
            check_count("step", self.step)  # type: ignore[arg-type]
        check_output(self.output)
        for name, choices in (
            ("order", ORDERS),
            ("unit", ("pixel", "value")),
            ("ends", ("both", "last", "neither")),
            ("area", ("fraction", "equal", "steps", "mean")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )

    def cutoffs(self, height: int, width: int, channels: int) -> np.ndarray:
        """Return how many pixels (or values) are replaced at each point of the curve."""
        units = height * width * (channels if self.unit == "value" else 1)
        step = width if self.step == "row" else self.step
        if step is None:
            if self.steps > units:
                raise ValueError(
                    f"steps must be at most the {units} {self.unit}s of an image, got {self.steps}"
                )
            cutoffs = np.floor(np.linspace(0, units, self.steps + 1) + 1e-6)
        else:
            cutoffs = np.minimum(np.arange(-(-units // int(step)) + 1) * int(step), units)
        chosen = {"both": slice(None), "last": slice(1, None), "neither": slice(1, -1)}
        cutoffs = cutoffs[chosen[self.ends]].astype(np.int32)
        if not len(cutoffs) and step is not None:
            raise ValueError(
                f"step must be less than the {units} {self.unit}s of an image for a protocol "
                f"without ends, got {self.step!r}"
            )
        if not len(cutoffs):
            raise ValueError("steps must be at least 2 for a protocol without ends, got 1")
        return cutoffs

    def weights(self, fractions: np.ndarray) -> np.ndarray:
        """Return each point's weight in the area under the curve."""
        count = len(fractions)
        if self.area == "mean" or count == 1:
            return np.full(count, 1 / count)
        places = {
            "fraction": fractions,
            "equal": np.linspace(0, 1, count),
            "steps": np.arange(count),
        }[self.area]
        widths = np.diff(places.astype(np.float64)) / 2
        return np.concatenate([widths, [0]]) + np.concatenate([[0], widths])


PROTOCOLS: dict[str, Protocol] = {
    "practical": Protocol(),
    # github.com/eclique/RISE, evaluation.py with the step of its notebook. A network's zero in
    # normalised space is the mean color of its training data, here ImageNet's; images without
    # three channels get middle gray.
    "rise": Protocol(step="row", deletion="imagenet_mean", insertion="rise_blur", area="equal"),
    # Xplique's Deletion and Insertion: ten steps, black for both, the raw output.
    "xplique": Protocol(
        steps=10, deletion="black", insertion="black", output="logit", area="equal"
    ),
    # Quantus' PixelFlipping: single values, the image's own minimum, the first point left out, and
    # an area that grows with the number of steps.
    "quantus": Protocol(
        step=1, deletion="minimum", insertion="minimum", unit="value", ends="last", area="steps"
    ),
    # ROAD, as in pytorch-grad-cam: 10 % to 90 % of the pixels, interpolated from their neighbours.
    "road": Protocol(steps=10, deletion=IMPUTE, ends="neither", area="mean"),
}


def find_protocol(protocol: Protocol | str, **changes: Any) -> Protocol:
    """Return a protocol, by its name or as it is, with those `changes` that are not None.

    Raises:
        ValueError: If no protocol has that name, or a change is not allowed.
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            near = difflib.get_close_matches(protocol, PROTOCOLS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"protocol must be one of {', '.join(PROTOCOLS)}, or a metrics.Protocol, "
                f"got {protocol!r}{hint}"
            )
        protocol = PROTOCOLS[protocol]
    if changes.get("steps") is not None:
        changes["step"] = None
        protocol = replace(protocol, step=None)
    changes = {name: value for name, value in changes.items() if value is not None}
    return replace(protocol, **changes)
