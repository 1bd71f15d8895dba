"""Wrong answers that raise an error or have a wrong form, and what `check` says about them."""

from tests.attacks.changes import (
    AREA,
    BASIS,
    CURVE,
    FALLS,
    GAP,
    MAP,
    RELU,
    SHARE,
    SPECTRUM,
    Change,
    returning,
)

_CALL = "model(x)"
_LIST = "It returns a list"
_COPY = "It writes into an array that it was given, which the cells below use again"
_WHOLE = "It returns whole numbers: do not store the results in an array of integers."
_SHAPE = "It has the right number of values, so a `reshape` can give it the right shape."
_ONE = "Each image's own is `[np.arange(len(targets)), targets]`."
_JAX = "Inside `jax.grad` call `model(...)`, not `predict(model, ...)`"
_NUMBER = "`jax.grad` needs one number: add up the targets' logits with `.sum()`."
_FIRST = "Each entry along the first axis is the right one times a constant of its own"

# What no value tells: (exercise, what the message says, the changes)
MESSAGES: list[tuple[str, str, list[Change]]] = [
    ("1.1", _COPY, [("np.array(images)", "images")]),
    ("1.1", _COPY, [("np.array(images)", "np.asarray(images)")]),
    (
        "1.1",
        "create it without `int`",
        [("np.zeros(images.shape[:3])", "np.zeros(images.shape[:3], int)")],
    ),
    ("1.1", "Height and width are exchanged", [("(height, width) =", "(width, height) =")]),
    ("1.1", _ONE, [("images)[rows,", "images)[:,"), ("hidden)[rows,", "hidden)[:,")]),
    ("1.1", "The sign is turned around.", [("before - p", "-before + p")]),
    ("1.2", _JAX, [(_CALL, "predict(model, x)")]),
    ("1.2", _JAX, [("jnp.abs(slopes)", "slopes"), (_CALL, "np.abs(model(x))")]),
    ("1.2", _NUMBER, [(".sum())", ")")]),
    ("1.2", _LIST, returning(MAP, f"list({MAP})")),
    ("1.2", _FIRST, returning(MAP, f"(m := {MAP}) / m.max(axis=(1, 2), keepdims=True)")),
    ("1.2", "Each value is a constant times the right one", returning(MAP, f"{MAP} / 7")),
    ("1.2", _WHOLE, returning(MAP, f"(255 * {MAP}).astype('uint8')")),
    ("1.2", _SHAPE, [("axis=-1)", "axis=-1, keepdims=True)")]),
    ("1.3", _JAX, [(_CALL, "predict(model, x)")]),
    ("1.4", _JAX, [(_CALL, "predict(model, x)")]),
    ("1.5", _LIST, returning(GAP, f"[*({GAP})]")),
    ("1.5", _ONE, [("images)[rows,", "images)[:,"), ("shape))[rows,", "shape))[:,")]),
    ("1.5", "One array has more axes than the other", [("axis=(1, 2, 3)", "axis=(1, 2)")]),
    ("1.6", _JAX, [("model.head(a)", "predict(model.head, a)")]),
    ("1.6", _FIRST, returning(RELU, f"(m := {RELU}) / m.max(axis=(1, 2), keepdims=True)")),
    (
        "1.6",
        "average the derivative over rows",
        [("slopes.mean(axis=(1, 2), k", "slopes.mean(axis=1, k")],
    ),
    ("1.7", _COPY, [("np.maximum(heatmaps, 0)", "heatmaps\n    positive[positive < 0] = 0")]),
    ("1.7", _LIST, returning(SHARE, f"list({SHARE})")),
    (
        "1.7",
        "The shape of what it returns is ()",
        [("masks).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))", "masks).sum() / positive.sum()")],
    ),
    ("1.8", "The axes are in the opposite order.", returning(CURVE, "np.stack(scores)")),
    ("1.8", _ONE, [("[rows, targets]", "[:, targets]")]),
    ("1.8", "these are steps + 1 values", [("range(steps + 1)", "range(steps)")]),
    ("1.9", _LIST, returning(AREA, f"list({AREA})")),
    ("1.9", "takes the scores first", returning(AREA, "np.trapezoid(fractions, scores, axis=1)")),
    ("1.9", "called `np.trapezoid`", returning(AREA, "np.trapz(scores, fractions, axis=1)")),
    ("1.9", _WHOLE, returning(AREA, f"({AREA}).astype(int)")),
    ("1.10", _SHAPE, [(".reshape(size * size, size, size)", "")]),
    ("1.10", _WHOLE, returning(BASIS, f"{BASIS}.astype(int)")),
    (
        "1.11",
        "This looks like filters that a `reshape` has cut out of the wrong numbers.",
        returning(
            SPECTRUM,
            'np.abs(np.einsum("nhw,khw->nk", kernels.reshape(-1, 3, 3), basis)).mean(0)',
        ),
    ),
    ("2.2", _ONE, [("[rows, targets]", "[:, targets]")]),
    ("2.3", "`^` is not a difference", [(FALLS, "aligned - swapped")]),
]
