import html
import inspect
import io
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import jaxtyping
import matplotlib.pyplot as plt
import nbconvert
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from practical import metrics
from practical.attribution import METHODS
from practical.metrics import PROTOCOLS
from practical.widgets import explanation_figure, explore
from practical.widgets import panel as panels
from practical.widgets.controls import CHOICES, controls
from tests.oracles import refuses

NAMES = ("a", "b <&>", "c")
SIDE = 24
IMAGES = np.random.default_rng(7).random((3, SIDE, SIDE, 3), np.float32)
IMAGES[:, :, SIDE // 2 :] *= 0.1  # two regions at least, for superpixels
FEW = {"samples": 12, "steps": 3, "count": 8, "window": 12, "stride": 12}


@pytest.fixture(scope="module")
def panel(small):
    """A panel that opens with a method that costs nothing; the tests drive it one by one."""
    return explore(small, IMAGES, NAMES, method="center", static=False)


@pytest.fixture(scope="module")
def classifiers(resnet):
    """The same for a model that suits every method."""
    return explore(resnet, IMAGES, NAMES, method="center", static=False)


def choose(panel, method: str, **options) -> None:
    panel.method.value = method
    for name, value in {**FEW, **options}.items():
        if name in panel.controls:
            panel.controls[name].value = value


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def message(panel) -> str:
    return html.unescape(re.sub("<.*?>", "", panel.message.value))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_explained(request, monkeypatch, name):
    cheap = name != "layerwise_relevance"
    panel = request.getfixturevalue("panel" if cheap else "classifiers")
    model = request.getfixturevalue("small" if cheap else "resnet")
    assert set(METHODS) - set(panel.method.options) == ({"layerwise_relevance"} if cheap else set())
    panel.image.value, panel.target.value = 1, 2
    choose(panel, name)
    pictures = []  # looked at, and not made into files, which takes longer than the rest
    monkeypatch.setattr(panels, "png", lambda figure: pictures.append(figure) or b"file")
    panel.button.click()
    assert message(panel).startswith("Took "), message(panel)
    expected = METHODS[name].heatmap(model, IMAGES[1:2], [2], **panel.options())[0]
    np.testing.assert_allclose(panel.explanation.heatmap, expected, rtol=1e-4, atol=1e-6)
    (figure,) = pictures
    assert figure.get_suptitle().startswith(f"{name} for c: ")
    assert len(figure.axes[1].images) == 2
    assert panel.picture.value == b"file"
    assert panel.picture.layout.display is None
    assert plt.get_fignums() == []  # nothing for a notebook to show once more


def test_the_curves_are_those_of_the_metrics(panel, small):
    panel.image.value, panel.target.value = 2, 0
    choose(panel, "gradient")
    panel.button.click()
    found, given = panel.explanation, (small, IMAGES[2:3], [0])
    control = METHODS["random"](*given)
    figure = explanation_figure(small, IMAGES[2], 0, "gradient", class_names=NAMES)
    for place, measure in enumerate((metrics.deletion, metrics.insertion)):
        curve = getattr(found, measure.__name__)
        ax = figure.axes[2 + place]
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        for row, heatmap in enumerate((found.heatmap[None], control)):
            expected = measure(*given, heatmap)
            np.testing.assert_allclose(curve.scores[row], expected.scores[0], rtol=1e-5)
            np.testing.assert_array_equal(curve.fractions, expected.fractions)
            # what is drawn
            (x, y) = ax.lines[row].get_data()
            np.testing.assert_allclose(x, 100 * expected.fractions)
            np.testing.assert_allclose(y, expected.scores[0], rtol=1e-5)
            assert labels[row].endswith(f" ({expected.auc[0]:.3f})")
        assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
        assert [label.split(" (")[0] for label in labels] == ["gradient", "random, a control"]


def test_the_picture_says_what_to_see(small):
    figure = explanation_figure(
        small, IMAGES[0], np.int64(1), "gradient", class_names=NAMES, protocol="xplique"
    )
    image, heat, deleted, inserted, scale = figure.axes
    logits = np.asarray(small(IMAGES[:1]))[0]
    chances = np.asarray(jax.nn.softmax(logits))
    best = chances.argmax()
    assert image.get_title().startswith(f"The model says\n{NAMES[best]}: {chances[best]:.1%}")
    assert f"{NAMES[1]}: {chances[1]:.1%}" in image.get_title()
    np.testing.assert_array_equal(image.images[0].get_array(), IMAGES[0])
    assert (
        heat.get_title() == "Where is the evidence for b <&>?\nred speaks for it, blue against it"
    )
    assert scale.get_ylabel() == METHODS["gradient"].unit
    assert scale.get_ylim()[0] == -scale.get_ylim()[1]
    for ax in (deleted, inserted):
        assert ax.get_ylabel() == "logit of b <&>"  # the protocol's
        assert len(ax.lines[0].get_xdata()) == 11
    assert (deleted.get_title(), deleted.get_xlabel()) == (
        "Deletion: low is right", "pixels replaced, most relevant first (%)"
    )  # fmt: skip
    assert (inserted.get_title(), inserted.get_xlabel()) == (
        "Insertion: high is right", "pixels shown, most relevant first (%)"
    )  # fmt: skip
    assert "gradient for b <&>" in figure.get_suptitle()


def test_a_map_without_a_sign_or_a_unit(small):
    figure = explanation_figure(small, IMAGES[0], 1, "center")
    _, heat, deleted, _, scale = figure.axes
    assert (
        heat.get_title() == "Where is the evidence for class 1?\nthe brighter, the more it counts"
    )
    assert (scale.get_ylabel(), scale.get_ylim()[0]) == ("no unit", 0)
    assert deleted.get_ylim() == (0, 1.05)


def test_any_number_of_channels_and_a_function_of_ones_own():
    def model(images):
        return jnp.stack([images.mean((1, 2, 3)), -images.mean((1, 2, 3))], 1)

    def darkness(model, images, targets, *, scale=1.0):
        return scale * (1 - jnp.asarray(images))

    image = IMAGES[0, :6, :5, :2]
    figure = explanation_figure(
        model, image, 0, darkness, options={"scale": 2.0},
        protocol=metrics.Protocol(steps=5), class_names=("light", "dark"),
    )  # fmt: skip
    shown, heat = (ax.images for ax in figure.axes[:2])
    assert shown[0].get_array().shape == (6, 5, 3)
    np.testing.assert_allclose(shown[0].get_array()[..., 0], image.mean(-1), rtol=1e-6)
    assert heat[1].get_array().shape == (6, 5, 4)
    assert "darkness for light" in figure.get_suptitle()
    panel = explore(model, image[None], ("light", "dark"), method="edges", static=False,
                    protocol=metrics.Protocol(steps=5))  # fmt: skip
    assert pixels(panel.thumbnail.value).shape == (6, 5, 3)
    assert "layerwise_relevance" not in panel.method.options  # which needs a Classifier
    assert "grad_cam" not in panel.method.options
    assert "gradient" in panel.method.options


# --- controls ------------------------------------------------------------------------------------


def test_an_option_without_a_control_is_left_on_purpose():
    left = {}
    for name, method in METHODS.items():
        options = [
            p.name
            for p in inspect.signature(method).parameters.values()
            if p.kind is p.KEYWORD_ONLY and p.name != "chunk_size"
        ]
        left[name] = set(options) - set(controls(method, SIDE))
    assert {name: options for name, options in left.items() if options} == {
        "expected_gradients": {"references"},
        "smooth_grad": {"method"}, "squaregrad": {"method"}, "vargrad": {"method"},
        "lime": {"segments"}, "kernel_shap": {"segments"},
        "grad_cam": {"upsample"}, "grad_cam_plus_plus": {"upsample"},
    }  # fmt: skip


def test_the_controls_follow_the_method(panel):
    choose(panel, "occlusion", window=8, stride=4, baseline="white")
    assert list(panel.controls) == ["window", "stride", "baseline"]
    assert panel._options.children == tuple(panel.controls.values())
    assert panel.options() == {"window": 8, "stride": 4, "baseline": "white"}
    assert panel.about.value.startswith("Zeiler &amp; Fergus 2014; needs any function")
    kinds = {name: type(widget).__name__ for name, widget in panel.controls.items()}
    assert kinds == {"window": "IntSlider", "stride": "IntSlider", "baseline": "Dropdown"}
    assert panel.controls["window"].max == SIDE
    panel.method.value = "kernel_shap"
    assert list(panel.controls) == ["count", "samples", "baseline", "output", "key"]
    panel.method.value = "grad_cam"
    assert panel.options() == {"relu": True}
    panel.method.value = "center"
    assert panel.options() == {}
    assert panel._options.children == ()
    panel.method.value = "occlusion"
    assert panel.options() == {"window": 8, "stride": 4, "baseline": "white"}  # as they were left


def test_a_control_for_each_kind_of_option():
    relevance = controls(METHODS["layerwise_relevance"], SIDE)
    assert {name: kind for name, (kind, _) in relevance.items()} == {
        "rule": "Dropdown", "gamma": "FloatSlider", "epsilon": "FloatLogSlider", "bias": "Dropdown"
    }  # fmt: skip
    assert controls(METHODS["grad_cam"], SIDE) == {"relu": ("Checkbox", {"value": True})}


def test_the_first_values_are_the_defaults_where_these_fit_the_image():
    for side in (8, 224):
        for method in METHODS.values():
            defaults = {p.name: p.default for p in inspect.signature(method).parameters.values()}
            for name, (_, given) in controls(method, side).items():
                if name == "key":
                    continue
                default = defaults[name]
                fits = name not in ("window", "stride", "cells") or default <= side
                assert given["value"] == (default if fits else side)
    assert controls(METHODS["occlusion"], 8)["window"].arguments["max"] == 8


def test_the_seed_is_the_key(panel):
    panel.image.value = 0
    choose(panel, "random", key=0)
    assert panel.controls["key"].description == "seed"
    panel.button.click()
    height, width, _ = pixels(panel.picture.value).shape
    assert (width, height) == (1200, 390)
    first = panel.explanation
    # The control is noise of seed 0 as well.
    np.testing.assert_array_equal(first.deletion.scores[0], first.deletion.scores[1])
    choose(panel, "random", key=3)
    panel.button.click()
    assert np.abs(panel.explanation.heatmap - first.heatmap).max() > 0.1
    np.testing.assert_array_equal(panel.explanation.deletion.scores[1], first.deletion.scores[1])


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_those_that_the_methods_take(name, resnet):
    method = next(m for m in METHODS.values() if name in inspect.signature(m).parameters)
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=f"{name} must be one of ") as caught:
            method(resnet, IMAGES[:1], [0], **{name: "?"})
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    listed = re.search(r"one of (.*?),(?: a number or an array,)? got", str(caught.value))
    assert listed
    assert set(listed[1].split(", ")) == set(CHOICES[name])


