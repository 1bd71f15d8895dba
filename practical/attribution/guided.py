"""Guided backpropagation: the gradient through ReLUs that let only positive evidence back."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from jaxtyping import Array, Float

from practical._chunks import map_images
from practical._inputs import (
    ChunkSize,
    Images,
    Model,
    Targets,
    check_answer,
    check_chunk_size,
    check_inputs,
)
from practical._jit import jit
from practical._programs import programs_in
from practical.attribution.cam import grad_cam
from practical.attribution.gradients import input_gradient


def guided_backprop(
    model: Model, images: Images, targets: Targets, *, chunk_size: ChunkSize = 32
) -> Float[Array, "batch height width channels"]:
    """Return the gradient of the target logit through ReLUs that pass only positive gradients.

    The model stays as it is. It is traced, and each ReLU in it (`jax.nn.relu`, `flax.linen.relu`,
    `jnp.maximum(x, 0)`) gets a backward rule of its own, however often one is used. A maximum that
    is part of another function does not count and keeps its gradient: `max(x, 0)` with an upper
    bound (ReLU6, a hard sigmoid or swish), beside `min(x, 0)` (a PReLU), or used only under a
    square root (the variance in a norm). Beware: much of the map is the image's edges, whatever
    the network has learned (Adebayo et al., 2018).

    Args:
        model: Images in [0, 1] to logits, with ReLUs.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        chunk_size: Images in flight ("auto": as many as fit).

    Returns:
        (B, H, W, C), signed, in logits per unit of pixel value, but no derivative of anything.

    Raises:
        ValueError: If an argument breaks its rule, the model has no ReLU or has one inside a loop
            or a branch (`lax.scan`, `lax.cond`), or it answers NaN.

    References:
        Springenberg et al., Striving for Simplicity: The All Convolutional Net, ICLR workshop
        2015; Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018.
    """
    inputs = check_inputs(model, images, targets)
    chunk_size = check_chunk_size(chunk_size)
    return check_answer(_guided_backprop(*inputs, chunk_size=chunk_size), "guided_backprop")


def guided_grad_cam(
    model: Model, images: Images, targets: Targets, *, chunk_size: ChunkSize = 32
) -> Float[Array, "batch height width channels"]:
    """Return guided backpropagation times Grad-CAM: its detail, at the places of the latter.

    Args:
        model: Images in [0, 1] to logits, with ReLUs, and with `features` and `head` as
            `grad_cam` needs them.
        images: (B, H, W, C) in [0, 1].
        targets: (B,) the class to explain in each image.
        chunk_size: Images in flight ("auto": as many as fit).

    Returns:
        (B, H, W, C), signed; only the pattern within an image means something, not the unit.

    Raises:
        ValueError: If an argument breaks its rule, the model lacks what it needs, or it answers
            NaN.

    References:
        Selvaraju et al., Grad-CAM, ICCV 2017, section 3.2.
    """
    where = grad_cam(model, images, targets, chunk_size=chunk_size)
    return where[..., None] * guided_backprop(model, images, targets, chunk_size=chunk_size)


@jax.custom_vjp
def _guided_relu(x):
    return jax.nn.relu(x)


def _forward(x):
    return jax.nn.relu(x), x > 0


def _backward(positive, slopes):
    return (jnp.where(positive & (slopes > 0), slopes, 0),)


_guided_relu.defvjp(_forward, _backward)


def _guided_backprop_core(model, images, targets, *, chunk_size):
    guided = with_relu(model, _guided_relu)

    def one(images, targets):
        return input_gradient(guided, images, targets)

    return map_images(one, chunk_size, images, targets)


_guided_backprop = jit(
    _guided_backprop_core, static_argnames=["chunk_size"], per_image=["images", "targets"]
)


# --- exchanging the ReLUs of any function --------------------------------------------------------


def with_relu(function: Callable, relu: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return `function` of one array with `relu` in place of every ReLU in it.

    Raises:
        ValueError: When called, if there is no ReLU, or one where it cannot be exchanged.
    """

    def exchanged(x: Array) -> Array:
        traced = jax.make_jaxpr(function)(x)
        asked = [True] * len(traced.jaxpr.outvars)
        if not _holds_relu(traced.jaxpr, asked):
            raise ValueError(
                "model must have ReLUs for guided backpropagation (jax.nn.relu, or "
                "jnp.maximum(x, 0); ReLU6 and hard sigmoids do not count), got one without; "
                "gradient works on any model"
            )
        return _evaluate(traced.jaxpr, traced.consts, [x], relu, asked)[0]

    return exchanged


