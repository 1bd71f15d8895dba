"""The line under an exercise: what it says, and what the notebook goes on with."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import practical
from practical import attribution, predict
from practical.grading import check
from practical.grading.exercise import Exercise, Property
from practical.grading.exercises import EXERCISES
from practical.grading.verdicts import Stopped, judge
from tests.oracles import refuses


def mass(change=lambda positive, share: share):
    """Return an answer to 1.7, with a change at the end."""

    def mass_on_mask(heatmaps, masks):
        positive = np.maximum(heatmaps, 0)
        return change(positive, (positive * masks).sum((1, 2)) / positive.sum((1, 2)))

    return mass_on_mask


def said(capsys, exercise, answer):
    returned = check(exercise, answer)
    return returned, capsys.readouterr().out.strip()


def test_a_right_answer_is_used(capsys):
    right = mass()
    returned, words = said(capsys, "1.7", right)
    assert returned is right
    assert words == "✔ 1.7 mass_on_mask: Public checks passed."
    assert practical.check is check


def test_a_blank_one_is_replaced_and_says_so(capsys):
    def saliency(model, images, targets):
        raise NotImplementedError

    returned, words = said(capsys, "1.2", saliency)
    assert returned is attribution.saliency
    assert words == (
        "… 1.2 saliency: You have not written it yet. For now, the cells below use the package's "
        "saliency."
    )
    again = said(capsys, "1.2", returned)
    assert again == (
        attribution.saliency,
        "… 1.2 saliency: This is the package's function: run the cell with your own function "
        "first. For now, the cells below use the package's saliency.",
    )


def test_what_jax_cannot_do_is_an_error_and_no_blank(capsys):
    def saliency(model, images, targets):
        return jax.grad(lambda x: jnp.nextafter(x, 2.0).sum())(images).max(-1)

    def unfinished(model, images, targets):
        raise NotImplementedError("the channels")

    for answer, rule in ((saliency, "Differentiation rule for"), (unfinished, "the channels")):
        words = said(capsys, "1.2", answer)[1]
        assert words.startswith(f"✘ 1.2 saliency: It raised NotImplementedError: {rule}")


def test_one_that_raises_is_replaced_and_its_error_shown(capsys):
    returned, words = said(capsys, "1.7", mass(lambda positive, share: share[99]))
    assert returned is EXERCISES["1.7"].reference
    assert "It raised IndexError: index 99 is out of bounds" in words
    returned, words = said(capsys, "1.7", lambda heatmaps: 0)
    assert "it has to take the arguments heatmaps, masks, in this order." in words
    assert returned is EXERCISES["1.7"].reference


def test_a_wrong_one_is_used_so_that_the_figure_shows_it(capsys):
    wrong = mass(lambda positive, share: -share)
    returned, words = said(capsys, "1.7", wrong)
    assert returned is wrong
    assert words.startswith("✘ 1.7 mass_on_mask: The sign is turned around. For each image: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, s: 3 * s, "constant times the right one: 3 times it"),
        (
            lambda p, s: s[:, None],
            r"The shape of what it returns is \(3, 1\), and should be \(3,\)",
        ),
        (lambda p, s: s * np.nan, "3 of the 3 numbers that it returns are not finite"),
        (lambda p, s: None, r"not None \(is there a `return`\?\)"),
        (lambda p, s: (s, s), r"shape of what it returns is \(2, 3\)"),
        (lambda p, s: "all", "It has to return numbers of shape .* not a str"),
        (lambda p, s: 0.5 + 0 * s, "mass_on_mask: For each image: the sum of the positive values"),
        (lambda p, s: s + 0.1 * (p.shape[1] == 6), "mass_on_mask: For each image: the sum of"),
        (lambda p, s: s * (1 + (p.shape[1] == 6)), "mass_on_mask: For each image: the sum of"),
    ],
)
def test_what_is_wrong_is_said(capsys, change, words):
    assert re.search(words, said(capsys, "1.7", mass(change))[1])


def test_an_answer_may_be_a_list_or_an_array_of_another_library(capsys):
    for change in (lambda p, s: jnp.asarray(s), lambda p, s: s.astype("f2")):
        answer = mass(change)
        assert said(capsys, "1.7", answer) == (answer, "✔ 1.7 mass_on_mask: Public checks passed.")


@pytest.mark.parametrize("form", [list, tuple])
@pytest.mark.parametrize("scale", [1, 2])  # of a right and of a wrong answer
def test_cells_below_get_a_list_as_an_array(capsys, form, scale):
    answer = mass(lambda positive, share: form(scale * share))
    returned, words = said(capsys, "1.7", answer)
    assert ("It returns a list; the cells below get it as an array." in words) == (scale == 1)
    given = {"heatmaps": np.ones((2, 2, 2)), "masks": np.eye(2, dtype=bool)[None].repeat(2, 0)}
    result = returned(**given)
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result, np.asarray(answer(**given)))
    assert said(capsys, "1.7", returned)[0] is returned


def test_rows_and_columns(capsys):
    def swapped(size):
        return np.swapaxes(EXERCISES["1.10"].reference(size), 1, 2)

    assert "rows and columns exchanged" in said(capsys, "1.10", swapped)[1]


# --- answers that were taken for right, and fail in the notebook --------------------------------


def deletion(count=lambda step, steps, pixels: round(step * pixels / steps), by_value=False):
    """Return an answer to 1.8 that counts the pixels otherwise, or goes by their values."""

    def deletion_curve(model, images, targets, heatmaps, steps):
        flat = -np.reshape(heatmaps, (len(images), -1))
        place = flat.argsort(axis=1).argsort(axis=1)
        color, scores = images.mean((1, 2), keepdims=True), []
        for step in range(steps + 1):
            most = count(step, steps, flat.shape[1])
            gone = place < most
            if by_value and most:
                gone = flat <= np.sort(flat, axis=1)[:, most - 1 : most]
            mask = gone.reshape(np.shape(heatmaps))[..., None]
            logits = predict(model, np.where(mask, color, images))
            scores.append(jax.nn.softmax(logits)[np.arange(len(images)), targets])
        return np.stack(scores, 1)

    return deletion_curve


@pytest.mark.parametrize(
    "count",
    [
        lambda step, steps, pixels: round(step * pixels / steps),
        lambda step, steps, pixels: step * pixels // steps,
        lambda step, steps, pixels: int(np.ceil(step * pixels / steps)),
    ],
    ids=["rounded", "down", "up"],
)
def test_a_curve_that_ends_without_a_picture_is_right(capsys, count):
    assert said(capsys, "1.8", deletion(count))[1].endswith(" Public checks passed.")


def test_a_curve_that_leaves_pixels_is_wrong(capsys):
    left = deletion(lambda step, steps, pixels: step * (pixels // steps))
    assert "Not a curve that ends without a picture" in said(capsys, "1.8", left)[1]


def test_pixels_of_equal_values_do_not_go_all_at_once(capsys):
    words = said(capsys, "1.8", deletion(by_value=True))[1]
    assert "Not a curve of k / steps of the pixels where values are equal" in words


def test_a_baseline_may_be_one_for_all_images_or_one_for_each(capsys):
    def completeness_gap(model, images, targets, baseline, attributions):
        rows = np.arange(len(images))
        start = predict(model, baseline[None])[0, targets]
        return attributions.sum((1, 2, 3)) - (predict(model, images)[rows, targets] - start)

    assert "✘ 1.5 completeness_gap: It raised " in said(capsys, "1.5", completeness_gap)[1]

    def integrated_gradients(model, images, targets, baseline, steps):
        baselines = baseline[None] if baseline.ndim == 3 else baseline
        given = zip(images, baselines, targets, strict=False)  # ends with the shorter one
        maps = [
            EXERCISES["1.4"].reference(model, image[None], target[None], one, steps)[0]
            for image, one, target in given
        ]
        return np.stack(maps)

    words = said(capsys, "1.4", integrated_gradients)[1]
    assert "The shape of what it returns is (1, 7, 7, 3), and should be (2, 7, 7, 3)" in words


def test_an_area_is_no_mean_height(capsys):
    def area(fractions, scores):
        return np.trapezoid(scores, fractions, axis=1) / (fractions[-1] - fractions[0])

    assert "This looks like a mean height" in said(capsys, "1.9", area)[1]


def test_an_attribute_is_not_the_notebooks_variable(capsys, monkeypatch):
    monkeypatch.setitem(globals(), "features", np.zeros(3))

    def grad_cam(model, images, targets):
        return np.asarray(model.features(images)).sum(-1)

    words = said(capsys, "1.6", grad_cam)[1]
    assert words.startswith("✘ 1.6")
    assert "It reads" not in words


images = np.zeros((2, 4, 4, 3), np.float32)


def test_a_wrong_answer_that_reads_the_notebooks_arrays_is_told_which(capsys):
    def saliency(model, given, targets):
        def inner(x):
            return model(x)[np.arange(len(images)), targets[:2]].sum()

        return jnp.abs(jax.grad(inner)(images)).max(-1)

    assert (
        "It reads `images` of the notebook: use the function's arguments instead."
        in said(capsys, "1.2", saliency)[1]
    )


def _helper(model, images, targets):
    return attribution.gradient(model, images, targets)


def _by_import(model, images, targets):
    from practical import attribution as package

    return package.saliency(model, images, targets)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (partial(attribution.saliency), "saliency"),
        (
            lambda model, images, targets: attribution.saliency(model, images, targets),
            "attribution",
        ),
        (lambda model, i, t: practical.attribution.saliency(model, i, t), "attribution"),
        (jax.jit(lambda m, images, t: jnp.abs(_helper(m, images, t)).max(-1)), "attribution"),
        (_by_import, "attribution"),
    ],
)
def test_the_packages_answer_is_refused_before_the_grader_refuses_it(capsys, answer, name):
    returned, words = said(capsys, "1.2", answer)
    assert returned is answer
    assert words == (
        f"✘ 1.2 saliency: The numbers are right, but it uses the package's `{name}`, which is not "
        "available to the grader: write the function without it. The cells below will use your "
        "function."
    )


def test_predict_and_ones_own_functions_are_ones_own(capsys):
    def fall(model, images, changed, targets):
        rows = np.arange(len(targets))
        before, after = (jax.nn.softmax(predict(model, x)) for x in (images, changed))
        return (after - before)[rows, targets]

    assert "✔ 2.2" in said(capsys, "2.2", lambda *given: fall(*given))[1]


def _assign(heatmaps):
    heatmaps[heatmaps < 0] = 0


def _multiply(heatmaps):
    heatmaps *= heatmaps > 0


@pytest.mark.parametrize(
    "write",
    [
        _assign,
        _multiply,
        lambda heatmaps: np.clip(heatmaps, 0, None, out=heatmaps),
        lambda heatmaps: np.asarray(heatmaps).sort(),
    ],
)
def test_an_answer_that_writes_into_its_arguments_is_refused(capsys, write):
    def mass_on_mask(heatmaps, masks):
        write(heatmaps)
        return (heatmaps * masks).sum((1, 2)) / heatmaps.sum((1, 2))

    returned, words = said(capsys, "1.7", mass_on_mask)
    assert returned is EXERCISES["1.7"].reference
    assert "which the cells below use again: work on a copy, made by `np.array(...)`." in words


def test_nbgrader_is_told_by_an_error(monkeypatch, capsys):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert check("1.7", answer := mass()) is answer
    with pytest.raises(AssertionError, match=r"1\.7 mass_on_mask: The sign is turned around"):
        check("1.7", mass(lambda positive, share: -share))


def test_bad_input():
    with refuses("exercise must be one of 1.1, .*, got '9.9'"):
        check("9.9", len)
    with pytest.raises(TypeError, match=r"answer must be the function saliency .* check\('1.2', s"):
        check("1.2", np.zeros(3))  # pyright: ignore[reportArgumentType]


def test_hidden_properties_are_the_graders_alone():
    halves = Exercise(
        "9.1", "half", "", 1, 1, 1, lambda rng: [{"x": rng.random()}], lambda x: x / 2, "Divide.",
        hidden=(Property("right at 0", "Half of 0 is 0.", lambda call, rng: call({"x": 0}) == 0),),
    )  # fmt: skip

    def call(given):
        return given["x"] / 2 + (given["x"] == 0)

    rng = np.random.default_rng
    assert judge(halves, call, rng(0)).status == "passed"
    found = judge(halves, call, rng(0), hidden=True)
    assert found == ("wrong", "Not right at 0: Half of 0 is 0.", "")

    def stops(given):
        raise Stopped("timed out", "It took too long.")

    assert judge(halves, stops, rng(0)) == ("timed out", "It took too long.", "")
