"""The first notebook, executed whole: it runs, and compiles nothing again and again.

It takes five minutes, so it has a command of its own: make test ARGS=tests/whole_notebook.py
"""

import jax
import pytest

from practical.models import load_model, new_resnet
from tests.conftest import ROOT
from tests.test_notebooks import compilations


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


def test_no_loop_compiles_for_ever_other_arrays(executed):
    _, found = executed
    assert {name: n for name, n in found["kinds"].items() if n > compilations.KINDS} == {}


def test_its_programs_are_kept(executed):
    home, found = executed
    assert len(list((home / "compiled").rglob("jit_*-cache"))) > 0.9 * found["programs"]
