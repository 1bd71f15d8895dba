"""Studies and commands under real faults: full disks, damaged files, replaced images, Ctrl-C."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from practical import __main__ as command_line
from practical._files import atomic_path, check_writable, fingerprint_images
from practical.data import Dataset, files, load_dataset
from practical.data.dataset import LazyArray
from practical.evaluation import evaluate
from practical.evaluation import run as running
from practical.grading import process, sandbox
from tests.oracles import Linear, full_disk, refuses

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = {"methods": ["saliency", "center"], "measures": ["entropy"], "progress": False}
MODEL = Linear.random(0, classes=2, height=16, width=16)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(running, "_PART", 4)


@pytest.fixture
def folder(tmp_path):
    """Ten uncompressed images: another content has the same size."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for split, count in (("train", 1), ("val", 5)):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                path = tmp_path / "photos" / split / name / f"{i}.png"
                Image.fromarray(pixels).save(path, compress_level=0)
    return tmp_path / "photos"


def load(folder: Path) -> Dataset:
    return load_dataset(f"folder:{folder}")


def photos(folder: Path) -> list[Path]:
    return sorted((folder / "val").rglob("*.png"))


def invert(path: Path) -> None:
    pixels = np.asarray(Image.open(path))
    Image.fromarray(255 - pixels).save(path, compress_level=0)


# --- the same images, or others ------------------------------------------------------------------


def touched(folder: Path) -> Path:
    for path in photos(folder):
        os.utime(path, ns=(1, 1))
    return folder


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(folder, folder.with_name("copy"), copy_function=shutil.copyfile))


def archived(folder: Path) -> Path:
    """As `cp -a` does."""
    return Path(shutil.copytree(folder, folder.with_name("copy")))


def one_inverted(folder: Path) -> Path:
    """Its time stays as it was."""
    path = photos(folder)[-1]
    before = path.stat()
    invert(path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return folder


def one_newer(folder: Path) -> Path:
    time.sleep(0.02)
    invert(photos(folder)[-1])
    return folder


def swapped(folder: Path) -> Path:
    first, second = photos(folder)[:2]
    first.rename(first.with_suffix(".x"))
    second.rename(first)
    first.with_suffix(".x").rename(second)
    return folder


@pytest.mark.parametrize(
    ("change", "large", "same"),
    [
        (touched, False, True), (copied, False, True), (archived, True, True),
        (one_inverted, False, False), (one_newer, True, False), (swapped, False, False),
        (swapped, True, False),
    ],
)  # fmt: skip
def test_images_are_known_again_and_others_are_told_apart(folder, monkeypatch, change, large, same):
    monkeypatch.setattr(files, "_MOST", 0 if large else 10**9)
    before = fingerprint_images(load(folder).images)
    changed = load(change(folder)).images
    assert (fingerprint_images(changed) == before) == same
    # A view of the same images knows them as well.
    assert fingerprint_images(load(folder).only(["a", "b"]).images) == before or not same


def test_a_large_folder_is_known_by_its_names_and_times_alone(folder, monkeypatch):
    monkeypatch.setattr(files, "_MOST", 0)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"read {path}"))
    images = load(folder).images
    assert fingerprint_images(images) == fingerprint_images(load(folder).images)


def test_every_pixel_in_memory_counts():
    images = np.random.default_rng(0).random((600, 4, 4, 3), np.float32)
    before = fingerprint_images(images)
    assert fingerprint_images(LazyArray(images.__getitem__, images.shape, np.float32)) == before
    for index in ((0, 0, 0, 0), (300, 2, 1, 1), (599, 3, 3, 2)):
        changed = images.copy()
        changed[index] += 1e-6
        assert fingerprint_images(changed) != before


def test_a_drawn_data_set_is_known_by_its_seed():
    first, *others = (
        fingerprint_images(load_dataset("shapes", **options).images)
        for options in ({"seed": 0}, {"seed": 1}, {"count": 1999}, {"split": "train"})
    )
    assert first not in others
    assert first == fingerprint_images(load_dataset("shapes").images)


