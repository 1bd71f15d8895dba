"""Pretrained weights from a server on this machine that speaks the hub's protocol."""

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

from practical._files import CacheFolderError, DownloadError
from practical.models.hub import PRETRAINED, download_pretrained
from tests.loopback import Loopback, random_resnet18

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = save({"fc.weight": np.arange(200_000, dtype=np.float32)})  # the hub cares for bytes alone
GET = "GET /timm/resnet18.tv_in1k/resolve/main/model.safetensors"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICAL_HOME", str(tmp_path / "home"))
    # Between its attempts the hub's client sleeps for seconds.
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    return tmp_path / "home"


@pytest.fixture
def server(home, monkeypatch):
    with Loopback() as loopback:
        monkeypatch.setenv("PRACTICAL_MIRROR", loopback.url)
        loopback.add_weights(WEIGHTS)
        yield loopback


def blobs(home: Path) -> list[Path]:
    return [path for path in home.rglob("blobs/*") if path.is_file()]


def assert_works_after_repair(server: Loopback, home: Path) -> None:
    assert blobs(home) == []
    server.fault = None
    assert download_pretrained("resnet18").read_bytes() == WEIGHTS


@pytest.mark.parametrize("redirect", [False, True])
def test_download_then_cache_without_network(server, home, redirect):
    server.redirect = redirect
    path = download_pretrained("resnet18")
    assert path.read_bytes() == WEIGHTS
    assert path.name == "model.safetensors"
    assert home in path.parents
    asked = list(server.log)
    server.__exit__()
    assert download_pretrained("resnet18") == path
    assert server.log == asked


def test_names_are_torchvisions():
    assert PRETRAINED["resnet18"] == "timm/resnet18.tv_in1k"
    assert list(PRETRAINED) == [
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
        "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "near"), [("resnet-50", "resnet50"), ("wide_resnet50", "wide_resnet50_2")]
)
def test_unknown_name(home, name, near):
    with pytest.raises(
        ValueError, match=f"name must be one of resnet18, .*got '{name}'; did you mean '{near}'"
    ):
        download_pretrained(name)


def test_server_down(server, home):
    server.__exit__()
    with pytest.raises(
        DownloadError, match=r"resnet18 cannot be downloaded from http://127.*Check"
    ):
        download_pretrained("resnet18")
    assert blobs(home) == []


@pytest.mark.parametrize("fault", ["404", "503"])
def test_server_refuses(server, home, fault):
    server.fault = fault
    with pytest.raises(DownloadError, match=rf"cannot be downloaded from .*{fault}.*try again"):
        download_pretrained("resnet18")
    assert_works_after_repair(server, home)


def test_unknown_repository(server):
    with pytest.raises(DownloadError, match=r"weights of resnet50 cannot be downloaded .*404"):
        download_pretrained("resnet50")


def test_connection_cut_for_good(server, home):
    server.fault = "cut"
    with pytest.raises(DownloadError, match=r"cannot be downloaded from .*Check the connection"):
        download_pretrained("resnet18")
    assert_works_after_repair(server, home)


def test_connection_cut_once_is_resumed(server):
    server.fault = "cut-once"
    assert download_pretrained("resnet18").read_bytes() == WEIGHTS
    assert server.log.count(GET) == 2


@pytest.mark.parametrize(
    ("fault", "says"),
    [("stall", r"cannot be downloaded from .*[Tt]ime.*Check the connection"),
     ("page", r"model\.safetensors is text/html, not a file of weights.*login page")],
)  # fmt: skip
def test_a_server_that_falls_silent_or_wants_a_login(server, home, monkeypatch, fault, says):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    server.fault = fault
    with pytest.raises(DownloadError, match=says):
        download_pretrained("resnet18")
    assert_works_after_repair(server, home)


def test_wrong_bytes_are_removed_and_reported(server, home):
    server.fault = "wrong"
    with pytest.raises(DownloadError, match=r"not what the server announced: its sha256 should be"):
        download_pretrained("resnet18")
    assert_works_after_repair(server, home)


def test_a_cached_file_that_broke_is_removed_and_reported(server, home):
    path = download_pretrained("resnet18")
    content = bytearray(WEIGHTS)
    content[-1] ^= 1
    path.resolve().write_bytes(content)
    with pytest.raises(DownloadError, match=r"The file is removed; load the model again"):
        download_pretrained("resnet18")
    assert_works_after_repair(server, home)


def test_a_cached_file_without_a_link_is_used(server, home):
    """As on Windows, where the cache has copies; its checksum is known while downloading alone."""
    path = download_pretrained("resnet18")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert download_pretrained("resnet18").read_bytes() == WEIGHTS


def test_weights_of_a_mirror_never_pass_for_the_original(server, monkeypatch):
    download_pretrained("resnet18")
    with Loopback() as empty:
        monkeypatch.setenv("PRACTICAL_MIRROR", empty.url)
        with pytest.raises(DownloadError, match="cannot be downloaded"):
            download_pretrained("resnet18")


def test_a_file_in_place_of_the_folder(server, home):
    home.write_text("mine")
    with pytest.raises(CacheFolderError, match=r"cannot be written .*PRACTICAL_HOME"):
        download_pretrained("resnet18")


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a small file system"
)
@pytest.mark.filterwarnings("ignore:Not enough free disk space")
def test_full_and_read_only_disk(server, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this system does not let root mount a file system")
    try:
        monkeypatch.setenv("PRACTICAL_HOME", str(disk))
        with pytest.raises(CacheFolderError, match=r"the disk of .* is full .*PRACTICAL_HOME"):
            download_pretrained("resnet18")
        assert blobs(disk) == []
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert download_pretrained("resnet18").read_bytes() == WEIGHTS
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert download_pretrained("resnet18").read_bytes() == WEIGHTS
        monkeypatch.setenv("PRACTICAL_HOME", str(disk / "other"))
        with pytest.raises(CacheFolderError, match=r"cannot be written .*Read-only"):
            download_pretrained("resnet18")
    finally:
        subprocess.run(["umount", str(disk)], capture_output=True)


def test_two_processes_at_once(server):
    code = "from practical.models.hub import *; print(download_pretrained('resnet18'))"
    server.fault = "slow"
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(2):
            command = [sys.executable, "-c", code]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        paths = [process.communicate(timeout=240)[0].strip() for process in processes]
    assert paths[0] == paths[1]
    assert Path(paths[0]).read_bytes() == WEIGHTS
    assert server.log.count(GET) == 1


def test_the_stand_in_for_resnet18(server):
    content = random_resnet18()
    server.add_weights(content)
    weights = load_file(download_pretrained("resnet18"))
    assert hashlib.sha256(content).hexdigest() == hashlib.sha256(random_resnet18()).hexdigest()
    # torchvision.models.resnet18() has 11,689,512 parameters; statistics come on top.
    learned = [name for name in weights if not name.split(".")[-1].startswith(("running", "num"))]
    assert sum(weights[name].size for name in learned) == 11_689_512
    assert len(weights) == 122
    assert weights["layer4.0.downsample.0.weight"].shape == (512, 256, 1, 1)
    assert weights["bn1.num_batches_tracked"].shape == ()
    assert load(content)["fc.weight"].shape == (1000, 512)
