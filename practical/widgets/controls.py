"""Which control each option of an explanation has, read off the method's signature."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from practical._outputs import OUTPUTS
from practical.attribution import Method
from practical.baselines import BASELINES


class Control(NamedTuple):
    """A widget that can be made: its class in ipywidgets, and its arguments with the `value`."""

    kind: str
    arguments: dict[str, Any]


# What a text may be. The methods' own messages say the same, and the tests compare them.
CHOICES = {
    "baseline": BASELINES,
    "bias": ("distribute", "absorb"),
    "output": OUTPUTS,
    "reduce": ("sum", "l2", "max_abs"),
    "rule": ("gamma", "epsilon"),
}
_FLOATS = {  # lowest, highest, step
    "gamma": (0.0, 2.0, 0.05),
    "kernel_width": (0.05, 1.0, 0.05),
    "noise": (0.01, 0.5, 0.01),
    "ridge": (0.1, 10.0, 0.1),
    "share": (0.05, 0.95, 0.05),
}
_POWERS = {"epsilon": (-9, 0)}  # of ten
_AT_MOST_THE_SIDE = ("cells", "stride", "window")
_AT_LEAST = {"cells": 2, "count": 2}
# Nothing that can be seen depends on it; and a map that is not upsampled does not fit its image.
_LEFT = ("chunk_size", "upsample")


def controls(method: Method, side: int) -> dict[str, Control]:
    """Return a control for each of the method's options that can have one; the others are left.

    Args:
        method: Its signature gives names and defaults.
        side: Pixels of the image's shorter side.
    """
    found = {}
    for name, parameter in inspect.signature(method).parameters.items():
        default = parameter.default
        if parameter.kind is not parameter.KEYWORD_ONLY or name in _LEFT:
            continue
        if name == "key":
            found[name] = Control("IntSlider", {"value": 0, "min": 0, "max": 99})
        elif name in CHOICES:
            found[name] = Control("Dropdown", {"value": default, "options": CHOICES[name]})
        elif isinstance(default, bool):
            found[name] = Control("Checkbox", {"value": default})
        elif isinstance(default, int):
            least = _AT_LEAST.get(name, 1)
            most = max(side if name in _AT_MOST_THE_SIDE else 2 * default, least)
            value = min(default, most)
            found[name] = Control("IntSlider", {"value": value, "min": least, "max": most})
        elif name in _POWERS:
            least, most = _POWERS[name]
            found[name] = Control(
                "FloatLogSlider",
                {"value": default, "min": least, "max": most, "readout_format": ".1e"},
            )
        elif name in _FLOATS:
            least, most, step = _FLOATS[name]
            found[name] = Control(
                "FloatSlider", {"value": default, "min": least, "max": most, "step": step}
            )
    return found


def as_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the controls say as keyword options: of a seed, its key."""
    return {
        name: jax.random.key(value) if name == "key" else value for name, value in values.items()
    }
