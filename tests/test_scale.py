"""Many devices and several processes: the same numbers as one device's, whoever is lost."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from practical import __main__ as command_line
from practical import evaluation
from practical._jit import jit
from practical._sharding import device_mesh
from practical.evaluation import hosts, join
from practical.evaluation.hosts import Job, Team, deal
from tests import scaling
from tests.oracles import refuses

ROOT = Path(__file__).resolve().parents[1]


def start(*arguments, devices=1):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "tests.scaling", *map(str, arguments)], cwd=ROOT, text=True,
        env={**os.environ, "XLA_FLAGS": flags}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def on_eight(tmp_path_factory):
    out = tmp_path_factory.mktemp("devices")
    process = start("devices", out, devices=scaling.DEVICES)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    return out


@pytest.fixture(scope="module")
def on_one(tmp_path_factory):
    return scaling.benchmark(tmp_path_factory.mktemp("one"))


# --- many devices --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", scaling.CALLS)
def test_eight_devices_answer_as_one(on_eight, name):
    with np.load(on_eight / "answers.npz") as answers:
        one, many = answers[f"one {name}"], answers[f"many {name}"]
    np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-5 * np.abs(one).max())


def test_answers_stay_where_they_were_computed(on_eight):
    lie_on = json.loads((on_eight / "found.json").read_text())["lie_on"]
    on_the_host = {"infidelity", "adaptive_integrated_gradients"}  # ends in NumPy
    assert {name for name, count in lie_on.items() if count == 8} == set(lie_on) - on_the_host


def test_a_batch_that_is_filled_up_stays_on_its_device(on_eight):
    assert json.loads((on_eight / "found.json").read_text())["filled"] == [1, 1]


def test_a_gradient_that_the_user_takes(on_eight):
    assert json.loads((on_eight / "found.json").read_text())["own gradient"] == 8


def test_no_device_waits_for_another(on_eight):
    assert json.loads((on_eight / "found.json").read_text())["communication"] == []


def test_a_benchmark_does_not_depend_on_the_devices(on_eight):
    one, many = (pd.read_csv(on_eight / f"{name}.csv") for name in ("one", "many"))
    assert set(one.metric) == set(scaling.MEASURES)
    assert one.groupby("metric").image.count().to_dict() == {
        "relevance_rank": 2 * 38, "deletion_xplique": 2 * 38, "road": 2 * 38, "focus": 2 * 6
    }  # fmt: skip
    pd.testing.assert_frame_equal(many, one, rtol=1e-5, atol=1e-5)


def test_devices_that_are_not_there():
    here = jax.local_devices()
    for wrong in ([], [here[0], here[0]], ["cpu:0"]):
        with refuses(r"devices must be some of this process's, jax.local_devices\(\), each once"):
            device_mesh(wrong)


def test_a_core_says_which_of_its_arguments_have_a_row_an_image():
    with pytest.raises(AssertionError, match=r"'image'.* must be among .*'images'"):
        jit(lambda images: images, per_image=["image"])


# --- several processes ---------------------------------------------------------------------------


def test_two_processes_write_what_one_does(on_one, tmp_path):
    port = free_port()
    both = [start("process", tmp_path, port, 2, index, 0) for index in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    # Ten parts of each of two methods: half of the steps each, and one result.
    assert "152 rows, 10 steps" in outputs[0]
    assert "0 rows, 10 steps" in outputs[1]
    rows = pd.read_csv(tmp_path / "results.csv")
    pd.testing.assert_frame_equal(rows, on_one, rtol=1e-5, atol=1e-5)
    assert len(list((tmp_path / "parts").iterdir())) == 20


def test_lost_processes_lose_nothing(on_one, tmp_path):
    """Process 1 is killed, process 0 goes on with its parts, and is killed there, too."""
    port = free_port()
    both = [start("process", tmp_path, port, 2, 0, 15), start("process", tmp_path, port, 2, 1, 4)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [-signal.SIGKILL] * 2, outputs
    assert "Lost process 1: the others do its part" in outputs[0]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert len(kept) == 3 + 14
    assert not (tmp_path / "results.csv").exists()
    # One goes on where two were.
    pd.testing.assert_frame_equal(scaling.benchmark(tmp_path), on_one, rtol=1e-5, atol=1e-5)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_who_is_left_finishes(on_one, tmp_path):
    """The other one is asked to end, as by `kill` or by Slurm, and does."""
    port, by = free_port(), int(signal.SIGTERM)
    both = [start("process", tmp_path, port, 2, index, 4 * index, by) for index in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, -by], outputs
    assert "152 rows, 17 steps" in outputs[0]  # its ten, and the seven that the other has left
    rows = pd.read_csv(tmp_path / "results.csv")
    pd.testing.assert_frame_equal(rows, on_one, rtol=1e-5, atol=1e-5)


def test_shares():
    jobs = {f"{m}-{i}": Job(i, 5 if m == "rise" else 1) for m in ("rise", "center") for i in "abcd"}
    # All methods of the same images, and as much for each.
    hands = deal(jobs, 2)
    assert sorted(name[-1] for name in hands[0]) == ["a", "a", "c", "c"]
    assert sorted(name[-1] for name in hands[1]) == ["b", "b", "d", "d"]
    # More processes than images: each part on its own.
    assert sorted(map(len, deal(jobs, 5))) == [1, 1, 1, 1, 4]
    assert sorted(itertools.chain(*deal(jobs, 16))) == sorted(jobs)


class Service:
    """JAX's coordination service, in one process."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value):
        self.values[key] = value

    def key_value_dir_get(self, key):
        return [pair for pair in self.values.items() if pair[0].startswith(f"{key}/")]

    def blocking_key_value_get(self, key, timeout):
        if key not in self.values:
            raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")
        return self.values[key]

    def get_live_nodes(self, processes):
        return {process: 1 for process in processes}


