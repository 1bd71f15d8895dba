"""The Imagenette builder against a server on this machine, and everything that can go wrong."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practical._files import CacheFolderError, DownloadError
from practical.data import imagenette as module
from practical.data import load_dataset
from practical.data.archive import CLASSES
from tests.loopback import Loopback
from tests.oracles import refuses

ROOT = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = ROOT.parent / "shared/data/imagenette2-160.tgz"
NAME = "imagenette2-160"
TGZ = f"/{NAME}.tgz"


def jpeg(colour=(200, 30, 90), *, size=(180, 160), mode="RGB") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, target
    return info, content


def images(*, train: int = 2, validation: int = 1) -> list:
    """Give every class its own grey, and every image of it another blue."""
    return [
        member(
            f"{NAME}/{folder}/{wnid}/{wnid}_{i}.JPEG", jpeg((label * 20, label * 20, 60 + 40 * i))
        )
        for folder, count in (("train", train), ("val", validation))
        for label, wnid in enumerate(CLASSES)
        for i in range(count)
    ]


def tar(members: list) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def tgz(members: list) -> bytes:
    return gzip.compress(tar(members), 1)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PRACTICAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server(home, monkeypatch):
    with Loopback() as loopback:
        monkeypatch.setenv("PRACTICAL_MIRROR", loopback.url)
        loopback.add_archive(tgz(images()))
        yield loopback


@pytest.fixture
def photographs(server):
    if not PHOTOGRAPHS.is_file():
        pytest.skip(f"needs the photographs in {PHOTOGRAPHS}")
    server.add_archive(PHOTOGRAPHS.read_bytes())
    return server


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """Give a function that makes the cache a file system of so many bytes."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("this system does not let root mount a file system")
        monkeypatch.setenv("PRACTICAL_HOME", str(folder / "home"))
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


def assert_nothing_half_made(home: Path) -> None:
    left = [
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.is_file() and path.suffix not in (".lock", ".TAG") and ".config" not in path.parts
    ]
    assert left == []


def assert_works_after_repair(server: Loopback, home: Path) -> None:
    assert_nothing_half_made(home)
    server.fault = None
    server.add_archive(tgz(images()))
    assert len(load_dataset("imagenette")) == 10


def downloads(server: Loopback) -> int:
    return server.log.count(f"GET {TGZ}")


# --- what it gives -------------------------------------------------------------------------------


def test_photographs_are_decoded_resized_and_cropped(photographs):
    dataset = load_dataset("imagenette", "train", image_size=96)

    assert repr(dataset) == (
        "Dataset('imagenette': 100 images of 96x96 pixels, 10 classes, without object masks)"
    )
    assert dataset.class_names == (
        "tench", "English springer", "cassette player", "chain saw", "church",
        "French horn", "garbage truck", "gas pump", "golf ball", "parachute",
    )  # fmt: skip
    expected = {}
    with tarfile.open(PHOTOGRAPHS) as archive:
        for info in archive:
            _, folder, wnid, _ = info.name.split("/")
            if folder == "train":
                image = Image.open(archive.extractfile(info)).convert("RGB")
                scale = 96 / min(image.size)
                image = image.resize([int(side * scale) for side in image.size], 2)
                left, top = (round((side - 96) / 2) for side in image.size)
                pixels = np.asarray(image.crop((left, top, left + 96, top + 96)))
                expected[pixels.tobytes()] = list(CLASSES).index(wnid)
    found = dataset.images[:]
    assert found.dtype == np.float32
    assert dataset.labels.dtype == np.int32
    as_bytes = np.round(found * 255).astype(np.uint8)
    assert {image.tobytes(): label for image, label in zip(as_bytes, dataset.labels, strict=True)} \
        == expected  # fmt: skip


