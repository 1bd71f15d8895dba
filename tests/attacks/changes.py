"""Changes of the solutions: parts of their code, and what turns one into a wrong answer."""

Change = tuple[str, str]

SOFTMAX = [("model(x)[rows", "jax.nn.softmax(model(x))[rows")]
LOSS = [("model(x)[rows", "-jax.nn.log_softmax(model(x))[rows")]
PREDICTED = [("rows", "targets = predict(model, images).argmax(1)\n    rows")]  # the first line
OUTPUTS: dict[str, list[Change]] = {
    "the gradient of a probability": SOFTMAX,
    "the gradient of the loss": LOSS,
    "the gradient of the predicted class": PREDICTED,
    "the gradient of all images' targets": [("[rows, targets]", "[:, targets]")],
    "the gradient of all classes' logits": [("[rows, targets]", "")],
    "the gradient of the mean over the images": [(".sum())", ".mean())")],
}


def returning(old: str, new: str) -> list[Change]:
    return [(f"return {old}", f"return {new}")]


MAP = "jnp.abs(slopes).max(axis=-1)"
GAP = "np.sum(attributions, axis=(1, 2, 3)) - (ends - starts)"
RELU = "jnp.maximum((weights * features).sum(axis=-1), 0)"
SHARE = "(positive * masks).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))"
CURVE = "np.stack(scores, axis=1)"
PLACES = "np.argsort(np.argsort(-flat, axis=1), axis=1)"
AREA = "ends @ np.diff(fractions)"
BASIS = 'np.einsum("ki,lj->klij", waves, waves).reshape(size * size, size, size)'
SPECTRUM = 'np.abs(np.einsum("hwio,khw->iok", kernels, basis)).mean(axis=(0, 1))'
WEIGHTED = 'np.einsum("io,iok->k", weights, parts)'
DENSITY = "share / masks.mean(axis=(1, 2))"
VERDICT = "falls.mean(axis=1) - 1.96 * error > margin"
ERROR = "falls.std(axis=1, ddof=1) / np.sqrt(falls.shape[1])"
FALLS = "aligned.astype(float) - swapped"
POINT = "baseline + (k + 0.5) / steps * (images - baseline)"


def mutate(solution: str, changes: list[Change]) -> str:
    """Return a solution with each change made once."""
    for old, new in changes:
        if old not in solution:
            raise ValueError(f"{old!r} is not in the solution")
        solution = solution.replace(old, new, 1)
    return solution
