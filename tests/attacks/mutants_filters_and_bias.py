"""The mutants of exercises 1.10 to 2.3; see `mutants`."""

from tests.attacks.changes import (
    DENSITY,
    ERROR,
    FALLS,
    PREDICTED,
    SPECTRUM,
    VERDICT,
    WEIGHTED,
    Change,
    returning,
)

# exercise -> the mistake's name -> (what stands in the solution, what stands there instead)
FILTERS_AND_BIAS: dict[str, dict[str, list[Change]]] = {
    "1.10": {
        "waves that are not of length 1": [
            ("    waves /= np.linalg.norm(waves, axis=1, keepdims=True)\n", "")
        ],
        "the constant wave scaled as the others are": [
            ("waves /= np.linalg.norm(waves, axis=1, keepdims=True)", "waves *= np.sqrt(2 / size)")
        ],
        "all waves divided by the length of the constant one": [
            ("np.linalg.norm(waves, axis=1, keepdims=True)", "np.sqrt(size)")
        ],
        "norms along the wrong axis": [("axis=1, keepdims", "axis=0, keepdims")],
        "a `reshape` of axes in the wrong order": [("->klij", "->kilj")],
        "waves that are read at the pixels' edges": [("np.arange(size) + 0.5", "np.arange(size)")],
        "whole waves instead of half ones": [("np.pi / size", "2 * np.pi / size")],
        "rows and columns exchanged in the order of the basis": [("->klij", "->lkij")],
    },
    "1.11": {
        "filters that a `reshape` has cut out of the wrong numbers": returning(
            SPECTRUM,
            'np.abs(np.einsum("nhw,khw->nk", kernels.reshape(-1, *basis[0].shape), basis)).mean(0)',
        ),
        "filters with rows and columns exchanged": [("hwio", "whio")],
        "the root of the mean square": [
            ("np.abs(np.einsum", "np.sqrt(np.square(np.einsum"),
            (".mean(axis=(0, 1))", ".mean(axis=(0, 1)))"),
        ],
        "magnitudes of the filters' values": [(", kernels, basis", ", abs(kernels), basis")],
        "squares instead of magnitudes": [
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
        "filters that a `reshape` has cut out of the wrong numbers": [
            (
                "    weights",
                "    kernels = kernels.reshape(-1, *basis[0].shape).transpose(1, 2, 0)[..., None]\n"
                "    slopes = slopes.reshape(-1, *basis[0].shape).transpose(1, 2, 0)[..., None]\n"
                "    weights",
            )
        ],
        "parts with a sign": [("np.abs(np.einsum", "(np.einsum")],
        "squares of the parts": [("np.abs(np.einsum", "np.square(np.einsum")],
        "weights that are the squares of the slopes": [("np.abs(slopes)", "np.square(slopes)")],
        "weights that are the mean of the slopes' magnitudes": [
            ("np.abs(slopes).sum", "np.abs(slopes).mean")
        ],
        "weights that add up to 1": [
            ("    parts", "    weights = weights / weights.sum()\n    parts")
        ],
        "shares, which add up to 1": returning(WEIGHTED, f"(e := {WEIGHTED}) / e.sum()"),
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
        "sums that also count negative relevance": [("np.maximum(heatmaps, 0)", "heatmaps")],
        "the share of the pixels divided by the share of the relevance": [
            (DENSITY, "masks.mean(axis=(1, 2)) / share")
        ],
        "the mean relevance on the mask": [
            (DENSITY, "(positive * masks).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))")
        ],
        "the mean size of all masks": [("masks.mean(axis=(1, 2))", "masks.mean()")],
        "the share of the relevance, not divided by the share of the pixels": [(DENSITY, "share")],
        "magnitudes instead of the positive part": [("np.maximum(heatmaps, 0)", "abs(heatmaps)")],
        "the share of the relevance divided by the number of pixels on the mask": [
            ("share / masks.mean(axis=(1, 2))", "share / masks.sum(axis=(1, 2))")
        ],
        "relevance on the mask divided by relevance beside it": [
            ("share / masks.mean(axis=(1, 2))", "share / (1 - share)")
        ],
        "the same density for all images": [
            (
                "return share / masks.mean(axis=(1, 2))",
                "return 0 * share + (positive * masks).sum() / positive.sum() / masks.mean()",
            )
        ],
    },
    "2.2": {
        "a change of the logit": [("jax.nn.softmax(predict(model, x))", "predict(model, x)")],
        "the probability on the changed image, from which nothing is subtracted": [
            ("after - before", "after")
        ],
        "a relative change": [("after - before", "(after - before) / before")],
        "a change of the logarithm of the probability": [("nn.softmax", "nn.log_softmax")],
        "a sigmoid instead of the softmax": [("nn.softmax", "nn.sigmoid")],
        "whether the answer is right, not its probability": [
            ("jax.nn.softmax(predict(model, x))", "jax.nn.one_hot(predict(model, x).argmax(1), 9)")
        ],
        "the probability before minus that after": [("after - before", "before - after")],
        "the most probable class instead of the target": PREDICTED,
        "the size of the change, without its sign": [("after - before", "abs(after - before)")],
        "a softmax over the batch": [
            ("jax.nn.softmax(predict(model, x))", "jax.nn.softmax(predict(model, x), axis=0)")
        ],
    },
    "2.3": {
        "a standard deviation with ddof=0": [("ddof=1", "ddof=0")],
        "rises that are counted as falls, as `^` and `abs` do": [(FALLS, "aligned ^ swapped")],
        "rises that are counted as 0": [(FALLS, "aligned & ~swapped")],
        "the lower ends of the intervals, not verdicts": [(" > margin", "")],
        "a verdict without the margin": [("> margin", "> 0")],
        "a mean above the margin, and an interval above 0": returning(
            VERDICT, "(falls.mean(axis=1) - 1.96 * error > 0) & (falls.mean(axis=1) > margin)"
        ),
        "an interval that is divided by n, not by its square root": [
            ("np.sqrt(falls.shape[1])", "falls.shape[1]")
        ],
        "an interval for the number of networks, not of images": [("falls.shape[1]", "len(falls)")],
        "a one-sided interval, with 1.645": [("1.96", "1.645")],
        "a variance instead of the standard deviation": [("falls.std", "falls.var")],
        "one standard deviation for all networks": [("axis=1, ddof", "ddof")],
        "an interval for two unrelated samples": [
            (
                ERROR,
                "np.sqrt(\n        (aligned.var(axis=1, ddof=1) + swapped.var(axis=1, ddof=1))"
                " / falls.shape[1]\n    )",
            )
        ],
        "a verdict by the mean fall, without its interval": [("- 1.96 * error ", "")],
        "a verdict by the interval's upper end": [("- 1.96", "+ 1.96")],
        "a verdict against networks that are wrong on swapped images": [
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
        "falls with the opposite sign": [
            ("aligned.astype(float) - swapped", "swapped.astype(float) - aligned")
        ],
    },
}
