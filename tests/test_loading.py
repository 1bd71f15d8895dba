"""Users' own networks: state dicts as PyTorch saves them, with and without PyTorch."""

import argparse
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from practical.__main__ import main
from practical.data.archive import CLASSES
from practical.models import Classifier, from_torchvision, load_model
from practical.models.loading import add_model_options
from tests.oracles import refuses
from tests.test_models import torch_state

ROOT = Path(__file__).resolve().parents[1]
PIXELS = np.random.default_rng(0).random((2, 24, 20, 3), np.float32)


class Tensor:
    """What a state dict holds, as far as it is used."""

    def __init__(self, array):
        self.array = array

    def is_floating_point(self):
        return self.array.dtype.kind == "f"

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def numpy(self):
        return self.array


def stand_in() -> types.SimpleNamespace:
    """Return a module `torch` that can save and load a state dict, as far as it is used."""

    def load(path, *, map_location, weights_only):
        assert (map_location, weights_only) == ("cpu", True)
        return pickle.loads(Path(path).read_bytes())

    return types.SimpleNamespace(
        load=load,
        save=lambda value, path: Path(path).write_bytes(pickle.dumps(value)),
        is_tensor=lambda value: isinstance(value, Tensor),
        from_numpy=Tensor,
    )


@pytest.fixture(params=["a stand-in", "PyTorch"])
def torch(request, monkeypatch):
    if request.param == "PyTorch":
        return pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "torch", stand_in())
    return sys.modules["torch"]


@pytest.fixture(scope="module")
def state():
    return torch_state(block="bottleneck", expansion=2, classes=10)


def saved(torch, state, path: Path) -> Path:
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, path)
    return path


OPTIONS = {
    "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "pool": False,
    "replace_stride_with_dilation": [True], "stride_in_1x1": True,
}  # fmt: skip


def test_a_state_dict_is_the_network_of_from_torchvision(torch, state, tmp_path):
    path = saved(torch, state, tmp_path / "mine.pth")
    np.testing.assert_array_equal(load_model(path)(PIXELS), from_torchvision(state)(PIXELS))
    expected = from_torchvision(state, **OPTIONS)(PIXELS)
    model = load_model(path, options=OPTIONS)
    np.testing.assert_array_equal(model(PIXELS), expected)
    model.save(tmp_path / "ours.safetensors")  # which needs no options
    np.testing.assert_array_equal(load_model(tmp_path / "ours.safetensors")(PIXELS), expected)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_of_several_gpus(torch, state, tmp_path, key):
    tensors = {f"module.{name}": torch.from_numpy(array) for name, array in state.items()}
    torch.save({key: tensors, "epoch": 3}, tmp_path / "checkpoint.pth.tar")
    save_file(
        {f"module.{name}": array for name, array in state.items()}, tmp_path / "a.safetensors"
    )
    for name in ("checkpoint.pth.tar", "a.safetensors"):
        model = load_model(tmp_path / name)
        np.testing.assert_array_equal(model(PIXELS), from_torchvision(state)(PIXELS))


def test_files_that_are_no_state_dict(torch, state, tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with refuses(r"list\.pth must hold a state dict, .*got list; save it with torch\.save"):
        load_model(tmp_path / "list.pth")
    (tmp_path / "page.pt").write_text("<html>")
    with refuses(r"page\.pt does not hold just tensors .*torch\.save\(model\.state_dict"):
        load_model(tmp_path / "page.pt")
    saved(torch, {"head.weight": state["fc.weight"]}, tmp_path / "vit.pth")
    with refuses(r"vit\.pth is not a ResNet that can be loaded: .*it has no 'conv1.weight'"):
        load_model(tmp_path / "vit.pth")


def test_a_pickled_program_is_not_run(tmp_path):
    torch = pytest.importorskip("torch")

    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    torch.save(Harm(), tmp_path / "mine.pth")
    with refuses(r"mine\.pth does not hold just tensors"):
        load_model(tmp_path / "mine.pth")
    assert not (tmp_path / "harm").exists()


def test_without_pytorch_the_message_converts_the_file(state, tmp_path):
    """Nothing imports PyTorch before a file of its kind is named."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without/torch.py").write_text("raise ImportError('not here')")
    path = tmp_path / "mine.pth"
    path.write_bytes(b"not looked at")
    code = (
        "import sys; from practical.models import load_model; import practical.__main__\n"
        "load_model('shapes')\n"
        "assert 'torch' not in sys.modules\n"
        f"try: load_model({str(path)!r})\n"
        "except ValueError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'without'}:{ROOT}"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "mine.pth can only be read with PyTorch, which is not installed here." in run.stdout
    lines = [line.strip() for line in run.stdout.splitlines()[1:]]
    assert len(lines) == 2
    if importlib.util.find_spec("torch"):
        import torch  # pyright: ignore[reportMissingImports]

        saved(torch, state, path)
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, "-c", "\n".join(lines)]
        subprocess.run(command, env=environment, cwd=tmp_path, check=True)
    else:
        compile("\n".join(lines), "message", "exec")
        save_file(state, tmp_path / "mine.safetensors")
    model = load_model(tmp_path / "mine.safetensors", options={"pool": False})
    np.testing.assert_array_equal(model(PIXELS), from_torchvision(state, pool=False)(PIXELS))


def test_class_names_are_those_of_the_data_set(state, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    assert load_model(path).class_names[:2] == ("class 0", "class 1")
    assert load_model(path, dataset="imagenette").class_names == tuple(CLASSES.values())
    assert "arrow" in load_model(path, dataset="shapes").class_names
    named = load_model(path, dataset="shapes", options={"class_names": list("abcdefghij")})
    assert named.class_names == tuple("abcdefghij")
    save_file(torch_state(classes=1000), path)
    assert load_model(path, dataset="imagenette").class_names == tuple(CLASSES.values())
    save_file(torch_state(classes=3), path)
    assert load_model(path, dataset="shapes").class_names == ("class 0", "class 1", "class 2")


def test_options_of_other_networks(state, tmp_path):
    with refuses("options must be left out for 'shapes', which is not the state dict .*got pool"):
        load_model("shapes", options={"pool": True})
    from_torchvision(state).save(tmp_path / "ours.safetensors")
    with refuses(r"options must be left out for '.*ours\.safetensors'"):
        load_model(tmp_path / "ours.safetensors", options={"pool": True})
    save_file(state, tmp_path / "mine.safetensors")
    with refuses("options must be some of mean, std, .*stride_in_1x1, got stem"):
        load_model(tmp_path / "mine.safetensors", options={"stem": 3})
    with pytest.raises(FileNotFoundError, match=r"there is no weights file nowhere\.pth"):
        load_model("nowhere.pth")


def test_the_option_of_the_commands(state, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    text = json.dumps(OPTIONS)
    assert parser.parse_args(["--model-options", text]).model_options == OPTIONS
    for wrong, says in (("{", "must be JSON"), ("[1]", 'must be like {"name": value}')):
        with pytest.raises(SystemExit):
            parser.parse_args(["--model-options", wrong])
        assert says in capsys.readouterr().err
    save_file(state, tmp_path / "mine.safetensors")
    command = [
        "evaluate", "--model", str(tmp_path / "mine.safetensors"), "--images", "2", "--metrics",
        "deletion", "--methods", "gradient", "--out", str(tmp_path / "out"), "--model-options",
    ]  # fmt: skip
    assert main([*command, '{"stem": 3}']) == 1
    assert "options must be some of" in capsys.readouterr().err
    assert main([*command, text]) == 0
    assert isinstance(load_model(tmp_path / "mine.safetensors"), Classifier)