def test_the_costs_are_said_before(panel):
    choose(panel, "occlusion", window=12, stride=6)
    text = panel.cost.value
    assert text.startswith(
        "Model calls: 10 forward for the map, 116 forward for the curves of map and control."
    )
    choose(panel, "vargrad", samples=9)
    assert panel.cost.value.startswith("Model calls: 10 gradient for the map")
    choose(panel, "vargrad", samples=5)
    assert panel.cost.value.startswith("Model calls: 6 gradient for the map")
    choose(panel, "center")
    assert panel.cost.value.startswith("Model calls: none for the map")
    assert 4 * len(PROTOCOLS["practical"].cutoffs(SIDE, SIDE, 3)) == 116


def test_an_image_brings_its_classes_and_the_likeliest_is_chosen(panel, small):
    chances = np.asarray(jax.nn.softmax(small(jnp.asarray(IMAGES))))
    for row in (1, 2, 0):
        panel.image.value = row
        order = np.argsort(-chances[row])
        assert panel.target.value == order[0]
        assert panel.target.options == tuple(
            (f"{NAMES[k]}, {chances[row, k]:.1%}", k) for k in order
        )
        np.testing.assert_allclose(
            pixels(panel.thumbnail.value) / 255, IMAGES[row], atol=0.5 / 255 + 1e-6
        )
    assert [label.split(":")[0] for label, _ in panel.image.options] == ["0", "1", "2"]