def test_a_file_that_is_replaced_under_way_is_not_read(folder):
    dataset = load(folder)
    one_newer(folder)
    with refuses(r"4\.png has changed since its data set was loaded; load it again"):
        dataset.images[:]


def test_rows_of_old_and_new_images_are_never_mixed(folder, tmp_path):
    out = tmp_path / "out"
    rows = evaluate(load(folder), MODEL, out, **OPTIONS)
    moved = folder.rename(tmp_path / "moved")
    pd.testing.assert_frame_equal(evaluate(load(touched(moved)), MODEL, out, **OPTIONS), rows)
    one_inverted(moved)
    with refuses("holds results of other settings.*content of the images: .* there, .* here"):
        evaluate(load(moved), MODEL, out, **OPTIONS)
    images = load(moved).images[:]
    changed = images.copy()
    changed[-1, -1, -1, -1] = 1 - changed[-1, -1, -1, -1]
    data = Dataset(images, load(moved).labels, ("a", "b"))
    evaluate(data, MODEL, tmp_path / "memory", **OPTIONS)
    with refuses("holds results of other settings.*content of the images"):
        evaluate(replace(data, images=changed), MODEL, tmp_path / "memory", **OPTIONS)


# --- what is finished is kept --------------------------------------------------------------------


def test_a_refused_run_frees_its_folder(folder, tmp_path):
    dataset = load(folder)
    rows = evaluate(dataset, MODEL, tmp_path / "out", **OPTIONS)
    with pytest.raises(ValueError, match="seed: 0 there, 1 here") as kept:
        evaluate(dataset, MODEL, tmp_path / "out", **OPTIONS, seed=1)
    pd.testing.assert_frame_equal(evaluate(dataset, MODEL, tmp_path / "out", **OPTIONS), rows)
    assert kept.tb is not None  # as a notebook keeps the last error


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def blank(path: Path) -> None:
    """As a file system leaves a file after a power failure."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [truncate, flip, empty, blank])
def test_damaged_files_are_named_and_computed_again(folder, tmp_path, damage, capsys, monkeypatch):
    dataset, out = load(folder), tmp_path / "out"
    rows = evaluate(dataset, MODEL, out, **OPTIONS)
    for name in ("parts/saliency-images-000004.csv", "maps/center.npy", "settings.json"):
        damage(out / name)
    (out / "parts/.center-images-000000.csv.abc.part").touch()  # as a kill leaves it
    measure, measured = running._Run.measure, []

    def counted(self, step, columns):
        measured.extend(part.file for part in step)
        return measure(self, step, columns)

    monkeypatch.setattr(running._Run, "measure", counted)
    pd.testing.assert_frame_equal(evaluate(dataset, MODEL, out, **OPTIONS), rows)
    said = capsys.readouterr().err
    again = {"saliency-images-000004.csv"}
    assert "saliency-images-000004.csv is computed again: it is damaged" in said
    if damage is not flip:  # maps are for pictures alone, and have no checksum
        assert "center-images-000000.csv is computed again: its maps are lost" in said
        again |= {"center-images-000000.csv"}
    assert set(measured) == again
    assert not list(out.glob("parts/.*"))


def test_a_broken_photograph_ends_the_run_before_it_begins(folder, tmp_path, monkeypatch):
    broken = photos(folder)[3]
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(running._Run, "measure", lambda *_: pytest.fail("computed"))
    with refuses(r"1 of 10 images cannot be read: .*val/a/3\.png is a broken or truncated"):
        evaluate(load(folder), MODEL, tmp_path / "out", **OPTIONS)
    monkeypatch.undo()
    broken.write_bytes(content)
    assert len(evaluate(load(folder), MODEL, tmp_path / "out", **OPTIONS)) == 20


def test_a_full_disk_keeps_what_is_finished(folder, tmp_path):
    dataset, out = load(folder), tmp_path / "out"
    expected = evaluate(dataset, MODEL, tmp_path / "whole", **OPTIONS)
    write, count = running.Parts.write, []

    def fills(self, name, rows):
        count.append(name)
        with full_disk(10**9 if len(count) < 3 else 50):
            write(self, name, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running.Parts, "write", fills)
        with pytest.raises(OSError, match=r"make room: .*images-000004\.csv"):
            evaluate(dataset, MODEL, out, **OPTIONS)
    assert len(list((out / "parts").iterdir())) == 2
    pd.testing.assert_frame_equal(evaluate(dataset, MODEL, out, **OPTIONS), expected)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(OSError, match=f"make room: '{path}'"), full_disk(1000):
        with atomic_path(path) as temporary:
            temporary.write_bytes(bytes(2000))
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_place_is_tried_out(tmp_path):
    check_writable(tmp_path / "new/folder/file", size=3_000_000)
    assert list((tmp_path / "new/folder").iterdir()) == []
    with pytest.raises(OSError, match=r"File too large; make room, .*file'"), full_disk(2_000_000):
        check_writable(tmp_path / "file", size=3_000_000)
    (tmp_path / "taken").touch()
    for path, message in (
        (tmp_path, "this is a folder; name a file in it"), (tmp_path / "taken/file", "File exists"),
        (Path("/proc/file"), "or name another file: '/proc/file'"),
    ):  # fmt: skip
        with pytest.raises(OSError, match=message):
            check_writable(path, size=1)


def test_a_worker_is_ended_that_is_interrupted_while_it_starts(tmp_path, monkeypatch):
    started = []

    def start(*_, stderr, **__):
        started.append(subprocess.Popen(["sleep", "60"], stderr=stderr, start_new_session=True))
        return started[0]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sandbox, "start", start)
    monkeypatch.setattr(process.Process, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.Process("none", tmp_path, sandbox.Limits(), 0, keep_compiled=False)
    assert started[0].poll() == -signal.SIGKILL


# --- the command ---------------------------------------------------------------------------------

EVALUATE = ["evaluate", "--methods", "center", "--metrics", "entropy"]


@pytest.fixture
def network(tmp_path, monkeypatch):
    monkeypatch.setattr("practical.load_model", lambda *_, **__: Named())


class Named:
    """The model with names for its classes."""

    class_names = ("a", "b")

    def __call__(self, images):
        return jnp.asarray(MODEL(images))


def test_as_many_images_as_there_are(folder, tmp_path, network, capsys):
    out = tmp_path / "out"
    arguments = [*EVALUATE, "--dataset", f"folder:{folder}", "--images", "900", "--out", str(out)]
    assert command_line.main(arguments) == 0, capsys.readouterr().err
    assert len(pd.read_csv(out / "results.csv")) == 10


def test_faults_end_in_one_line(folder, tmp_path, network, capsys):
    (tmp_path / "file").touch()
    given = [*EVALUATE, "--dataset", f"folder:{folder}", "--out"]
    for limit, out, message in (
        (10**9, tmp_path / "file", "the results go to a folder, and .*file is a file"),
        (100, tmp_path / "full", r"File too large; make room: .*/full/settings\.json"),
    ):
        with full_disk(limit):
            assert command_line.main([*given, str(out)]) == 1
        said = capsys.readouterr().err.splitlines()
        assert [line.partition(": ")[0] for line in said] == ["python -m practical evaluate"]
        assert re.search(message, said[0])


def test_output_that_nobody_can_take(tmp_path):
    command = [sys.executable, "-m", "practical", "methods"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "python -m practical methods: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("module", ["practical", "practical.training"])
def test_ctrl_c_in_the_first_second(module):
    """While modules are imported."""
    command = subprocess.Popen(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    maps = Path(f"/proc/{command.pid}/maps")
    while command.poll() is None and "numpy" not in maps.read_text():
        time.sleep(0.005)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 130
    assert said == "\nStopped.\n"


def test_the_ctrl_c_of_other_commands_is_left_alone(tmp_path):
    package = tmp_path / "laboratory"
    package.mkdir()
    (package / "__init__.py").write_text("import practical")
    (package / "__main__.py").write_text(
        "import signal\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "laboratory", "an argument"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)
