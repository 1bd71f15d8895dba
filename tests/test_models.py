import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from practical import attribution
from practical.data import Dataset, load_dataset
from practical.models import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Classifier,
    from_torchvision,
    load_model,
    new_resnet,
    predict,
)
from practical.training import accuracy, accuracy_per_class, shuffle_labels
from tests.oracles import refuses

NORMS = ("weight", "bias", "running_mean", "running_var")


def torch_state(
    *, block="basic", stages=(1, 1), widths=(4, 6), expansion=1, groups=1, stem=(4, 3), classes=3
) -> dict[str, np.ndarray]:
    """Return random tensors with the names and shapes of a torchvision ResNet.

    Written down from torchvision's resnet.py, not from our code.
    """
    rng = np.random.default_rng(0)
    state = {}

    def conv(name, outputs, inputs, size):
        shape = (outputs, inputs, size, size)
        state[f"{name}.weight"] = rng.normal(0, (inputs * size**2) ** -0.5, shape)

    def norm(name, channels):
        for suffix in NORMS:
            state[f"{name}.{suffix}"] = rng.uniform(0.5, 1.5, channels)
        state[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", stem[0], 3, stem[1])
    norm("bn1", stem[0])
    inputs = stem[0]
    for stage, (blocks, width) in enumerate(zip(stages, widths, strict=True), start=1):
        outputs = width * expansion
        for index in range(blocks):
            name = f"layer{stage}.{index}"
            if block == "basic":
                sizes = [(width, inputs, 3), (width, width, 3)]
            else:
                sizes = [(width, inputs, 1), (width, width // groups, 3), (outputs, width, 1)]
            for number, size in enumerate(sizes, start=1):
                conv(f"{name}.conv{number}", *size)
                norm(f"{name}.bn{number}", size[0])
            if (stage > 1 and index == 0) or inputs != outputs:
                conv(f"{name}.downsample.0", outputs, inputs, 1)
                norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    state["fc.weight"] = rng.normal(size=(classes, inputs))
    state["fc.bias"] = rng.normal(size=classes)
    return {name: np.asarray(array, np.float32) for name, array in state.items()}


def numpy_resnet(
    state, images, *, groups=1, stem_stride=2, pool=True, replace_stride_with_dilation=(),
    stride_in_1x1=False,
):  # fmt: skip
    """Run the network in plain NumPy float64, NCHW, as torchvision's resnet.py does."""

    def conv(x, name, stride, padding, groups=1, dilation=1):
        weight = state[f"{name}.weight"].astype(np.float64)
        if dilation > 1:  # a kernel with zeros between its values
            sparse = np.zeros((*weight.shape[:2], 2 * dilation + 1, 2 * dilation + 1))
            sparse[:, :, ::dilation, ::dilation] = weight
            weight = sparse
        size = weight.shape[2]
        x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        patches = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
        patches = patches[:, :, ::stride, ::stride]
        outputs, inputs = weight.shape[0] // groups, weight.shape[1]
        return np.concatenate(
            [
                np.einsum(
                    "ncyxhw,ochw->noyx",
                    patches[:, g * inputs : (g + 1) * inputs],
                    weight[g * outputs : (g + 1) * outputs],
                )
                for g in range(groups)
            ],
            axis=1,
        )

    def norm(x, name):
        weight, bias, mean, variance = (
            state[f"{name}.{suffix}"][:, None, None].astype(np.float64) for suffix in NORMS
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    def relu(x):
        return np.maximum(x, 0)

    stem_padding = state["conv1.weight"].shape[2] // 2
    x = relu(norm(conv(images.transpose(0, 3, 1, 2), "conv1", stem_stride, stem_padding), "bn1"))
    if pool:
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
        x = windows[:, :, ::2, ::2].max((4, 5))
    stage, dilation = 1, 1
    while f"layer{stage}.0.conv1.weight" in state:
        index = 0
        dilated = stage > 1 and any(replace_stride_with_dilation[stage - 2 : stage - 1])
        before, dilation = dilation, 2 * dilation if dilated else dilation
        while f"layer{stage}.{index}.conv1.weight" in state:
            name = f"layer{stage}.{index}"
            stride = 2 if stage > 1 and index == 0 and not dilated else 1
            if f"{name}.conv3.weight" in state:
                # torchvision's _make_layer: `previous_dilation` in a stage's first block.
                step = before if index == 0 else dilation
                first, second = (stride, 1) if stride_in_1x1 else (1, stride)
                y = relu(norm(conv(x, f"{name}.conv1", first, 0), f"{name}.bn1"))
                y = conv(y, f"{name}.conv2", second, step, groups, step)
                y = relu(norm(y, f"{name}.bn2"))
                y = norm(conv(y, f"{name}.conv3", 1, 0), f"{name}.bn3")
            else:
                y = relu(norm(conv(x, f"{name}.conv1", stride, 1), f"{name}.bn1"))
                y = norm(conv(y, f"{name}.conv2", 1, 1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in state:
                x = norm(conv(x, f"{name}.downsample.0", stride, 0), f"{name}.downsample.1")
            x = relu(x + y)
            index += 1
        stage += 1
    return x, x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


KINDS = {
    "basic": ({"stages": (2, 1)}, {}),
    "one basic stage, wider than the stem": ({"stages": (1,), "widths": (6,)}, {}),
    "bottleneck": ({"block": "bottleneck", "expansion": 4}, {}),
    "wide bottleneck": ({"block": "bottleneck", "widths": (8, 16), "expansion": 2}, {}),
    "ResNeXt": (
        {"block": "bottleneck", "widths": (8, 16), "expansion": 2, "groups": 4}, {"groups": 4},
    ),
    "odd groups": (
        {"block": "bottleneck", "widths": (6, 12), "expansion": 2, "groups": 3}, {"groups": 3},
    ),
    "dilated": (
        {"block": "bottleneck", "stages": (1, 2, 2, 2), "widths": (4, 6, 6, 6), "expansion": 2},
        {"replace_stride_with_dilation": (False, True, True)},
    ),
    "dilated, then strided, in stages of one block": (
        {"block": "bottleneck", "stages": (1, 1, 1, 2), "widths": (4, 6, 6, 6), "expansion": 2},
        {"replace_stride_with_dilation": [True, True, False]},
    ),
    "stride in the first 1x1": (
        {"block": "bottleneck", "stages": (1, 2), "expansion": 4}, {"stride_in_1x1": True},
    ),
    "7x7 stem, no pool": ({"stem": (5, 7), "stages": (1,), "widths": (5,)}, {"pool": False}),
    "stem of stride 1": (
        {"stages": (1,), "widths": (4,)}, {"pool": False, "stem_stride": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_forward_pass_against_plain_numpy(kind):
    build, run = KINDS[kind]
    state = torch_state(**build)
    options = {name: value for name, value in run.items() if name != "groups"}
    model = from_torchvision(state, mean=IMAGENET_MEAN, std=IMAGENET_STD, **options)
    found = model.architecture
    assert found.block == build.get("block", "basic")
    assert found.stage_sizes == build.get("stages", (1, 1))
    assert found.widths == build.get("widths", (4, 6))
    assert (found.groups, found.expansion) == (build.get("groups", 1), build.get("expansion", 1))
    assert (found.stem_width, found.stem_kernel) == build.get("stem", (4, 3))
    # 22x18: odd sizes on the way, so that padding on the wrong side would show.
    images = np.random.default_rng(1).random((2, 22, 18, 3), np.float32)
    features, logits = numpy_resnet(state, (images - IMAGENET_MEAN) / IMAGENET_STD, **run)
    # float32 against float64, through some ten layers
    found = jax.jit(Classifier.features)(model, images)
    np.testing.assert_allclose(found, features.transpose(0, 2, 3, 1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.head(found), logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("parameters", "build"),
    [  # torchvision's tables of its models give these counts
        (11_689_512, {"stages": (2,) * 4, "widths": (64, 128, 256, 512)}),  # ResNet-18
        (
            25_028_904,  # ResNeXt-50 32x4d
            {"block": "bottleneck", "stages": (3, 4, 6, 3), "widths": (128, 256, 512, 1024),
             "expansion": 2, "groups": 32},
        ),
    ],
    ids=["resnet18", "resnext50_32x4d"],
)  # fmt: skip
def test_torchvisions_own_sizes(parameters, build):
    state = torch_state(stem=(64, 7), classes=1000, **build)
    model = from_torchvision(state)
    assert sum(leaf.size for leaf in jax.tree.leaves(model.variables["params"])) == parameters
    assert len(model.class_names) == 1000
    maps = jax.eval_shape(Classifier.features, model, jnp.zeros((1, 224, 224, 3)))
    assert maps.shape == (1, 7, 7, build["widths"][-1] * build.get("expansion", 1))


@pytest.fixture(scope="module")
def state():
    return torch_state()


@pytest.fixture(scope="module")
def model(state):
    return from_torchvision(state, class_names=("x", "y", "z"))


PIXELS = np.random.default_rng(2).random((5, 18, 18, 3), np.float32)


def test_normalisation_is_inside(state, model):
    # (x - mean) / std, per channel, of images in [0, 1]: undo it, and ask without.
    plain = from_torchvision(state, mean=(0.0,) * 3, std=(1.0,) * 3)
    normalised = (PIXELS - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(
        model(PIXELS), plain(normalised.astype(np.float32)), rtol=1e-4, atol=1e-5
    )


def test_a_row_depends_on_its_own_image_alone(model):
    alone = np.concatenate([model(PIXELS[i : i + 1]) for i in range(2)])
    np.testing.assert_allclose(model(PIXELS)[:2], alone, rtol=1e-4, atol=1e-5)


def test_predict_does_not_depend_on_the_chunks(model):
    expected = np.asarray(model(PIXELS))
    for size in (1, 2, 5, 100):
        logits = predict(model, PIXELS, chunk_size=size)
        assert isinstance(logits, np.ndarray)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    dataset = load_dataset("shapes", count=3)
    np.testing.assert_allclose(
        predict(model, dataset.images), predict(model, dataset.images[:]), rtol=1e-6
    )


def leaves(model) -> dict:
    return {str(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(model)}


def assert_same(one: Classifier, two: Classifier) -> None:
    assert one.architecture == two.architecture
    assert one.class_names == two.class_names
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for path, leaf in leaves(one).items():
        np.testing.assert_array_equal(leaf, leaves(two)[path], err_msg=path)
        assert leaf.dtype == leaves(two)[path].dtype


def test_save_and_load_keep_every_bit(model, tmp_path):
    path = tmp_path / "new folder" / "net.safetensors"
    model.save(path)
    for name in (path, str(path)):
        assert_same(Classifier.load(name), model)
        assert_same(load_model(name), model)
    assert [item.name for item in path.parent.iterdir()] == [path.name]  # nothing half-made
    grouped = from_torchvision(
        torch_state(block="bottleneck", widths=(8, 16), expansion=2, groups=4),
        mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), stem_stride=1, pool=False,
    )  # fmt: skip
    grouped.save(path)  # over the old one
    assert_same(Classifier.load(path), grouped)


def test_saved_files_have_torchvisions_names(model, state, tmp_path):
    path = tmp_path / "net.safetensors"
    model.save(path)
    saved = load_file(path)
    state = {name: a for name, a in state.items() if not name.endswith("num_batches_tracked")}
    assert set(saved) == set(state)
    for name, array in state.items():
        np.testing.assert_array_equal(saved[name], array)


def test_a_crash_while_saving_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    model.save(path)
    before = path.read_bytes()

    def full_disk(temporary, content):
        temporary.write_text("half of a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_while_saving_leaves_the_old_file(model, tmp_path):
    path = tmp_path / "net.safetensors"
    model.save(path)
    code = f"""
import os, signal, safetensors.numpy
from practical._files import atomic_path
from pathlib import Path
with atomic_path(Path({str(path)!r})) as temporary:
    temporary.write_bytes(b"half of a file")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert done.returncode == -9
    assert_same(Classifier.load(path), model)


def damage(path: Path, kind: str) -> None:
    content = path.read_bytes()
    damaged = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "only the header": content[:400],
        "text": b"<html>404 not found</html>" * 50,
        "longer": content + b"more",
    }
    path.write_bytes(damaged[kind])


@pytest.mark.parametrize("kind", ["truncated", "empty", "only the header", "text", "longer"])
def test_damaged_files_are_refused(model, tmp_path, kind):
    path = tmp_path / "net.safetensors"
    model.save(path)
    damage(path, kind)
    with refuses(r"net\.safetensors is not a whole safetensors file"):
        Classifier.load(path)


def test_missing_files():
    with pytest.raises(FileNotFoundError, match=r"there is no weights file nowhere\.safetensors"):
        Classifier.load("nowhere.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no weights file"):
        load_model("nowhere.safetensors")


@pytest.mark.parametrize(
    "about",
    [
        None, "not json {", "[]", "{}", '{"architecture": {"block": "basic"}}',
        '{"architecture": {"colour": "red"}, "class_names": [], "mean": [0, 0, 0], "std": [1]}',
    ],
)  # fmt: skip
def test_files_written_by_others_are_refused(state, tmp_path, about):
    path = tmp_path / "other.safetensors"
    metadata = None if about is None else {"practical": about}
    save_file(state, path, metadata=metadata)
    with refuses(r"other\.safetensors (holds no description of|does not hold a network that)"):
        Classifier.load(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"std": [0.2, 0, 0.2]}, r"std must be finite and above 0 .*got \[0.2, 0, 0.2\]"),
        ({"std": [0.2, float("nan"), 0.2]}, "std must be finite and above 0"),
        ({"stage_sizes": [1_000_000, 1]}, "must have the tensors of 1,000,001 blocks"),
        ({"stage_sizes": [1] * 1_000_000}, "a ResNet must have blocks"),
        ({"stage_sizes": [1, 0]}, "numbers must be integers of at least 1"),
        ({"stage_sizes": 3}, "iterable"),
        ({"stem_stride": 0}, "numbers must be integers of at least 1"),
        ({"groups": 0.5}, "numbers must be integers of at least 1"),
        ({"pool": "false"}, "pool must be True or False, got 'false'"),
        ({"stride_in_1x1": 0}, "stride_in_1x1 must be True or False, got 0"),
        ({"block": "inverted"}, 'blocks that are "basic" or "bottleneck"'),
        ({"hidden": [[4]]}, "as many other numbers as stages or blocks"),
        ({"dilated": [True] * 4}, "as many other numbers as stages or blocks"),
        ({"colour": "red"}, "unexpected keyword argument 'colour'"),
    ],
)
def test_descriptions_of_impossible_networks(model, tmp_path, changes, says):
    path = tmp_path / "net.safetensors"
    model.save(path)
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["practical"])
    for name, value in changes.items():
        (about if name == "std" else about["architecture"])[name] = value
    save_file(load_file(path), path, metadata={"practical": json.dumps(about)})
    with refuses(rf"net\.safetensors does not hold a network that can be built: .*{says}"):
        Classifier.load(path)


def write_safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    """Write tensors of any type: little-endian header length, JSON header, data."""
    header, data = {}, b""
    for name, (kind, shape, content) in tensors.items():
        span = [len(data), len(data) + len(content)]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": span}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0"])
def test_types_that_numpy_does_not_have(tmp_path, kind):
    path = tmp_path / "small.safetensors"
    write_safetensors(path, {"conv1.weight": (kind, [4], bytes(4))})
    with refuses(rf"small\.safetensors has 'conv1.weight' as {kind}, .*store float32"):
        Classifier.load(path)


def test_a_header_that_would_take_long_to_read(tmp_path):
    path = tmp_path / "long.safetensors"
    write_safetensors(path, {f"{number:090}": ("F32", [0], b"") for number in range(30_000)})
    assert Path(path).stat().st_size > 4 * 2**20
    with refuses(r"long\.safetensors has a header of 4,\d+,\d+ bytes, .*made to do harm"):
        Classifier.load(path)


def test_a_description_that_does_not_fit_the_tensors(model, tmp_path):
    path = tmp_path / "net.safetensors"
    model.save(path)
    with safe_open(path, "numpy") as file:
        about = json.loads(file.metadata()["practical"])
    state = load_file(path)
    about["architecture"]["classes"], about["class_names"] = 4, list("wxyz")
    save_file(state, path, metadata={"practical": json.dumps(about)})
    with refuses(r"state_dict\['fc.weight'\] must have shape \(6, 4\).*got \(6, 3\)"):
        Classifier.load(path)
    about["architecture"]["classes"], about["class_names"] = 3, ["x", "y"]
    save_file(state, path, metadata={"practical": json.dumps(about)})
    with refuses("class_names must have one name for each of the 3 classes, got 2"):
        Classifier.load(path)


def test_missing_and_left_over_tensors(state):
    def without(*names):
        return {name: array for name, array in state.items() if name not in names}

    for name in ("layer1.0.bn2.running_mean", "layer2.0.downsample.0.weight", "fc.bias"):
        with refuses(f"state_dict must have {name!r}, which this ResNet needs"):
            from_torchvision(without(name))
    for name in ("conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight", "fc.weight"):
        with refuses(f"torchvision-style ResNet's; it has no {name!r}"):
            from_torchvision(without(name))
    with refuses("it has no 'conv1.weight' among its 0 tensors"):
        from_torchvision({})
    extra = np.zeros(3, np.float32)
    with refuses("a ResNet's tensors and no others, got head.weight$"):
        from_torchvision({**state, "head.weight": extra})
    with refuses("no others, got a0, a1, a2, a3, a4 and 2 more"):
        from_torchvision({**state, **{f"a{i}": extra for i in range(7)}})


def test_wrong_tensors(state):
    def changed(name, array):
        return {**state, name: np.asarray(array, np.float32)}

    with refuses(r"state_dict\['bn1.bias'\] must have shape \(4,\).*got \(5,\)"):
        from_torchvision(changed("bn1.bias", np.zeros(5)))
    with refuses(r"state_dict\['layer2.0.conv2.weight'\] must have shape \(3, 3, 6, 6\)"):
        from_torchvision(changed("layer2.0.conv2.weight", np.zeros((6, 5, 3, 3))))
    with refuses(r"state_dict\['conv1.weight'\] must have shape"):  # for greyscale images
        from_torchvision(changed("conv1.weight", np.zeros((4, 1, 3, 3))))
    with refuses(r"state_dict\['fc.bias'\] must be finite"):
        from_torchvision(changed("fc.bias", [0, np.nan, 0]))
    with refuses(r"state_dict\['bn1.running_var'\] must be variances of at least 0, got -1"):
        from_torchvision(changed("bn1.running_var", [1, 1, -1, 1]))
    with refuses(r"state_dict\['fc.bias'\] must hold floating-point numbers, got int8"):
        from_torchvision({**state, "fc.bias": np.zeros(3, np.int8)})
    for name in ("conv1.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight", "fc.weight"):
        for shape in ((), (4,), (0, 0, 0, 0), (4, 99, 3, 3)):
            with refuses("state_dict"):
                from_torchvision(changed(name, np.zeros(shape)))


def test_from_torchvision_arguments(state):
    with refuses("class_names must have one name for each of the 3 classes, got 2"):
        from_torchvision(state, class_names=["a", "b"])
    named = from_torchvision(state, class_names=np.array(["a", "b", "c"]))
    assert named.class_names == ("a", "b", "c")
    assert {type(name) for name in named.class_names} == {str}
    for names, message in (
        ({0: "a", 1: "b", 2: "c"}, "in the order of the logits, got dict; give list"),
        ("abc", "must be a list of strings in the order of the logits, got str"),
        ([1, 2, 3], r"must be strings, got 1 for class 0; give list\(map\(str, class_names\)\)"),
    ):
        for build in (
            lambda names: from_torchvision(state, class_names=names),
            lambda names: new_resnet(names, key=jax.random.key(0)),
            lambda names: named.reset_head(names, key=jax.random.key(0)),
            lambda names: named.select_classes([0, 1, 2], names),
            lambda names: Dataset(np.zeros((1, 2, 2, 3), np.float32), np.zeros(1), names),
        ):
            with refuses(message):
                build(names)
    for option in ({"replace_stride_with_dilation": [True]}, {"stride_in_1x1": True}):
        with refuses("must be left out for a ResNet of basic blocks"):
            from_torchvision(state, **option)
    bottlenecks = torch_state(block="bottleneck", expansion=2)
    with refuses(r"one value for each of the 1 stages after the first, got \(True, False, True\)"):
        from_torchvision(bottlenecks, replace_stride_with_dilation=(True, False, True))
    assert from_torchvision(state).class_names == ("class 0", "class 1", "class 2")
    for name in ("mean", "std"):
        with refuses(f"{name} must be three numbers"):
            from_torchvision(state, **{name: (0.5,)})
    half = {key: array.astype(np.float16) for key, array in state.items()}
    assert {leaf.dtype for leaf in jax.tree.leaves(from_torchvision(half))} == {np.dtype("float32")}


def test_kernels(model, state):
    kernels = model.kernels()
    assert list(kernels) == [
        "conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2",
        "layer2.0.downsample.0",
    ]  # fmt: skip
    for name, kernel in kernels.items():
        np.testing.assert_array_equal(kernel, state[f"{name}.weight"].transpose(2, 3, 1, 0))


def test_replace_kernels(model):
    before = {name: np.array(kernel) for name, kernel in model.kernels().items()}
    other = model.replace_kernels({"layer2.0.conv1": np.zeros((3, 3, 4, 6))})
    assert not np.asarray(other.kernels()["layer2.0.conv1"]).any()
    for name, kernel in before.items():
        np.testing.assert_array_equal(model.kernels()[name], kernel)  # the old one is untouched
        if name != "layer2.0.conv1":
            np.testing.assert_array_equal(other.kernels()[name], kernel)
    assert not np.allclose(other(PIXELS), model(PIXELS))
    assert_same(model.replace_kernels(before), model)
    with refuses(r"kernels must name convolutions of this network, got 'conv9'; it has conv1, "):
        model.replace_kernels({"conv9": np.zeros((3, 3, 4, 6))})
    with refuses(r"kernels\['conv1'\] must have shape \(3, 3, 3, 4\) \(HWIO\), got \(4, 3, 3, 3\)"):
        model.replace_kernels({"conv1": np.zeros((4, 3, 3, 3))})


def test_select_classes(model, state):
    chosen = model.select_classes([2, 0], ["z", "x"])
    np.testing.assert_allclose(chosen(PIXELS), model(PIXELS)[:, [2, 0]], rtol=1e-5, atol=1e-6)
    assert chosen.class_names == ("z", "x")
    assert chosen.architecture.classes == 2
    assert jax.jit(lambda m, x: m(x))(chosen, PIXELS).shape == (5, 2)
    with refuses("class_names must have one name for each of the 2 indices, got 1"):
        model.select_classes([2, 0], ["z"])
    for wrong in (3, -1):
        with refuses(rf"indices must be from 0 to 2, got \[{wrong}\]"):
            model.select_classes([0, wrong], ["a", "b"])


def test_reset_head(model):
    new = model.reset_head(("p", "q"), key=jax.random.key(0))
    assert new(PIXELS).shape == (5, 2)
    assert new.class_names == ("p", "q")
    np.testing.assert_array_equal(new.features(PIXELS), model.features(PIXELS))
    again = model.reset_head(("p", "q"), key=jax.random.key(0))
    assert_same(new, again)
    other = model.reset_head(("p", "q"), key=jax.random.key(1))
    assert not np.array_equal(new(PIXELS), other(PIXELS))


def test_reset_keeps_the_stages_that_it_is_told(model):
    stages = model.architecture.stage_sizes
    blocks = [f"layer{s}.{b}." for s, size in enumerate(stages, 1) for b in range(size)]
    for keep in range(len(stages) + 1):
        new = model.reset(key=jax.random.key(0), keep=keep)
        stay = ("conv1", *blocks[: sum(stages[:keep])]) if keep else ()
        for name, kernel in model.kernels().items():
            same = np.array_equal(kernel, new.kernels()[name])
            assert same == name.startswith(stay or ("none",)), name
        assert not np.array_equal(model(PIXELS), new(PIXELS))
    # The batch norms' running means, too: what comes out of the stages that stay is the same.
    np.testing.assert_allclose(new.features(PIXELS), model.features(PIXELS), rtol=1e-5, atol=1e-5)
    again = model.reset(key=jax.random.key(0), keep=len(stages))
    np.testing.assert_array_equal(again(PIXELS), new(PIXELS))
    with refuses(f"keep must be at most the network's {len(stages)} stages, got {len(stages) + 1}"):
        model.reset(key=jax.random.key(0), keep=len(stages) + 1)
    with refuses("keep must be an integer of at least 0, got -1"):
        model.reset(key=jax.random.key(0), keep=-1)


def test_heads_can_be_saved(model, tmp_path):
    for name, changed in (
        ("a", model.reset_head(("p", "q"), key=jax.random.key(0))),
        ("b", model.select_classes([1], ["y"])),
    ):
        changed.save(tmp_path / f"{name}.safetensors")
        assert_same(Classifier.load(tmp_path / f"{name}.safetensors"), changed)


def test_new_resnet(tmp_path):
    options = {"key": jax.random.key(0), "stage_sizes": (1,), "widths": (4,), "stem_width": 4}
    model = new_resnet(("a", "b"), **options)
    assert_same(model, new_resnet(("a", "b"), **options))
    assert model.features(np.zeros((1, 16, 16, 3), np.float32)).shape == (1, 8, 8, 4)
    model.save(tmp_path / "net.safetensors")
    assert_same(Classifier.load(tmp_path / "net.safetensors"), model)

    def bottleneck(key):  # traced: its shapes are the question
        model = new_resnet(("a", "b"), block="bottleneck", **{**options, "key": key})
        return model.features(jnp.zeros((1, 16, 16, 3)))

    assert jax.eval_shape(bottleneck, options["key"]).shape == (1, 8, 8, 16)
    with refuses('block must be "basic" or "bottleneck", got \'wide\''):
        new_resnet(("a",), key=jax.random.key(0), block="wide")
    with refuses(r"widths must give one width for each stage, got stage_sizes=\(1, 2\)"):
        new_resnet(("a",), key=jax.random.key(0), stage_sizes=(1, 2), widths=(4,))
    with refuses("widths must give one width"):
        new_resnet(("a",), key=jax.random.key(0), stage_sizes=(), widths=())


def test_the_default_new_resnet_has_maps_to_show():
    parameters = inspect.signature(new_resnet).parameters
    architecture = {name: parameter.default for name, parameter in parameters.items()}
    assert 64 // architecture["stem_stride"] // 2 ** (len(architecture["widths"]) - 1) >= 7


def test_unknown_names():
    with refuses(r"name must be one of shapes, .*got 'resnet8'; did you mean 'resnet\d+'\?"):
        load_model("resnet8")
    with refuses(r"did you mean 'shapes'\?"):
        load_model("shape")
    with refuses(r"or the path of a \.safetensors, \.pth or \.pt file, got 'zzz'$"):
        load_model("zzz")


EMBEDDED = Path(__file__).resolve().parents[1] / "practical/models/weights/shapes.safetensors"


@pytest.fixture(scope="module")
def embedded():
    return load_model("shapes")


@pytest.fixture(scope="module")
def validation():
    return load_dataset("shapes", count=2000)


def test_the_embedded_file_is_small():
    assert EMBEDDED.stat().st_size <= 3e6
    assert os.access(EMBEDDED, os.R_OK)


def test_the_embedded_model_knows_its_classes(embedded, validation):
    assert embedded.class_names == validation.class_names
    assert len(embedded.class_names) == 10


def test_the_embedded_model_has_maps_for_grad_cam(embedded):
    maps = jax.eval_shape(Classifier.features, embedded, jnp.zeros((1, 64, 64, 3)))
    assert min(maps.shape[1:3]) >= 7


def test_the_embedded_model_is_right_on_the_first_images(embedded, validation):
    picked = validation.select(slice(500))
    assert np.mean(predict(embedded, picked.images).argmax(1) == picked.labels) >= 0.975


@pytest.mark.slow
def test_the_embedded_model_is_right(embedded, validation):
    shares = accuracy_per_class(embedded, validation)
    assert len(shares) == 10
    assert np.mean(list(shares.values())) >= 0.98  # 200 images of each class
    assert min(shares.values()) >= 0.93, shares


def test_completeness_on_the_embedded_model(embedded, validation):
    # "Below 1 % with 50 steps" holds on average from the blurred image (0.7 % over 64 images), not
    # from black (2.0 %, median 1.1 %): on the way from there more ReLUs switch. 200 steps from
    # black have 0.6 %.
    images, targets = validation.images[:32], validation.labels[:32]
    maps = attribution.integrated_gradients(
        embedded, images, targets, steps=50, baseline="blur", chunk_size=64
    )
    errors = np.asarray(
        attribution.completeness_error(embedded, images, targets, maps, baseline="blur")
    )
    assert errors.mean() < 0.01


def test_load_model_refuses_an_unknown_dataset():
    with refuses("dataset must be one of .*got 'imagenete'; did you mean 'imagenette'"):
        load_model("shapes", dataset="imagenete")


def test_normalisation_must_be_possible():
    with refuses("std must be finite and above 0"):
        new_resnet(("a",), key=jax.random.key(0), widths=(4,), stage_sizes=(1,), std=(1, 0, 1))
    with refuses("mean must be finite"):
        new_resnet(
            ("a",), key=jax.random.key(0), widths=(4,), stage_sizes=(1,), mean=(np.nan, 0, 0)
        )
    with refuses(r"mean must be that of images in \[0, 1\], .* divide mean and std by 255"):
        from_torchvision(torch_state(), mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))


def test_images_of_another_layout_or_dtype(model):
    image = np.zeros((12, 10, 3), np.float32)
    for function in (model, model.features):
        with refuses(r"images must have shape .*, got \(12, 10, 3\); add a batch axis"):
            function(image)
        with refuses(r"images must be floating-point numbers .*, got uint8; .*divide by 255"):
            function(np.zeros((1, 12, 10, 3), np.uint8))


SHUFFLED = EMBEDDED.with_name("shapes-shuffled.safetensors")


@pytest.fixture(scope="module")
def shuffled():
    return load_model("shapes-shuffled")


def test_the_network_of_shuffled_labels_is_small_and_like_the_other(embedded, shuffled):
    assert SHUFFLED.stat().st_size <= 3e6
    assert jax.tree.structure(shuffled) == jax.tree.structure(embedded)  # one program for both
    with refuses("name must be one of shapes, shapes-shuffled, .*did you mean 'shapes-shuffled'"):
        load_model("shapes-shufled")


def test_the_network_of_shuffled_labels_has_memorised_and_learned_nothing(shuffled, validation):
    train = shuffle_labels(load_dataset("shapes", "train", count=1000)).select(slice(300))
    assert accuracy(shuffled, train) >= 0.95
    assert accuracy(shuffled, validation.select(slice(500))) < 0.15
