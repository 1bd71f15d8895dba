"""One wrong answer for each known mistake: what a student writes, as a change of the solution."""

from tests.attacks.changes import (
    AREA,
    CURVE,
    GAP,
    MAP,
    OUTPUTS,
    PLACES,
    POINT,
    PREDICTED,
    RELU,
    Change,
    returning,
)
from tests.attacks.mutants_filters_and_bias import FILTERS_AND_BIAS

# exercise -> the mistake's name -> (what stands in the solution, what stands there instead)
MUTANTS: dict[str, dict[str, list[Change]]] = {
    "1.1": {
        "the sum over the squares that cover a pixel": [(" / np.maximum(covers, 1)", "")],
        "the fall of a probability": [
            ("predict(model, images)[rows", "jax.nn.softmax(predict(model, images))[rows"),
            ("predict(model, hidden)[rows", "jax.nn.softmax(predict(model, hidden))[rows"),
        ],
        "a black square, whatever `color` is": [("] = color", "] = 0")],
        "a sum that is divided by the number of all squares": [
            ("np.maximum(covers, 1)", "squares"),
            ("    total, covers", "    squares = 0\n    total, covers"),
            ("            hidden = ", "            squares += 1\n            hidden = "),
        ],
        "values of the last square only, divided by the number of squares": [
            ("left : left + window] += falls", "left : left + window] = falls")
        ],
        "falls that are cut to whole numbers": [
            ("np.zeros(images.shape[:3])", "np.zeros(images.shape[:3], int)"),
            (
                "total[:, top : top + window, left : left + window] +=",
                "place = np.s_[:, top : top + window, left : left + window]\n"
                "            total[place] = total[place] +",
            ),
        ],
        "falls only, with rises set to 0": [("+= falls[", "+= np.maximum(falls, 0)[")],
        "squares that reach over the edge of the image": [
            ("height - window + 1", "height"),
            ("width - window + 1", "width"),
        ],
        "columns that are counted by the height": [("width - window", "height - window")],
        "rows that are counted by the width": [("height - window", "width - window")],
        "height and width exchanged": [
            ("height - window", "w - window"),
            ("width - window", "height - window"),
            ("    total,", "    w = width\n    total,"),
        ],
        "a square at every pixel, whatever `stride` is": [
            ("1, stride)", "1)"),
            ("1, stride)", "1)"),
        ],
        "squares side by side, whatever `stride` is": [
            ("1, stride)", "1, window)"),
            ("1, stride)", "1, window)"),
        ],
        "a square that is hidden in one color channel only": [
            ("left : left + window] = color", "left : left + window, 0] = color[..., 0]")
        ],
        "the fall of the predicted class's logit": PREDICTED,
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
        **OUTPUTS,
        "the gradient norm": returning(MAP, "jnp.linalg.norm(slopes, axis=-1)"),
        "the mean of the channels' magnitudes": [(".max(axis=-1)", ".mean(axis=-1)")],
        "gradient times input": [("jnp.abs(slopes)", "jnp.abs(slopes * images)")],
        "positive slopes only": [("jnp.abs(slopes)", "jnp.maximum(slopes, 0)")],
        "`[targets]`, which picks images by the numbers of their classes": [
            ("[rows, targets]", "[targets]")
        ],
        "the largest value over the channels, with its sign": [("jnp.abs(slopes)", "slopes")],
        "the magnitude of the sum over the channels": [
            ("jnp.abs(slopes).max(axis=-1)", "jnp.abs(slopes.sum(axis=-1))")
        ],
        "the sum of the channels' magnitudes": [(".max(axis=-1)", ".sum(axis=-1)")],
        "the gradients of the whole batch added up": [
            ("jnp.abs(slopes)", "jnp.abs(slopes.sum(0) + 0 * slopes)")
        ],
    },
    "1.3": {
        **OUTPUTS,
        "the gradient, not multiplied by the input": [("return images * jax", "return jax")],
        "the saliency times the input": [
            ("images * jax", "images * abs(jax"),
            (")(images)", ")(images)).max(axis=-1, keepdims=True)"),
        ],
        "magnitudes": [
            (
                "return images * jax.grad(lambda x: model(x)[rows, targets].sum())(images)",
                "return abs(images * jax.grad(lambda x: model(x)[rows, targets].sum())(images))",
            )
        ],
    },
    "1.4": {
        **OUTPUTS,
        "gradients at the beginnings of the steps, k / steps": [("(k + 0.5)", "k")],
        "gradients at the ends of the steps, (k + 1) / steps": [("k + 0.5", "k + 1")],
        "gradients at `steps` points from 0 to 1, with both ends": [
            ("(k + 0.5) / steps", "np.linspace(0, 1, steps)[k]")
        ],
        "the trapezoidal rule, with `steps` + 1 gradients": [
            ("range(steps)", "range(steps + 1)"),
            ("slope(", "(0.5 if k in (0, steps) else 1) * slope("),
            ("(k + 0.5)", "k"),
        ],
        "alpha = k + 1/2 / steps": [("(k + 0.5) / steps", "(k + 0.5 / steps)")],
        "only the last gradient, divided by `steps`": [("mean +=", "mean =")],
        "one gradient too few": [("range(steps)", "range(1, steps)")],
        "one gradient too many": [("range(steps)", "range(steps + 1)")],
        "a way that starts at black, with the length of images - baseline": [
            ("slope(baseline + ", "slope(")
        ],
        "the averaged gradient, not multiplied by x - x'": [
            ("return (images - baseline) * mean", "return mean")
        ],
        "the averaged gradient times x, not times x - x'": [
            ("return (images - baseline) * mean", "return images * mean")
        ],
        "a way that begins at black, not at the baseline": [(POINT, "(k + 0.5) / steps * images")],
        "black as the baseline, whatever `baseline` is": [
            ("mean = jnp", "baseline = 0\n    mean = jnp")
        ],
        "the gradient at the image only, times x - x'": [(POINT, "images")],
        "magnitudes": [
            ("return (images - baseline) * mean", "return abs((images - baseline) * mean)")
        ],
        "the sum over the steps, not their mean": [
            ("(images - baseline)) / steps", "(images - baseline))")
        ],
    },
    "1.5": {
        "the sum of the attributions, from which nothing is subtracted": [
            (" - (ends - starts)", "")
        ],
        "the mean of the attributions minus the change of the logit": [("np.sum", "np.mean")],
        "the sum plus the change of the logit": [("- (ends - starts)", "+ (ends - starts)")],
        "the gap as a share of the change": returning(GAP, f"({GAP}) / (ends - starts)"),
        "the sum as a share of the change": [("- (ends - starts)", "/ (ends - starts)")],
        "the change from black, whatever `baseline` is": [
            ("np.broadcast_to(baseline, images.shape)", "np.zeros_like(images)")
        ],
        "the sum minus the image's logit, without the baseline's": [("(ends - starts)", "ends")],
        "the size of the gap, without its sign": returning(GAP, f"abs({GAP})"),
        "the absolute value before the sum": [("np.sum(attributions", "np.sum(abs(attributions)")],
        "probabilities instead of logits": [
            ("= predict(model, images)", "= jax.nn.softmax(predict(model, images))"),
            (
                "= predict(model, np.broadcast_to(baseline, images.shape))",
                "= jax.nn.softmax(predict(model, np.broadcast_to(baseline, images.shape)))",
            ),
        ],
        "one sum over the whole batch": [(", axis=(1, 2, 3))", ")")],
        "the predicted class's logit": PREDICTED,
    },
    "1.6": {
        "the gradient of a probability": [("model.head(a)[", "jax.nn.softmax(model.head(a))[")],
        "the gradient of the loss": [("model.head(a)[", "-jax.nn.log_softmax(model.head(a))[")],
        **{name: OUTPUTS[name] for name in list(OUTPUTS)[2:]},
        "a derivative that is not averaged over the positions": [
            (".mean(axis=(1, 2), keepdims=True)", "")
        ],
        "a map without the ReLU at the end": [(RELU, "(weights * features).sum(axis=-1)")],
        "magnitudes instead of the ReLU": [(RELU, "abs((weights * features).sum(axis=-1))")],
        "a ReLU on the weights, or on each map, before the maps are added up": [
            (RELU, "(jnp.maximum(weights, 0) * features).sum(axis=-1)")
        ],
        "weights that are added up over the positions, not averaged": [
            ("slopes.mean(axis=(1, 2)", "slopes.sum(axis=(1, 2)")
        ],
        "a mean over the channels": [(".sum(axis=-1), 0)", ".mean(axis=-1), 0)")],
        "the maps added up without their weights": [("weights * features", "features")],
    },
    "1.7": {
        "positive relevance divided by the sum of all magnitudes": [
            ("/ positive", "/ abs(heatmaps)")
        ],
        "positive relevance divided by a sum that counts negative relevance": [
            ("/ positive", "/ heatmaps")
        ],
        "the sum of the relevance on the mask, not its share": [
            (" / positive.sum(axis=(1, 2))", "")
        ],
        "the mean relevance on the mask": [("/ positive", "/ masks")],
        "each image's relevance divided by that of the whole batch": [
            ("/ positive.sum(axis=(1, 2))", "/ positive.sum()")
        ],
        "relevance on the mask divided by relevance beside it": [
            ("/ positive", "/ (positive * ~masks)")
        ],
        "magnitudes instead of the positive part": [("np.maximum(heatmaps, 0)", "abs(heatmaps)")],
        "sums that also count negative relevance": [("np.maximum(heatmaps, 0)", "heatmaps")],
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
        "a single `argsort` taken for the pixels' places": [(PLACES, "np.argsort(-flat, axis=1)")],
        "a single `argsort` in ascending order, taken for the pixels' places": [
            (PLACES, "np.argsort(flat, axis=1)")
        ],
        "an order within each row of the map": [(PLACES, "np.argsort(np.argsort(-maps))")],
        "pixels put in, not taken away": [("color, images)", "images, color)")],
        "the fall of the probability": returning(CURVE, f"(s := {CURVE})[:, :1] - s"),
        "the probability as a share of the one at the beginning": returning(
            CURVE, f"(s := {CURVE}) / s[:, :1]"
        ),
        "a softmax over the batch": [("(model, deleted))", "(model, deleted), axis=0)")],
        "the largest probability, not the target's": [
            ("deleted))[rows, targets]", "deleted)).max(1)")
        ],
        "a mean over images and rows": [("mean(axis=(1, 2), k", "mean(axis=(0, 1), k")],
        "the mean color of the pixels that are left": [
            (
                "        deleted =",
                "        rest = ~gone[..., None]\n"
                "        color = (images * rest).sum((1, 2), keepdims=True)\n"
                "        color = color / rest.sum((1, 2), keepdims=True).clip(1)\n"
                "        deleted =",
            ),
            ("color, images)", "color, images).astype(np.float32)"),
        ],
        "one order for the pixels of all images": [
            ("    flat = maps.reshape(len(images), -1)", "    flat = maps.reshape(1, -1)")
        ],
        "one color channel deleted": [
            (
                "np.where(gone[..., None], color, images)",
                "np.where(gone[..., None] & (np.arange(3) == 0), color, images)",
            )
        ],
        "the logit instead of the probability": [
            ("jax.nn.softmax(predict(model, deleted))", "predict(model, deleted)")
        ],
        "black for deleted pixels": [("color, images)", "0, images).astype(np.float32)")],
        "a mean gray for deleted pixels": [("mean(axis=(1, 2), k", "mean(axis=(1, 2, 3), k")],
        "the mean color of the whole batch": [("mean(axis=(1, 2), k", "mean(axis=(0, 1, 2), k")],
        "pixels ranked by their magnitude": [("np.asarray(heatmaps)", "abs(np.asarray(heatmaps))")],
    },
    "1.9": {
        "both ends of each piece added up, not averaged": [(" / 2", "")],
        "pieces that all have the same width": [(AREA, "ends.mean(axis=1) * np.ptp(fractions)")],
        "pieces that all have the width of the first": [
            (AREA, "ends.sum(axis=1) * (fractions[1] - fractions[0])")
        ],
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
        "the same area for all curves": [
            (
                "return ends @ np.diff(fractions)",
                "return np.full(len(scores), ends.mean(0) @ np.diff(fractions))",
            )
        ],
    },
    **FILTERS_AND_BIAS,
}