# --- computing -----------------------------------------------------------------------------------


def test_it_computes_when_the_button_is_pressed_and_shows_that_it_is_busy(panel, monkeypatch):
    choose(panel, "center")
    panel.button.click()
    assert panel.button.button_style == ""
    seen = []
    inner = panels.explain

    def explain(*arguments):
        seen.append((panel.button.disabled, panel.button.description, panel.explanation))
        return inner(*arguments)

    monkeypatch.setattr(panels, "explain", explain)
    before = panel.picture.value
    choose(panel, "edges")
    panel.image.value = 1
    assert seen == []
    assert panel.picture.value == before
    assert panel.button.button_style == "primary"  # the picture is not of these choices
    panel.button.click()
    assert seen == [(True, "Explaining …", None)]
    assert (panel.button.disabled, panel.button.description) == (False, "Explain")
    assert panel.button.button_style == ""
    assert panel.picture.value != before


def test_a_mistake_is_said_in_the_panel(panel):
    choose(panel, "center")
    panel.button.click()
    assert panel.explanation is not None
    choose(panel, "occlusion", window=4, stride=9)
    panel.button.click()
    assert message(panel).startswith("stride must be at most window (4)")
    assert panel.explanation is None
    assert (panel.picture.value, panel.picture.layout.display) == (b"", "none")
    assert "image/png" not in panel._repr_mimebundle_()
    assert not panel.button.disabled
    assert panel.button.button_style == "primary"
    choose(panel, "center")
    panel.button.click()
    assert message(panel).startswith("Took ")
    assert panel.picture.value