def _relus(jaxpr: Jaxpr, exposed: set[Any]) -> set[Any]:
    """Return the outputs of a program's ReLUs, without those in the programs that it calls."""
    users: dict[Any, list[JaxprEqn | None]] = {
        v: [None] for v in jaxpr.outvars if not isinstance(v, Literal)
    }
    for equation in jaxpr.eqns:
        for v in _variables(equation):
            users.setdefault(v, []).append(equation)
    bounded = {equation.outvars[0] for equation in jaxpr.eqns if _is_bound(equation, "min")}

    def is_part(equation: JaxprEqn) -> bool:
        """Return whether max(x, 0) is a part of a clip, or of a PReLU."""
        (x,), (output,) = _variables(equation), equation.outvars
        clipped = x in bounded or all(u and _is_bound(u, "min") for u in users.get(output, [None]))
        return clipped or any(u and _is_bound(u, "min", zero=True) for u in users[x])

    return {
        equation.outvars[0] for equation in jaxpr.eqns
        if _variables(equation) and _is_relu(equation, exposed) and not is_part(equation)
    }  # fmt: skip


def _is_relu(equation: JaxprEqn, exposed: set[Any]) -> bool:
    if _is_bound(equation, "max", zero=True):  # jnp.maximum(x, 0)
        return not exposed.isdisjoint(equation.outvars)  # or max(variance, 0), as in a LayerNorm
    return _is_named_relu(equation)


def _is_named_relu(equation: JaxprEqn) -> bool:
    # jax.nn.relu has a derivative rule of its own, and its name.
    return equation.primitive.name == "custom_jvp_call" and _name_of(equation) == "relu"


def _is_bound(equation: JaxprEqn, primitive: str, *, zero: bool = False) -> bool:
    """Return whether an equation is the maximum or minimum of a variable and a number (or 0)."""
    if equation.primitive.name != primitive:
        return False
    numbers = [v.val for v in equation.invars if isinstance(v, Literal) and jnp.ndim(v.val) == 0]
    return len(numbers) == 1 and (not zero or bool(numbers[0] == 0))


def _name_of(equation: JaxprEqn) -> str:
    inner = [part.params.get("name") for part in equation.params["call_jaxpr"].jaxpr.eqns]
    return equation.params.get("name") or (inner[0] if len(inner) == 1 else "")


def _holds_relu(jaxpr: Jaxpr, asked: Sequence[bool]) -> bool:
    exposed = _exposed(jaxpr, asked)
    return bool(_relus(jaxpr, exposed)) or any(
        _holds_relu_inside(equation, exposed) for equation in jaxpr.eqns
    )


def _holds_relu_inside(equation: JaxprEqn, exposed: set[Any]) -> bool:
    return not _is_named_relu(equation) and any(
        _holds_relu(inner, _asked(equation, exposed, inner)) for inner in programs_in(equation)
    )


def _where(equation: JaxprEqn, exposed: set[Any]) -> str:
    """Return which loops and branches lead to the first ReLU inside of an equation."""
    name = equation.primitive.name
    own = [] if name in _CALLS or name in _RULES else [name]
    for inner in programs_in(equation):
        within = _exposed(inner, _asked(equation, exposed, inner))
        deeper = [part for part in inner.eqns if _holds_relu_inside(part, within)]
        if _relus(inner, within):
            return "".join(own)
        if deeper:
            return " of ".join(filter(None, [_where(deeper[0], within), *own]))
    return "".join(own)


# Primitives that call one program once, with its inputs as their own: it can be written out.
_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint")
_RULES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


