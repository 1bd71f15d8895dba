"""What test_scale.py runs in processes of its own: JAX counts its devices once, when it starts.

python -m tests.scaling devices FOLDER
python -m tests.scaling process FOLDER PORT PROCESSES PROCESS DIES_AT [SIGNAL]
"""

import json
import os
import re
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from practical import attribution, metrics
from practical._sharding import on_own_images
from practical.attribution import METHODS, paths
from practical.data import Dataset
from practical.evaluation import evaluate, join
from practical.evaluation import run as running
from tests.oracles import Small

DEVICES = 8
IMAGES = np.random.default_rng(0).random((16, 12, 10, 3), np.float32)
TARGETS = np.arange(16) % 3
MAPS = np.random.default_rng(1).normal(size=(16, 12, 10)).astype(np.float32)
SEGMENTS = np.stack([np.roll(np.arange(120) // 24, i).reshape(12, 10) for i in range(16)])


def explanation(name, **options):
    return lambda model, images: METHODS[name](model, images, TARGETS, **options)


CALLS = {  # of model and images; the others' programs take arguments of the same kinds
    "lime": explanation("lime", samples=20, segments=SEGMENTS),
    "gradient_x_input": explanation("gradient_x_input", baseline="blur"),
    "integrated_gradients": explanation("integrated_gradients", steps=3),
    "guided_backprop": explanation("guided_backprop"),
    "grad_cam": explanation("grad_cam"),
    "deletion": lambda m, x: metrics.deletion(m, x, TARGETS, MAPS, steps=4).auc,
    "infidelity": lambda m, x: metrics.infidelity(m, x, TARGETS, MAPS, samples=4),
    "adaptive_integrated_gradients": lambda m, x: (
        attribution.adaptive_integrated_gradients(
            m, x, TARGETS, steps=3, max_steps=48, tolerance=0.5
        ).attribution
    ),
}
COUNT = 38  # images of the evaluation: parts of four, the last one not full
MEASURES = ["relevance_rank", "deletion_xplique", "focus", "road"]


def data_set() -> Dataset:
    rng = np.random.default_rng(2)
    masks = np.zeros((COUNT, 12, 10), bool)
    masks[:, 2:8, 3:9] = True
    labels = (np.arange(COUNT) % 3).astype(np.int32)
    return Dataset(rng.random((COUNT, 12, 10, 3), np.float32), labels, ("a", "b", "c"), masks)


def benchmark(out: Path, **options) -> pd.DataFrame:
    given = {"methods": ["center", "random"], "measures": MEASURES[:2], "repeated": 6}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_PART", 4)
        return evaluate(data_set(), Small.random(0), out, **{**given, "progress": False, **options})


def communication() -> list[str]:
    """Return what a program asks of other devices, which it would wait for."""
    mesh = Mesh(np.array(jax.devices()), ("images",))
    program = on_own_images(
        paths._integrated_gradients_core, mesh, [False, *[True] * 3, *[False] * 2]
    )
    ways = np.full(3, 0.5, np.float32), np.full(3, 1 / 3, np.float32)
    text = (
        jax.jit(program, static_argnames=["chunk_size"])
        .lower(Small.random(0), IMAGES, TARGETS, 0 * IMAGES, *ways, chunk_size=2)
        .compile()
        .as_text()
    )
    assert "while" in text
    return re.findall(r"all-\w+|collective-\w+|reduce-scatter", text)


def on_many_devices(out: Path) -> None:
    """Write what one device and what eight answer."""
    assert len(jax.devices()) == DEVICES
    meshes = Mesh(np.array(jax.devices()), ("images",)), jax.make_mesh((DEVICES,), ("images",))
    answers, lie_on = {}, {}
    for number, (name, call) in enumerate(CALLS.items()):
        # JAX has two kinds of axes, and both are to do.
        spread = NamedSharding(meshes[number % 2], PartitionSpec("images"))
        answers[f"one {name}"] = call(Small.random(0), IMAGES)
        answer = answers[f"many {name}"] = call(Small.random(0), jax.device_put(IMAGES, spread))
        lie_on[name] = len(answer.sharding.device_set)
    np.savez(out / "answers.npz", **{name: np.asarray(array) for name, array in answers.items()})
    # Twelve rows are filled up to the sixteen that are compiled.
    elsewhere = jax.device_put(IMAGES, jax.devices()[1])
    last = [attribution.gradient(Small.random(0), elsewhere[:n], TARGETS[:n]) for n in (16, 12)]
    own = jax.grad(lambda images: Small.random(0)(images).sum())(
        jax.device_put(IMAGES, NamedSharding(meshes[0], PartitionSpec("images")))
    )
    found = {
        "lie_on": lie_on,
        "communication": communication(),
        "filled": [device.id for maps in last for device in maps.devices()],
        "own gradient": len(own.sharding.device_set),
    }
    (out / "found.json").write_text(json.dumps(found))

    some = {"methods": ["saliency", "random"], "measures": MEASURES}
    one = benchmark(out / "one", devices=jax.devices()[:1], **some)
    benchmark(out / "many", **some)
    # Eight devices took it as far as that, and one goes on.
    for path in [*sorted((out / "many/parts").iterdir())[::3], out / "many/results.csv"]:
        path.unlink()
    many = benchmark(out / "many", devices=jax.devices()[5:6], **some)
    for name, rows in (("one", one), ("many", many)):
        rows.to_csv(out / f"{name}.csv", index=False)


def as_a_process(
    out: Path, port: int, count: int, index: int, dies_at: int, by: int = signal.SIGKILL
) -> None:
    """Take part in a benchmark, and be killed at the start of a certain step."""
    measure, begun = running._Run.measure, []

    def dies(self, step, columns):
        begun.append(step)
        if len(begun) == dies_at:
            os.kill(os.getpid(), by)
        return measure(self, step, columns)

    running._Run.measure = dies
    with join(f"127.0.0.1:{port}", processes=count, process=index, timeout=5):
        rows = benchmark(out)
    print(f"{len(rows)} rows, {len(begun)} steps")


if __name__ == "__main__":
    command, folder, *numbers = sys.argv[1:]
    if command == "devices":
        on_many_devices(Path(folder))
    else:
        as_a_process(Path(folder), *map(int, numbers))