def test_a_failure_is_said_and_raised(panel, monkeypatch):
    def explain(*_):
        raise RuntimeError("no <memory>")

    monkeypatch.setattr(panels, "explain", explain)
    with pytest.raises(RuntimeError, match="no <memory>"):
        panel._compute()
    assert "RuntimeError: no &lt;memory&gt;" in panel.message.value
    assert not panel.button.disabled


# --- where no widget can run ---------------------------------------------------------------------


class Kernel:
    """What IPython returns in a notebook: it has a kernel."""

    kernel = None


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=Kernel, version_info=(9,))
    )
    monkeypatch.delenv("PRACTICAL_STATIC", raising=False)


def test_plain_python_gets_the_figure(small, monkeypatch):
    monkeypatch.delenv("PRACTICAL_STATIC", raising=False)
    figure = explore(small, IMAGES, NAMES, method="occlusion", chunk_size=16)
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == [figure.number]  # for plt.show()
    best = int(np.asarray(small(IMAGES[:1])).argmax())
    assert figure.get_suptitle().startswith(f"occlusion for {NAMES[best]}: ")
    assert len(figure.axes) == 5


@pytest.mark.parametrize("value", ["1", "yes"])
def test_an_executed_notebook_gets_the_figure_once(small, monkeypatch, notebook, value):
    monkeypatch.setenv("PRACTICAL_STATIC", value)
    figure = explore(small, IMAGES, NAMES, method="center")
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == []  # the cell's value is shown, and nothing besides


@pytest.mark.parametrize("value", [None, "", "0"])
def test_a_notebook_gets_the_panel(small, monkeypatch, notebook, value):
    if value is not None:
        monkeypatch.setenv("PRACTICAL_STATIC", value)
    panel = explore(small, IMAGES, NAMES, method="center")
    assert isinstance(panel, panels.Panel)
    assert repr(panel) == "Panel(center, image 0)"


def test_a_page_shows_the_picture_of_a_panel(panel):
    choose(panel, "center")
    panel.button.click()
    bundle = panel._repr_mimebundle_(include=None, exclude=None)
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == panel.box.model_id
    cell = nbformat.v4.new_code_cell(
        "explore()", outputs=[nbformat.v4.new_output("display_data", data=bundle)]
    )
    page, _ = nbconvert.HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert f"data:image/png;base64,{bundle['image/png']}" in page
    assert view["model_id"] not in page


def test_importing_brings_neither_widgets_nor_pictures():
    code = """
import sys, practical.widgets
for late in ("ipywidgets", "matplotlib", "IPython"):
    assert late not in sys.modules, late
"""
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


# --- bad input -----------------------------------------------------------------------------------


def test_bad_input(small):
    with refuses(r"image must have shape \(height, width, channels\), got \(3, 24, 24, 3\)"):
        explanation_figure(small, IMAGES, 0, "center")
    with refuses(r"image\[None\] must be in \[0, 1\]"):
        explanation_figure(small, 255 * IMAGES[0], 0, "center")
    with refuses("targets must be classes from 0 to 2, got 3"):
        explanation_figure(small, IMAGES[0], 3, "center")
    with refuses("method must be one of .*, got 'centre'; did you mean 'center'?"):
        explanation_figure(small, IMAGES[0], 0, "centre")
    with refuses("options must be those of occlusion, window, .*; got 'steps'"):
        explanation_figure(small, IMAGES[0], 0, "occlusion", options={"steps": 3})
    with refuses("options must be those of center, which has none; got 'steps'"):
        explanation_figure(small, IMAGES[0], 0, "center", options={"steps": 3})
    with refuses(
        r"method must return one value for each pixel, shape \(1, 24, 24\), got \(1, 12, 24\) from"
    ):
        explanation_figure(small, IMAGES[0], 0, lambda model, images, targets: images[:, ::2])
    with refuses("protocol must be one of"):
        explanation_figure(small, IMAGES[0], 0, "center", protocol="?")
    for names in (("a", "b"), ()):
        with refuses(f"class_names must have one name for each of the 3 classes, got {len(names)}"):
            explore(small, IMAGES, names)
    with refuses("images must be floating-point"):
        explore(small, np.uint8(255 * IMAGES), NAMES)
    with refuses(
        "method must suit the model, and layerwise_relevance needs the layers of a ResNet"
    ):
        explore(small, IMAGES, NAMES, method="layerwise_relevance")
    with refuses("method must be one of .*, got 'centre'"):
        explore(small, IMAGES, NAMES, method="centre")
    with refuses("chunk_size must be an integer of at least 1, got 0"):
        explore(small, IMAGES, NAMES, chunk_size=0)
    with refuses("steps must be at most the 576 pixels of an image, got 600"):
        explore(small, IMAGES, NAMES, protocol=metrics.Protocol(steps=600))
    assert plt.get_fignums() == []