def _variables(equation: JaxprEqn) -> list[Any]:
    return list(dict.fromkeys(v for v in equation.invars if not isinstance(v, Literal)))


def _inner(equation: JaxprEqn) -> tuple[Jaxpr, Sequence[Any]]:
    """Return the program that an equation of `_CALLS` or `_RULES` calls, and its constants."""
    inner = equation.params["jaxpr" if equation.primitive.name in _CALLS else "call_jaxpr"]
    return (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, [])


# --- what is a variance --------------------------------------------------------------------------

# What may lie between a variance and its root: another shape or type, a small number added, a
# factor such as n / (n - 1), a lower bound.
_SHAPES = (
    "broadcast_in_dim", "reshape", "squeeze", "transpose", "convert_element_type", "copy", "add",
    "add_any", "max",
)  # fmt: skip
_FACTORS = ("mul", "div")


def _exposed(jaxpr: Jaxpr, asked: Sequence[bool]) -> set[Any]:
    """Return the variables of a program that its `asked` outputs depend on other than by a root.

    The maximum of a norm's variance and 0 is not among them, for only its root goes on.
    """
    exposed = {
        v for v, is_asked in zip(jaxpr.outvars, asked, strict=True)
        if is_asked and not isinstance(v, Literal)
    }  # fmt: skip
    live = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if live.isdisjoint(equation.outvars):  # a running average that nobody asks for
            continue
        live.update(_variables(equation))
        exposed.update(_exposed_inputs(equation, exposed))
    return exposed


def _exposed_inputs(equation: JaxprEqn, exposed: set[Any]) -> list[Any]:
    name = equation.primitive.name
    if name in ("sqrt", "rsqrt"):
        return []
    if name == "pow" and isinstance(equation.invars[1], Literal):
        if abs(equation.invars[1].val) == 0.5:
            return []
    if name in _CALLS or name in _RULES:
        inner, _ = _inner(equation)
        within = _exposed(inner, _asked(equation, exposed, inner))
        pairs = zip(equation.invars, inner.invars, strict=True)
        return [v for v, own in pairs if own in within and not isinstance(v, Literal)]
    passes = name in _SHAPES or (name in _FACTORS and len(_variables(equation)) == 1)
    return [] if passes and exposed.isdisjoint(equation.outvars) else _variables(equation)


def _asked(equation: JaxprEqn, exposed: set[Any], inner: Jaxpr) -> list[bool]:
    """Return which outputs of `inner`, which the equation calls, are exposed."""
    if equation.primitive.name in _CALLS or equation.primitive.name in _RULES:
        return [v in exposed for v in equation.outvars]
    # The outputs of a loop or branch are not those of its parts, one for one.
    return [True] * len(inner.outvars)


# --- running the program -------------------------------------------------------------------------


def _apply(jaxpr: Jaxpr, equation: JaxprEqn) -> Callable:
    """Return one equation of a program as a function of its variables."""
    alone = jaxpr.replace(
        constvars=[], invars=_variables(equation), outvars=equation.outvars, eqns=[equation],
        effects=equation.effects, debug_info=jaxpr.debug_info.with_unknown_names(),
    )  # fmt: skip
    return jaxpr_as_fun(ClosedJaxpr(alone, []))


def _evaluate(
    jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any], relu, asked: Sequence[bool]
) -> list[Any]:
    exposed = _exposed(jaxpr, asked)
    relus = _relus(jaxpr, exposed)
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if not relus.isdisjoint(equation.outvars):
            answers = [relu(read(_variables(equation)[0]))]
        elif not _holds_relu_inside(equation, exposed):
            answers = _apply(jaxpr, equation)(*(read(atom) for atom in _variables(equation)))
        elif name in _CALLS or name in _RULES:
            inner, held = _inner(equation)
            given = [read(atom) for atom in equation.invars]
            answers = _evaluate(inner, held, given, relu, _asked(equation, exposed, inner))
        else:
            raise ValueError(
                "model must not hold its ReLUs inside of a loop or branch for guided "
                f"backpropagation, got one inside of {_where(equation, exposed)}; write the loop "
                "or branch out in Python"
            )
        values.update(zip(equation.outvars, answers, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