@pytest.fixture
def team(monkeypatch, tmp_path):
    """A function that makes process `index` of two, with its view of the folder."""
    service = Service()
    monkeypatch.setattr(hosts, "_client", lambda: service)
    monkeypatch.setattr(hosts, "_SEEN", 0.2)
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def make(index, *, out=tmp_path, **settings):
        monkeypatch.setattr(jax, "process_index", lambda: index)
        monkeypatch.setattr(hosts, "_runs", iter([0]))
        return Team(out, {"seed": 0, **settings})

    return make


WORK = {f"{i}.csv": Job(i, 1) for i in range(4)}


def test_a_process_that_does_not_see_the_folder(team, tmp_path):
    first = next(team(0).shares(WORK))
    assert next(team(1).shares(WORK)) + first == ["1.csv", "3.csv", "0.csv", "2.csv"]
    with refuses(
        "process 1 does not see .*elsewhere/.plan.json, which process 0 has written .*; name a "
        "folder on a file system that all of them see", RuntimeError,
    ):  # fmt: skip
        next(team(1, out=tmp_path / "elsewhere").shares(WORK))


def test_process_0_that_does_not_see_what_another_wrote(team, tmp_path):
    shares = team(0).shares(WORK)
    (tmp_path / "parts").mkdir()
    for name in next(shares):
        (tmp_path / "parts" / name).touch()
    with refuses("1.csv was written by another process, and process 0 does not", RuntimeError):
        next(shares)


def test_processes_of_other_settings(team):
    next(team(0).shares(WORK))
    with refuses(
        r"all processes must have the settings of process 0, and process 1 has others \(seed: 0 "
        r"there, 3 here\); start them by the same command"
    ):
        next(team(1, seed=3).shares(WORK))


def test_a_folder_that_process_0_refuses(team, monkeypatch):
    def refusing():
        raise ValueError("results of other settings")

    with refuses("results of other settings"), team(0).leading(refusing):
        pass
    with refuses("process 0 refuses the folder: results of other settings", RuntimeError):
        next(team(1).shares(WORK))


def test_process_0_that_says_nothing(team):
    with refuses("process 0 has not said within 3600 s what is to compute", RuntimeError):
        next(team(1).shares(WORK))


@pytest.mark.parametrize(
    ("coordinator", "options", "message"),
    [
        ("node1", {}, "coordinator must be HOST:PORT of process 0.*got 'node1'"),
        ("node1:http", {}, "coordinator must be HOST:PORT"),
        ("node1:99999", {}, "with a port from 1 to 65535, or .auto.*got 'node1:99999'"),
        ("node1:0", {}, "with a port from 1 to 65535"),
        ("node1:80", {}, "processes and process must be given with coordinator node1:80"),
        ("node1:80", {"processes": 2}, "processes and process must be given"),
        ("node1:80", {"processes": 2, "process": 2}, "process must be from 0 to 1, got 2"),
        ("node1:80", {"processes": 0, "process": 0}, "processes must be an integer of at least 1"),
        ("auto", {"processes": 2}, 'must be left out with coordinator "auto"'),
    ],
)
def test_mistakes_in_joining(coordinator, options, message):
    with refuses(message), join(coordinator, **options):
        pass


def test_the_command_joins(monkeypatch, tmp_path, capsys):
    seen = []
    monkeypatch.setattr(command_line, "_evaluate", lambda options: 0)
    monkeypatch.setattr(evaluation, "join", lambda *a, **k: seen.append((a, k)) or open(os.devnull))
    given = ["evaluate", "--out", str(tmp_path)]
    assert command_line.main([*given, "--processes", "2"]) == 1
    assert "--processes and --process need --coordinator HOST:PORT" in capsys.readouterr().err
    assert command_line.main(given) == 0
    assert not seen
    several = ["--coordinator", "a:1", "--processes", "2", "--process", "1", "--lost-after", "9"]
    assert command_line.main([*given, *several]) == 0
    assert seen == [(("a:1",), {"processes": 2, "process": 1, "timeout": 9})]
