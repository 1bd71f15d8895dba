"""One wrong answer for each known mistake: what a student writes, as a change of the solution."""

Change = tuple[str, str]

_SOFTMAX = [("model(x)[rows", "jax.nn.softmax(model(x))[rows")]
_LOSS = [("model(x)[rows", "-jax.nn.log_softmax(model(x))[rows")]
_PREDICTED = [("rows", "targets = predict(model, images).argmax(1)\n    rows")]  # the first line

# exercise -> the mistake's name -> (what stands in the solution, what stands there instead)
MUTANTS: dict[str, dict[str, list[Change]]] = {
    "1.1": {
        "the sum over the squares that cover a pixel": [(" / np.maximum(covers, 1)", "")],
        "the fall of a probability": [
            ("predict(model, images)[rows", "jax.nn.softmax(predict(model, images))[rows"),
            ("predict(model, hidden)[rows", "jax.nn.softmax(predict(model, hidden))[rows"),
        ],
        "a black square, whatever `color` is": [("] = color", "] = 0")],
        "a square that is hidden in one colour channel alone": [
            ("left : left + window] = color", "left : left + window, 0] = color[..., 0]")
        ],
        "the fall of the predicted class's logit": _PREDICTED,
        "squares that stay hidden while the next ones are": [
            ("            hidden = np.array(images)\n", ""),
            ("    for top", "    hidden = np.array(images)\n    for top"),
        ],
        "squares that stop before the last row and column": [
            ("height - window + 1", "height - window"),
            ("width - window + 1", "width - window"),
        ],
    },
    "1.2": {
        "the gradient of a probability": _SOFTMAX,
        "the gradient of the loss": _LOSS,
        "the largest value over the channels, with its sign": [("jnp.abs(slopes)", "slopes")],
        "the magnitude of the sum over the channels": [
            ("jnp.abs(slopes).max(axis=-1)", "jnp.abs(slopes.sum(axis=-1))")
        ],
        "the sum of the channels' magnitudes": [(".max(axis=-1)", ".sum(axis=-1)")],
        "the gradient of the predicted class": _PREDICTED,
        "the gradients of the whole batch added up": [
            ("jnp.abs(slopes)", "jnp.abs(slopes.sum(0) + 0 * slopes)")
        ],
    },
    "1.3": {
        "the gradient alone": [("return images * jax", "return jax")],
        "the gradient of a probability": _SOFTMAX,
        "the gradient of the loss": _LOSS,
        "magnitudes": [
            (
                "return images * jax.grad(lambda x: model(x)[rows, targets].sum())(images)",
                "return abs(images * jax.grad(lambda x: model(x)[rows, targets].sum())(images))",
            )
        ],
        "the gradient of the predicted class": _PREDICTED,
    },
    "1.4": {
        "the averaged gradient, not multiplied by x - x'": [
            ("return (images - baseline) * mean", "return mean")
        ],
        "the averaged gradient times x, not times x - x'": [
            ("return (images - baseline) * mean", "return images * mean")
        ],
        "a way that begins at black, not at the baseline": [
            (
                "slope(baseline + (k + 0.5) / steps * (images - baseline))",
                "slope((k + 0.5) / steps * images)",
            )
        ],
        "black as the baseline, whatever `baseline` is": [
            ("mean = jnp", "baseline = 0\n    mean = jnp")
        ],
        "the gradient at the image alone, times x - x'": [
            ("slope(baseline + (k + 0.5) / steps * (images - baseline))", "slope(images)")
        ],
        "the gradient of a probability": _SOFTMAX,
        "the gradient of the loss": _LOSS,
        "the gradient of the predicted class": _PREDICTED,
        "magnitudes": [
            ("return (images - baseline) * mean", "return abs((images - baseline) * mean)")
        ],
        "the sum over the steps, not their mean": [
            ("(images - baseline)) / steps", "(images - baseline))")
        ],
    },
    "1.5": {
        "the sum less the image's logit, without the baseline's": [("(ends - starts)", "ends")],
        "the size of the gap, without its sign": [
            (
                "return np.sum(attributions, axis=(1, 2, 3)) - (ends - starts)",
                "return abs(np.sum(attributions, axis=(1, 2, 3)) - (ends - starts))",
            )
        ],
        "the absolute value before the sum": [("np.sum(attributions", "np.sum(abs(attributions)")],
        "probabilities in the place of logits": [
            ("= predict(model, images)", "= jax.nn.softmax(predict(model, images))"),
            (
                "= predict(model, np.broadcast_to(baseline, images.shape))",
                "= jax.nn.softmax(predict(model, np.broadcast_to(baseline, images.shape)))",
            ),
        ],
        "one sum over the whole batch": [(", axis=(1, 2, 3))", ")")],
        "the predicted class's logit": _PREDICTED,
    },
    "1.6": {
        "a map without the ReLU at the end": [
            (
                "jnp.maximum((weights * features).sum(axis=-1), 0)",
                "(weights * features).sum(axis=-1)",
            )
        ],
        "magnitudes in the place of the ReLU": [
            (
                "jnp.maximum((weights * features).sum(axis=-1), 0)",
                "abs((weights * features).sum(axis=-1))",
            )
        ],
        "a ReLU on each map before they are added up": [
            (
                "jnp.maximum((weights * features).sum(axis=-1), 0)",
                "jnp.maximum(weights * features, 0).sum(axis=-1)",
            )
        ],
        "weights that are added up over the positions, not averaged": [
            ("slopes.mean(axis=(1, 2)", "slopes.sum(axis=(1, 2)")
        ],
        "a mean over the channels": [(".sum(axis=-1), 0)", ".mean(axis=-1), 0)")],
        "the maps added up without their weights": [("weights * features", "features")],
        "weights of a probability": [("model.head(a)[", "jax.nn.softmax(model.head(a))[")],
        "weights of the predicted class": _PREDICTED,
    },
    "1.7": {
        "magnitudes in the place of what is positive": [
            ("np.maximum(heatmaps, 0)", "abs(heatmaps)")
        ],
        "sums that count negative relevance, too": [("np.maximum(heatmaps, 0)", "heatmaps")],
        "a density: the share over the mask's share of the image": [
            ("positive.sum(axis=(1, 2))\n", "positive.sum(axis=(1, 2)) / masks.mean(axis=(1, 2))\n")
        ],
        "the share of the mask that is positive": [
            (
                "return (positive * masks).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))",
                "return ((positive > 0) & masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))",
            )
        ],
        "one share of the whole batch": [
            (
                "return (positive * masks).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))",
                "return np.full(len(masks), (positive * masks).sum() / positive.sum())",
            )
        ],
    },
    "1.8": {
        "the least relevant pixels first": [("np.argsort(-flat", "np.argsort(flat")],
        "one order for the pixels of all images": [
            ("    flat = maps.reshape(len(images), -1)", "    flat = maps.reshape(1, -1)")
        ],
        "one colour channel deleted": [
            (
                "np.where(gone[..., None], color, images)",
                "np.where(gone[..., None] & (np.arange(3) == 0), color, images)",
            )
        ],
        "the logit that is recorded": [
            ("jax.nn.softmax(predict(model, deleted))", "predict(model, deleted)")
        ],
        "black in the place of deleted pixels": [
            ("color, images)", "0, images).astype(np.float32)")
        ],
        "a mean grey in the place of deleted pixels": [
            ("mean(axis=(1, 2), k", "mean(axis=(1, 2, 3), k")
        ],
        "the mean colour of the whole batch": [("mean(axis=(1, 2), k", "mean(axis=(0, 1, 2), k")],
        "pixels ranked by their magnitude": [("np.asarray(heatmaps)", "abs(np.asarray(heatmaps))")],
    },
    "1.9": {
        "the mean of the scores": [
            ("return ends @ np.diff(fractions)", "return scores.mean(axis=1)")
        ],
        "each piece taken at its left end": [
            ("(scores[:, :-1] + scores[:, 1:]) / 2", "scores[:, :-1]")
        ],
        "each piece taken at its right end": [
            ("(scores[:, :-1] + scores[:, 1:]) / 2", "scores[:, 1:]")
        ],
        "a trapezoidal rule with a width of 1": [("ends @ np.diff(fractions)", "ends.sum(axis=1)")],
        "a mean height, the area over the width of the whole curve": [
            ("@ np.diff(fractions)", "@ np.diff(fractions) / np.ptp(fractions)")
        ],
        "one area of all curves": [
            (
                "return ends @ np.diff(fractions)",
                "return np.full(len(scores), ends.mean(0) @ np.diff(fractions))",
            )
        ],
    },
    "1.10": {
        "waves that are not of length 1": [
            ("    waves /= np.linalg.norm(waves, axis=1, keepdims=True)\n", "")
        ],
        "the constant wave scaled as the others are": [
            ("waves /= np.linalg.norm(waves, axis=1, keepdims=True)", "waves *= np.sqrt(2 / size)")
        ],
        "waves that are read at the pixels' edges": [("np.arange(size) + 0.5", "np.arange(size)")],
        "whole waves in the place of half ones": [("np.pi / size", "2 * np.pi / size")],
        "rows and columns exchanged in the order of the basis": [("->klij", "->lkij")],
    },
    "1.11": {
        "squares in the place of magnitudes": [
            (
                'np.abs(np.einsum("hwio,khw->iok", kernels, basis))',
                '(np.einsum("hwio,khw->iok", kernels, basis) ** 2)',
            )
        ],
        "the magnitude of the mean filter's parts": [
            ("kernels, basis)).mean(axis=(0, 1))", "kernels, basis).mean(axis=(0, 1)))")
        ],
        "the mean without the magnitude": [("np.abs(np.einsum", "(np.einsum")],
        "the sum over the filters": [("mean(axis=(0, 1))", "sum(axis=(0, 1))")],
        "filters added up over their input channels first": [
            ("kernels, basis)).mean(axis=(0, 1))", "kernels, basis).sum(axis=0)).mean(axis=0)")
        ],
        "shares, which add up to 1": [
            (
                'return np.abs(np.einsum("hwio,khw->iok", kernels, basis)).mean(axis=(0, 1))',
                'e = np.abs(np.einsum("hwio,khw->iok", kernels, basis)).mean(axis=(0, 1))\n'
                "    return e / e.sum()",
            )
        ],
    },
    "1.12": {
        "weights that are the magnitude of the slopes' sum": [
            ("np.abs(slopes).sum(axis=(0, 1))", "np.abs(slopes.sum(axis=(0, 1)))")
        ],
        "weights with a sign": [("np.abs(slopes).sum", "slopes.sum")],
        "filters that all have the same weight": [
            ("np.abs(slopes).sum(axis=(0, 1))", "np.ones(slopes.shape[2:])")
        ],
        "the spectrum of the slopes": [
            ("weights = np.abs", "slopes, kernels = kernels, slopes\n    weights = np.abs")
        ],
        "slopes times filters as weights": [("np.abs(slopes)", "np.abs(slopes * kernels)")],
        "the mean over the filters": [
            (
                'return np.einsum("io,iok->k", weights, parts)',
                'return np.einsum("io,iok->k", weights, parts) / weights.size',
            )
        ],
    },
    "2.1": {
        "the share of the relevance, not over the share of the pixels": [
            ("share / masks.mean(axis=(1, 2))", "share")
        ],
        "magnitudes in the place of what is positive": [
            ("np.maximum(heatmaps, 0)", "abs(heatmaps)")
        ],
        "the share of the relevance over the number of pixels on the mask": [
            ("share / masks.mean(axis=(1, 2))", "share / masks.sum(axis=(1, 2))")
        ],
        "relevance on the mask over relevance beside it": [
            ("share / masks.mean(axis=(1, 2))", "share / (1 - share)")
        ],
        "one density of all images": [
            (
                "return share / masks.mean(axis=(1, 2))",
                "return 0 * share + (positive * masks).sum() / positive.sum() / masks.mean()",
            )
        ],
    },
    "2.2": {
        "a change of the logit": [("jax.nn.softmax(predict(model, x))", "predict(model, x)")],
        "the probability before, less that after": [("after - before", "before - after")],
        "the most probable class in the place of the target": _PREDICTED,
        "the size of the change, without its sign": [("after - before", "abs(after - before)")],
        "a softmax over the batch": [
            ("jax.nn.softmax(predict(model, x))", "jax.nn.softmax(predict(model, x), axis=0)")
        ],
    },
    "2.3": {
        "a verdict by the mean fall, without its interval": [("- 1.96 * error ", "")],
        "a verdict by the interval's upper end": [("- 1.96", "+ 1.96")],
        "a verdict against whoever is wrong on swapped images": [
            ("return falls", "return 1 - np.mean(swapped, axis=1) > margin\n    return falls")
        ],
        "a verdict against the network that is best on aligned images": [
            (
                "return falls",
                "right = np.mean(aligned, axis=1)\n    return right == 1\n    return falls",
            )
        ],
        "an interval that does not shrink with the number of images": [
            (" / np.sqrt(falls.shape[1])", "")
        ],
        "falls that are turned around": [
            ("aligned.astype(float) - swapped", "swapped.astype(float) - aligned")
        ],
    },
}


def mutate(solution: str, changes: list[Change]) -> str:
    """Return a solution with each change made once."""
    for old, new in changes:
        if old not in solution:
            raise ValueError(f"{old!r} is not in the solution")
        solution = solution.replace(old, new, 1)
    return solution