def test_tensorflow_is_never_imported(server):
    code = (
        "import sys; from practical.data import load_dataset;"
        "assert not {'tensorflow_datasets', 'PIL', 'huggingface_hub'} & set(sys.modules);"
        "load_dataset('imagenette').images[:];"
        "assert not {'tensorflow', 'torch', 'apache_beam'} & set(sys.modules); print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.endswith("fine\n"), done.stderr


def test_labels_belong_to_their_images(server):
    dataset = load_dataset("imagenette", "train")
    grey = dataset.images[:][:, 80, 80, 0] * 255
    np.testing.assert_allclose(grey / 20, dataset.labels, atol=0.2)


def test_second_load_needs_no_network(server):
    first = load_dataset("imagenette")
    asked = list(server.log)
    server.__exit__()
    second = load_dataset("imagenette")
    assert server.log == asked
    np.testing.assert_array_equal(first.images[:], second.images[:])


def test_the_archive_is_removed_once_it_is_prepared(server, home):
    load_dataset("imagenette")
    assert not list(home.rglob("*.tgz*"))


def test_order_is_drawn_from_the_seed_and_spreads_the_classes(server):
    everything = load_dataset("imagenette", "train", seed=3)
    assert sorted(everything.labels[:10]) == sorted(everything.labels[10:]) == list(range(10))
    some = load_dataset("imagenette", "train", seed=3, count=7)
    np.testing.assert_array_equal(some.images[:], everything.images[:7])
    other = load_dataset("imagenette", "train", seed=4)
    assert list(other.labels) != list(everything.labels)


@pytest.mark.parametrize(
    ("size", "side"), [("160px", 160), ("320px", 224), ("full", 224)]
)  # fmt: skip
def test_sizes_and_their_default_side(server, size, side):
    name = module.ARCHIVES[size].folder
    renamed = [member(i.name.replace(NAME, name), c) for i, c in images()]
    server.files = {}
    server.add_archive(tgz(renamed), f"{name}.tgz")
    assert load_dataset("imagenette", size=size).images.shape == (10, side, side, 3)


def test_large_archives_are_written_in_parts(server, monkeypatch):
    whole = load_dataset("imagenette", "train")
    monkeypatch.setenv("PRACTICAL_HOME", os.environ["PRACTICAL_HOME"] + "2")
    monkeypatch.setattr(module, "_PART_BYTES", len(server.files[TGZ]) // 3)
    parts = load_dataset("imagenette", "train")
    assert len(module._prepared("160px").info.splits) == 2 * 4
    colours = [
        {
            (int(label), *pixel)
            for label, pixel in zip(d.labels, d.images[:][:, 80, 80], strict=True)
        }
        for d in (whole, parts)
    ]
    assert colours[0] == colours[1]
    assert len(colours[0]) == 20


def test_a_part_fits_in_what_tensorflow_datasets_keeps_in_memory():
    from tensorflow_datasets.core import shuffle

    # Beyond that it imports TensorFlow; twice is room for parts of uneven size.
    assert 2 * module._PART_BYTES < shuffle.MAX_MEM_BUFFER_SIZE


def test_the_real_archives_are_those_of_tensorflow_datasets():
    import tensorflow_datasets

    folder = Path(tensorflow_datasets.__file__).parent / "datasets/imagenette"
    rows = [line.split("\t") for line in (folder / "checksums.tsv").read_text().splitlines()]
    theirs = {url: (int(size), sha256) for url, size, sha256, _ in rows}
    for archive in module.ARCHIVES.values():
        url = f"{module._ORIGIN}/{archive.folder}.tgz"
        assert theirs[url] == (archive.size, archive.sha256)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_photographs(server, mode):
    content = jpeg((20, 120, 120), mode=mode)
    extra = member(f"{NAME}/val/n01440764/odd.JPEG", content)
    server.add_archive(tgz([*images(), extra]))
    dataset = load_dataset("imagenette")
    assert len(dataset) == 11
    centre = dataset.images[dataset.labels == 0][:, 80, 80] * 255
    expected = (90, 90, 90) if mode == "L" else (20, 120, 120)  # 0.299 R + 0.587 G + 0.114 B
    assert np.abs(centre - expected).max(axis=1).min() < 3


@pytest.mark.parametrize("name", ["with space", "ünï", "a[b]*", "x@4", "50%"])
def test_odd_folder_names(server, tmp_path, monkeypatch, name):
    monkeypatch.setenv("PRACTICAL_HOME", str(tmp_path / name))
    assert load_dataset("imagenette").images[:].shape == (10, 160, 160, 3)


def test_a_relative_home_outlives_a_change_of_folder(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRACTICAL_HOME", "here")
    dataset = load_dataset("imagenette")
    monkeypatch.chdir("/")
    assert dataset.images[:].shape == (10, 160, 160, 3)


def test_files_beside_the_images_are_passed_over(server):
    extra = [
        member(f"{NAME}", kind=tarfile.DIRTYPE),
        member(f"{NAME}/val/n01440764", kind=tarfile.DIRTYPE),
        member(f"{NAME}/noisy_imagenette.csv", b"path,label\n"),
        member(f"{NAME}/val/n01440764/.DS_Store", b"junk"),
    ]
    server.add_archive(tgz([*extra, *images()]))
    assert len(load_dataset("imagenette")) == 10


# --- faults of the server ------------------------------------------------------------------------


def test_server_down(server, home):
    server.__exit__()
    with pytest.raises(DownloadError, match=r"no answer from the server of http://127.*checksums"):
        load_dataset("imagenette")
    assert_nothing_half_made(home)


@pytest.mark.parametrize(("fault", "says"), [("404", "404 Not Found"), ("503", "503 Service")])
def test_server_refuses(server, home, fault, says):
    server.fault = fault
    with pytest.raises(DownloadError, match=rf"{NAME}\.tgz cannot be downloaded.*{says}"):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


def test_connection_cut_half_way(server, home):
    server.fault = "cut"
    with pytest.raises(DownloadError, match=rf"download of .*{NAME}\.tgz was cut off.*connection"):
        load_dataset("imagenette")
    assert downloads(server) == 1
    assert_works_after_repair(server, home)


@pytest.mark.parametrize(
    ("fault", "says"),
    [("stall", rf"download of .*{NAME}\.tgz was cut off \(no byte arrived .*connection"),
     ("silent", r"no answer from the server of .*it was silent for 0 s"),
     ("page", r"is text/html, not a table of checksums. .*login page of a network")],
)  # fmt: skip
def test_a_server_that_falls_silent_or_wants_a_login(server, home, monkeypatch, fault, says):
    monkeypatch.setattr("practical._download.STALL", 0.5)
    server.fault = fault
    with pytest.raises(DownloadError, match=says):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


def test_a_login_page_in_place_of_the_archive(server, home):
    server.fault, server.spared = "page", "/checksums.tsv"
    with pytest.raises(DownloadError, match=rf"{NAME}\.tgz is text/html, not an archive"):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


def test_ctrl_c_ends_a_stalled_download(server, home, start):
    server.fault = "stall"
    process = start(LOAD)
    wait_for(lambda: list(home.rglob("*.part")))
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=30)[1]
    assert_works_after_repair(server, home)


def test_wrong_bytes(server, home):
    server.fault = "wrong"
    with pytest.raises(DownloadError, match=rf"{NAME}\.tgz is not the expected file.*sha256"):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


def test_without_a_table_the_real_checksum_holds(server, home):
    server.checksums = False
    with pytest.raises(DownloadError, match="should have 99,003,388"):
        load_dataset("imagenette")
    assert_nothing_half_made(home)


def test_a_table_for_other_files_leaves_the_real_checksum(server):
    server.checksums = "http://elsewhere/other.tgz\t5\t" + "0" * 64 + "\tother.tgz\n"
    with pytest.raises(DownloadError, match="should have 99,003,388"):
        load_dataset("imagenette")


def test_a_broken_table(server):
    server.checksums = f"{NAME}.tgz\tmany\n"
    with pytest.raises(DownloadError, match="should be name, bytes and sha256"):
        load_dataset("imagenette")


def test_a_mirror_that_is_no_address(home, monkeypatch):
    monkeypatch.setenv("PRACTICAL_MIRROR", "localhost:8000")
    with pytest.raises(ValueError, match=r"PRACTICAL_MIRROR must be an address.*'localhost:8000'"):
        load_dataset("imagenette")


def test_data_of_a_mirror_never_pass_for_the_original(server, monkeypatch):
    assert len(load_dataset("imagenette")) == 10
    monkeypatch.delenv("PRACTICAL_MIRROR")
    monkeypatch.setattr(module, "_ORIGIN", server.url)
    with pytest.raises(DownloadError, match="should have 99,003,388"):
        load_dataset("imagenette")


def test_original_data_of_another_checksum_are_not_used(server, monkeypatch):
    monkeypatch.delenv("PRACTICAL_MIRROR")
    monkeypatch.setattr(module, "_ORIGIN", server.url)
    content = server.files[TGZ]
    mine = module.Archive(NAME, len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(module.ARCHIVES, "160px", mine)
    assert len(load_dataset("imagenette")) == 10
    monkeypatch.setitem(module.ARCHIVES, "160px", mine._replace(sha256="0" * 64))
    with pytest.raises(DownloadError, match=r"is damaged .*delete that folder"):
        load_dataset("imagenette")


# --- faults of the archive -----------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_archive_cut_with_the_checksum_of_what_is_left(server, home, kept):
    content = tgz(images())
    server.add_archive(content[: int(kept * len(content))])
    with pytest.raises(DownloadError, match=rf"{NAME}\.tgz is truncated or damaged"):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


@pytest.mark.parametrize("into", [0, 100, 512, 600])
def test_archive_cut_inside_a_sound_gzip(server, home, into):
    """At a header, tarfile takes the cut for the end: see that we do not."""
    extra = member(f"{NAME}/val/n01440764/last.JPEG", jpeg())
    content = tar([*images(), extra])
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        start = archive.getmembers()[-1].offset
    server.add_archive(gzip.compress(content[: start + into]))
    with pytest.raises(DownloadError, match=rf"{NAME}\.tgz is truncated or damaged"):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


def test_member_that_is_no_jpeg(server, home):
    extra = member(f"{NAME}/train/n03028079/page.JPEG", b"<html>not found</html>")
    server.add_archive(tgz([*images(), extra]))
    with pytest.raises(DownloadError, match=r"no JPEG image: .*n03028079/page\.JPEG"):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


def test_member_that_is_half_a_jpeg(server, home):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
    stream = io.BytesIO()
    noise.save(stream, "JPEG")
    extra = member(f"{NAME}/val/n03028079/half.JPEG", stream.getvalue()[:9000])
    server.add_archive(tgz([*images(), extra]))
    with pytest.raises(DownloadError, match=r"half\.JPEG is a broken or truncated image"):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


@pytest.mark.parametrize(
    "bad",
    [
        member("/etc/passwd", b"x"),
        member("../outside.JPEG", b"x"),
        member(f"{NAME}/val/n01440764/../../../../outside.JPEG", b"x"),
        member(f"{NAME}/val/n01440764/link.JPEG", kind=tarfile.SYMTYPE, target="/etc/passwd"),
        member(f"{NAME}/val/n01440764/hard.JPEG", kind=tarfile.LNKTYPE, target="/etc/passwd"),
        member(f"{NAME}/val/n01440764/pipe.JPEG", kind=tarfile.FIFOTYPE),
    ],
    ids=["absolute", "parent", "inner parent", "symbolic link", "hard link", "pipe"],
)
def test_member_that_would_leave_the_folder(server, home, bad):
    server.add_archive(tgz([*images(), bad]))
    with pytest.raises(DownloadError, match="member that could leave its folder"):
        load_dataset("imagenette")
    assert not list(home.parent.rglob("outside*"))
    assert_works_after_repair(server, home)


@pytest.mark.parametrize(
    "path", [f"{NAME}/val/n99999999/a.JPEG", f"{NAME}/test/n01440764/a.JPEG", "other/a.JPEG",
             f"{NAME}/val/n01440764/deeper/a.JPEG"]
)  # fmt: skip
def test_unexpected_folder(server, home, path):
    server.add_archive(tgz([*images(), member(path, jpeg())]))
    with pytest.raises(DownloadError, match=f"unexpected folder '{path.rsplit('/', 1)[0]}'"):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


def test_missing_class(server, home):
    server.add_archive(tgz([m for m in images() if "val/n03888257" not in m[0].name]))
    with pytest.raises(DownloadError, match=r"no images of n03888257 \(validation\)"):
        load_dataset("imagenette")
    assert_works_after_repair(server, home)


# --- faults of the cache -------------------------------------------------------------------------


def test_too_little_room(photographs, small_disk):
    disk = small_disk(2 * 2**20)
    with pytest.raises(CacheFolderError, match=r"full .*bytes are needed.*PRACTICAL_HOME"):
        load_dataset("imagenette")
    assert downloads(photographs) == 0
    assert_nothing_half_made(disk)


@pytest.mark.parametrize("size", [2**20, 2 * 2**20], ids=["downloading", "preparing"])
def test_disk_that_fills_up(photographs, small_disk, monkeypatch, size):
    disk = small_disk(size)
    monkeypatch.setattr(module, "_check_room", lambda *_: None)  # another program takes the room
    with pytest.raises(CacheFolderError, match=r"the disk of .* is full .*No space left"):
        load_dataset("imagenette")
    assert not list(disk.rglob("dataset_info.json"))
    assert not list(disk.rglob("*incomplete*"))
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    assert len(load_dataset("imagenette")) == 25
    assert downloads(photographs) == (2 if size == 2**20 else 1)  # a whole download is kept


def test_read_only_folder(server, small_disk):
    disk = small_disk(2**20)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(CacheFolderError, match=r"cannot be written .*Read-only.*PRACTICAL_HOME"):
        load_dataset("imagenette")


def test_prepared_data_on_a_read_only_disk(server, small_disk):
    disk = small_disk(20 * 2**20)
    load_dataset("imagenette")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert load_dataset("imagenette").images[:].shape == (10, 160, 160, 3)


def test_a_file_in_place_of_the_folder(server, home):
    home.write_text("mine")
    with pytest.raises(CacheFolderError, match=r"home.* cannot be written .*PRACTICAL_HOME"):
        load_dataset("imagenette")
    assert home.read_text() == "mine"


@pytest.mark.parametrize("name", ["dataset_info.json", "metadata.json", "array_record"])
def test_damaged_prepared_data(server, home, name):
    load_dataset("imagenette")
    for path in home.rglob(f"*{name}*"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DownloadError, match=r"1\.0\.0 is damaged .*delete that folder"):
        load_dataset("imagenette").images[:]


# --- several processes ---------------------------------------------------------------------------

LOAD = "from practical.data import load_dataset; print(len(load_dataset('imagenette', 'train')))"


@pytest.fixture
def start():
    """Give a function that starts a process, which does not outlive the test."""
    with contextlib.ExitStack() as stack:

        def run(code: str) -> subprocess.Popen:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not come"
        time.sleep(0.01)


def test_two_processes_prepare_once(server, start):
    padding = member(f"{NAME}/padding.csv", np.random.default_rng(0).bytes(10 * 2**16))
    server.add_archive(tgz([*images(), padding]))
    server.fault = "slow"  # over a second, in which both are at it
    processes = [start(LOAD), start(LOAD)]
    results = [process.communicate(timeout=240) for process in processes]
    assert [out.splitlines()[-1] for out, _ in results] == ["20", "20"], results
    assert downloads(server) == 1


def test_killed_while_downloading(server, home, start):
    padding = member(f"{NAME}/padding.csv", np.random.default_rng(0).bytes(50 * 2**16))
    server.add_archive(tgz([*images(), padding]))
    server.fault = "slow"
    process = start(LOAD)
    wait_for(lambda: list(home.rglob("*.part")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(home.rglob("*.part"))  # it was half-way
    server.fault = None
    assert len(load_dataset("imagenette", "train")) == 20
    assert not list(home.rglob("*.part"))


def test_killed_while_preparing(server, home, start):
    slow = (
        "import pathlib, time; from practical.data import imagenette as m; whole = m.decode\n"
        f"begun = pathlib.Path({str(home / 'begun')!r})\n"
        "def decode(*a, **k): begun.touch(); time.sleep(0.2); return whole(*a, **k)\n"
        "m.decode = decode\n"
    )
    process = start(slow + LOAD)
    wait_for((home / "begun").exists)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(home.rglob("incomplete.*"))
    assert len(load_dataset("imagenette", "train")) == 20
    assert not list(home.rglob("incomplete.*"))
    assert downloads(server) == 1  # the download was whole


# --- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (("imagenet",), {}, "name must be one of .*got 'imagenet'; did you mean 'imagenette'"),
        (("Shapes",), {}, "did you mean 'shapes'"),
        (("folder:",), {}, "name must be one of .*'folder:PATH'"),
        ((7,), {}, "name must be one of .*got 7"),
        (("imagenette", "val"), {}, "split must be .*got 'val'; did you mean 'validation'"),
        (("imagenette",), {"size": "160"}, "size must be .*got '160'; did you mean '160px'"),
        (("shapes",), {"size": "160px"}, "size is an option of imagenette.*image_size"),
        (("folder:x",), {"size": "160px"}, "size is an option of imagenette.*image_size"),
        (("imagenette",), {"image_size": 0}, "image_size must be an integer from 1 .*got 0"),
        (("imagenette",), {"image_size": 1e2}, "image_size must be an integer .*got 100.0"),
        (("imagenette",), {"count": 0}, "count must be an integer from 1 to 10.*got 0"),
        (("imagenette",), {"count": 11}, "count must be an integer from 1 to 10.*got 11"),
        (("imagenette",), {"count": True}, "count must be an integer .*got True"),
        (("imagenette",), {"seed": -1}, "seed must be an integer from 0 .*got -1"),
    ],
)
def test_bad_arguments(server, arguments, options, says):
    with refuses(says):
        load_dataset(*arguments, **options)


def test_the_metadata_say_where_the_data_came_from(server, home):
    load_dataset("imagenette")
    (path,) = home.rglob("160px/1.0.0/metadata.json")
    metadata = json.loads(path.read_text())
    assert metadata["url"] == server.url + TGZ
    assert metadata["sha256"] == hashlib.sha256(server.files[TGZ]).hexdigest()
