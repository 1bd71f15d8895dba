"""What is compiled, how often, and what becomes of it in the next process."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practical import _compiled, _memory, attribution, metrics, models
from practical._rows import Rows
from tests.conftest import ROOT
from tests.oracles import Counting, Small, only_at_most, refuses

# --- fewer images than a program is there for ----------------------------------------------------


def test_a_shorter_batch_uses_the_program_of_a_longer_one():
    rng = np.random.default_rng(0)
    images, targets = rng.random((8, 11, 9, 3), np.float32), np.arange(8) % 3
    model = Counting(Small.random(0), "a shorter batch")
    maps = attribution.gradient(model, images, targets)
    Counting.calls()
    shorter = attribution.gradient(model, images[2:], targets[2:])
    assert Counting.calls() == 1  # for the shape of its logits; nothing is traced to be compiled
    np.testing.assert_array_equal(shorter, maps[2:])


def test_a_much_shorter_batch_is_not_filled_up(small, monkeypatch):
    rng = np.random.default_rng(0)
    images, targets = rng.random((8, 7, 9, 3), np.float32), np.arange(8) % 3
    attribution.gradient(small, images, targets)

    def fill(*_):
        raise AssertionError("they were filled up")

    monkeypatch.setattr("practical._rows._repeat_last", fill)
    assert attribution.gradient(small, images[:5], targets[:5]).shape == (5, 7, 9, 3)
    with pytest.raises(AssertionError, match="were filled up"):
        attribution.gradient(small, images[:7], targets[:7])


@pytest.mark.parametrize(("platform", "least"), [("cpu", 43), ("gpu", 8)])
def test_how_much_shorter_depends_on_the_device(monkeypatch, platform, least):
    rows, images = Rows([True]), np.arange(64.0)
    rows.note("program", 64)
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    for count in (1, least - 1, least, 63, 64):
        (filled,) = rows.fill([images[:count]], count, "program")
        assert len(filled) == (count if count < least else 64)
        np.testing.assert_array_equal(filled[:count], images[:count])
        assert set(filled[count:]) <= {images[count - 1]}


def test_filled_up_batches_have_random_numbers_of_their_own_images(small):
    """Keys go with their images, so whatever fills the batch changes nothing."""
    rng = np.random.default_rng(0)
    images, targets = rng.random((4, 9, 9, 3), np.float32), np.arange(4) % 3
    keys = jax.random.split(jax.random.key(3), 4)

    def maps(few):
        return attribution.smooth_grad(
            small, images[:few], targets[:few], samples=3, key=keys[:few]
        )

    np.testing.assert_allclose(maps(4)[:3], maps(3), rtol=1e-6)


def test_other_weights_and_other_options_are_told_apart(small):
    rng = np.random.default_rng(0)
    images, targets = rng.random((4, 9, 8, 3), np.float32), np.arange(4) % 3
    wide = attribution.occlusion(small, images, targets, window=4, stride=4)
    other = attribution.occlusion(small, images[:3], targets[:3], window=2, stride=2)
    assert not np.allclose(wide[:3], other)
    double = jax.tree.map(lambda leaf: 2 * leaf, small)
    doubled = attribution.occlusion(double, images[:3], targets[:3], window=4, stride=4)
    assert not np.allclose(wide[:3], doubled)


# --- no more programs than a process can hold -----------------------------------------------------


def test_programs_are_dropped_at_a_limit(small, monkeypatch, compilations):
    """Linux allows a process so many memory maps; 1,900 programs ended in a segmentation fault."""
    monkeypatch.setattr(_compiled, "_MOST_PROGRAMS", 6)
    monkeypatch.setattr(_compiled, "_compiled", 0)
    cleared = []
    clear = jax.clear_caches
    monkeypatch.setattr(jax, "clear_caches", lambda: cleared.append(clear()))
    images, targets = np.random.default_rng(0).random((4, 30, 30, 3), np.float32), np.arange(4) % 3
    expected = [np.asarray(attribution.gradient(small, images[:, :side], targets))
                for side in range(8, 20)]  # fmt: skip
    assert 1 <= len(cleared) <= 12
    compilations()
    # Three images are not filled up to four for a program that is gone.
    for side, maps in zip(range(8, 20), expected, strict=True):
        for count in (3, 4):
            shorter = attribution.gradient(
                small, images[:count, :side], targets[:count], chunk_size="auto"
            )
            np.testing.assert_allclose(shorter, maps[:count], rtol=1e-5, atol=1e-6)
    assert compilations() >= 12
    assert len(cleared) > 2
    assert _compiled._compiled < 6 + 10


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux counts memory maps")
def test_dropped_programs_free_their_memory_maps(small, monkeypatch):
    def maps():
        return len(Path("/proc/self/maps").read_text().splitlines())

    targets = np.zeros(1, int)
    before = maps()
    for side in range(8, 28):
        attribution.gradient(small, np.ones((1, side, 7, 3), np.float32), targets)
    many = maps()
    monkeypatch.setattr(_compiled, "_MOST_PROGRAMS", 1)
    attribution.gradient(small, np.ones((1, 7, 7, 3), np.float32), targets)
    assert many - before > 20
    assert maps() < many - 20


# --- chunk_size="auto" ---------------------------------------------------------------------------


def test_auto_halves_until_it_fits_and_says_so(monkeypatch):
    monkeypatch.setattr(_memory, "_MOST", 16)
    images = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
    targets = np.zeros(3, int)
    options = {"window": 2, "stride": 2}
    expected = attribution.occlusion(only_at_most(99), images, targets, **options)
    with pytest.warns(UserWarning, match="images in flight do not fit") as told:
        found = attribution.occlusion(
            only_at_most(4), images, targets, **options, chunk_size="auto"
        )
    said = [str(one.message) for one in told if "in flight" in str(one.message)]
    start = 'chunk_size="auto": '
    assert [text.removeprefix(start).split()[0] for text in said] == ["16", "8"]
    assert said[-1].endswith("trying 4")
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_what_does_not_fit_says_what_to_do():
    images, targets = np.ones((2, 6, 6, 3), np.float32), np.zeros(2, int)
    words = 'does not hold chunk_size=32 images in flight .*take a smaller chunk_size, or "auto"'
    with refuses(words, MemoryError):
        attribution.occlusion(only_at_most(4), images, targets, window=2, stride=2)
    with (
        pytest.warns(UserWarning, match="images in flight"),
        refuses("does not hold one image in flight", MemoryError),
    ):
        attribution.occlusion(
            only_at_most(0), images, targets, window=2, stride=2, chunk_size="auto"
        )


@pytest.mark.parametrize(("free", "most"), [(2**20, 1), (2**23, 16), (2**40, 256)])
def test_auto_goes_by_the_free_memory(small, monkeypatch, free, most):
    """An image and its gradient take half a mebibyte or so; what is free decides."""
    monkeypatch.setattr(_memory, "_free", lambda: free)
    taken = []
    reckon = _memory.fitting_chunk
    monkeypatch.setattr(
        "practical._jit.fitting_chunk",
        lambda *args: taken.append(reckon(*args)) or taken[-1],
    )
    images = np.random.default_rng(0).random((3, 90, 90 + most, 3), np.float32)  # a new shape
    found = attribution.gradient(small, images, np.zeros(3, int), chunk_size="auto")
    assert taken
    assert taken[0] <= most
    assert taken[0] == 256 if free == 2**40 else taken[0] < 256
    expected = attribution.gradient(small, images, np.zeros(3, int))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("group", "limits", "expected"),
    [
        ("", {}, 8 * 2**30),
        ("job/step", {"job/step": "max", "job": 2**30}, 2**30 - 300 + 100),
        ("job/step", {"job/step": 2**29, "job": 2**30}, 2**29 - 300 + 100),
        ("", {".": 2**28}, 2**28 - 300 + 100),  # a container sees its own group as the root
    ],
)
def test_a_containers_limit_is_what_is_free(tmp_path, monkeypatch, group, limits, expected):
    monkeypatch.setattr(_memory, "_ROOT", tmp_path)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable:  {8 * 2**20} kB\n")
    (tmp_path / "proc/self/cgroup").write_text(f"0::/{group}\n")
    for name, limit in limits.items():
        folder = tmp_path / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("300\n")
        (folder / "memory.stat").write_text("anon 200\ninactive_file 100\n")
    assert _memory._free() == expected


def test_a_system_that_does_not_say_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "_ROOT", tmp_path)
    assert _memory._free() == 4 * 2**30


def test_the_reckoning_is_above_what_xla_reserves(small):
    """It holds the result of every line, of which XLA makes many at once."""
    images, targets = jnp.ones((4, 40, 40, 3)), jnp.zeros(4, int)

    def core(model, images, targets, *, chunk_size):
        return attribution.gradients._gradient_core(model, images, targets, chunk_size=chunk_size)

    program = jax.jit(core, static_argnames="chunk_size")
    reserved = program.lower(small, images, targets, chunk_size=4).compile().memory_analysis()
    reckoned = _memory._peak(
        jax.make_jaxpr(lambda *a: core(*a, chunk_size=4))(small, images, targets).jaxpr
    )
    assert reserved.temp_size_in_bytes < reckoned < 8 * reserved.temp_size_in_bytes


def test_auto_works_in_somebodys_own_jit(small):
    images, targets = np.ones((2, 6, 6, 3), np.float32), np.zeros(2, int)
    inside = jax.jit(lambda i: attribution.gradient(small, i, targets, chunk_size="auto"))
    np.testing.assert_allclose(
        inside(images), attribution.gradient(small, images, targets), rtol=1e-6
    )


def test_auto_in_a_metric(small):
    images, targets = np.random.default_rng(0).random((2, 6, 6, 3), np.float32), np.zeros(2, int)
    heat = images.sum(-1)
    found = metrics.deletion(small, images, targets, heat, chunk_size="auto").auc
    np.testing.assert_allclose(found, metrics.deletion(small, images, targets, heat).auc, rtol=1e-6)


# --- precision -----------------------------------------------------------------------------------


def precisions(function, *arguments):
    """Return the precisions of all products in the program of a function."""
    found = []

    def look(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("dot_general", "conv_general_dilated"):
                found.append(equation.params["precision"])
            for inner in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")
            ):
                look(getattr(inner, "jaxpr", inner)) if hasattr(inner, "jaxpr") else None

    look(jax.make_jaxpr(function)(*arguments).jaxpr)
    return {str(one) for one in found}


def test_products_are_exact_unless_one_asks_for_less(resnet):
    images, targets = jnp.ones((1, 24, 24, 3)), np.zeros(1, int)

    def program(images):
        return attribution.gradient(resnet, images, targets)

    highest, high = (str((one, one)) for one in (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGH))
    assert precisions(program, images) == {highest}
    with jax.default_matmul_precision("tensorfloat32"):
        assert precisions(lambda images: program(images), images) == {high}
    # A student's own gradient, which JAX traces when the model's function has returned.
    own = jax.grad(lambda images: resnet(images).sum())
    assert precisions(own, images) == {highest}
    with jax.default_matmul_precision("tensorfloat32"):
        assert precisions(lambda images: own(images), images) == {high}
    reduced = models.with_precision(resnet, "tensorfloat32")
    hidden = precisions(lambda i: attribution.occlusion(reduced, i, targets, window=12), images)
    assert hidden == {high}


def test_a_model_in_bfloat16(resnet):
    images = np.random.default_rng(0).random((4, 24, 24, 3), np.float32)
    exact = np.asarray(resnet(images))
    rounded = models.with_precision(resnet, "bfloat16")
    found = rounded(images)
    assert found.dtype == jnp.float32
    apart = np.abs(found - exact).max() / np.abs(exact).max()
    assert 1e-4 < apart < 3e-2  # seven bits, a few layers
    inside = str(jax.make_jaxpr(rounded)(images))
    assert "bf16[4,24,24" in inside, "maps are not kept in bfloat16"
    heat = np.asarray(attribution.saliency(resnet, images, np.zeros(4, int)))
    curves = [metrics.deletion(m, images, np.zeros(4, int), heat).auc for m in (resnet, rounded)]
    np.testing.assert_allclose(*curves, atol=2e-2)
    same = models.with_precision(resnet, "float32")(images)
    np.testing.assert_array_equal(same, exact)


def test_precisions_have_names(resnet):
    with refuses("precision must be one of float32, tensorfloat32, bfloat16, got 'float16'"):
        models.with_precision(resnet, "float16")
    with refuses("model must be callable", TypeError):
        models.with_precision(3, "bfloat16")


# --- kept for the next process -------------------------------------------------------------------

_PROGRAM = """
import sys
import jax, numpy as np
import practical
assert not jax._src.xla_bridge.backends_are_initialized(), "importing initialised a device"
practical.keep_compiled()
from practical import attribution, models
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
model = models.new_resnet(("a", "b"), key=jax.random.key(0), stage_sizes=(1,), widths=(4,), stem_width=4)
maps = attribution.saliency(model, np.ones((2, 16, 16, 3), np.float32), np.zeros(2, int))
misses = hits.count("/jax/compilation_cache/cache_misses")
print(misses, hits.count("/jax/compilation_cache/cache_hits"), float(maps.sum()))
print(jax.config.jax_compilation_cache_dir)
"""  # noqa: E501


def in_a_process(home: Path, **environment: str) -> tuple[int, int, str, str, str]:
    given = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], cwd=ROOT, text=True, capture_output=True,
        env={**given, "PRACTICAL_HOME": str(home), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (misses, hits, total), folder = done.stdout.splitlines()[0].split(), done.stdout.splitlines()[1]
    return int(misses), int(hits), total, folder, done.stderr


def test_the_second_process_compiles_nothing(tmp_path):
    misses, hits, total, folder, _ = in_a_process(tmp_path / "home")
    assert misses > 0
    assert hits < misses
    assert Path(folder).is_relative_to(tmp_path / "home/compiled/original")
    again = in_a_process(tmp_path / "home")
    assert again[0] == 0
    assert again[1] >= misses
    assert again[2] == total

    # Half of a program, or nothing of it: it is compiled again, and kept again.
    for number, entry in enumerate(sorted(Path(folder).glob("*-cache"))):
        entry.write_bytes(entry.read_bytes()[: number % 2 * entry.stat().st_size // 2])
    damaged = in_a_process(tmp_path / "home")
    assert damaged[0] == misses
    assert damaged[2] == total
    assert "compilation cache" not in damaged[4]
    healed = in_a_process(tmp_path / "home")
    assert healed[0] == 0
    assert healed[2] == total

    # A folder that is set already stays.
    mine = tmp_path / "mine"
    assert in_a_process(tmp_path / "home", JAX_COMPILATION_CACHE_DIR=str(mine))[3] == str(mine)


def test_a_home_that_cannot_be_written_costs_a_warning(tmp_path):
    (tmp_path / "home").write_text("a file")
    *_, total, _, said = in_a_process(tmp_path / "home")
    assert float(total) > 0
    assert "persistent compilation cache" in said.lower() or "UserWarning" in said
