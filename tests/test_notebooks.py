"""The first notebook, executed whole: it runs, and compiles nothing again and again."""

import sys

import jax
import pytest

from practical.models import load_model, new_resnet
from tests.conftest import ROOT

if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.append(str(ROOT / "benchmarks"))

import compilations


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """What it compiled, with solutions and with a small network that knows nothing."""
    home = tmp_path_factory.mktemp("home")
    # Of one block, so that 30 % of the filters can be pruned before any layer has none left.
    network = new_resnet(
        load_model("shapes").class_names, key=jax.random.key(0), stage_sizes=(1,), widths=(16,),
        stem_width=16,
    )  # fmt: skip
    network.save(home / "network.safetensors")
    source = ROOT / "notebooks/ExplanationMethods.py"
    # With all of XLA's optimisation: half of the time goes to computing.
    options = {"PRACTICAL_MODEL": str(home / "network.safetensors"), "XLA_FLAGS": ""}
    return home, compilations.in_a_process(source, home, **options)


def test_no_loop_compiles_again_what_it_has(executed):
    _, found = executed
    assert found["programs"] > 300  # so they are counted
    assert {key: n for key, n in found["again"].items() if n > compilations.MOST} == {}
    assert found["hits"] < 0.05 * found["programs"]


def test_a_loop_that_compiles_anew_is_seen(tmp_path):
    source = tmp_path / "loop.py"
    source.write_text(
        "# %%\nimport jax\nfrom practical import keep_compiled\nkeep_compiled()\n"
        "for i in range(6):\n    jax.jit(lambda x: 3 * x - 1)(1.0)\n"
    )
    found = compilations.in_a_process(source, tmp_path)
    assert max(found["again"].values()) == 5 > compilations.MOST


def test_a_cell_that_fails_is_shown(tmp_path):
    (tmp_path / "broken.py").write_text("# %%\n1 / 0\n")
    with pytest.raises(RuntimeError, match=r"broken.py failed:[\s\S]*ZeroDivisionError"):
        compilations.in_a_process(tmp_path / "broken.py", tmp_path)


def test_its_programs_are_kept(executed):
    home, found = executed
    assert len(list((home / "compiled").rglob("jit_*-cache"))) > 0.9 * found["programs"]
