"""What counts a notebook's programs sees a loop that compiles anew, and a cell that fails."""

import sys

import pytest

from tests.conftest import ROOT

if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.append(str(ROOT / "benchmarks"))

import compilations


def counted(folder, code):
    """Execute a notebook of one cell, and return what it compiled."""
    source = folder / "notebook.py"
    source.write_text(f"# %%\n{code}")
    return compilations.in_a_process(source, folder)


def test_a_loop_that_compiles_anew_is_seen(tmp_path):
    code = """
import jax
from practical import keep_compiled
keep_compiled()
for i in range(6):
    jax.jit(lambda x: 3 * x - 1)(1.0)
"""
    found = counted(tmp_path, code)
    assert max(found["again"].values()) == 5 > compilations.MOST


def test_a_loop_whose_arrays_have_ever_other_shapes_is_seen(tmp_path):
    code = """
import jax
import numpy as np
def triple(x):
    return 3 * x
compiled = jax.jit(triple)
for i in range(6):
    compiled(np.zeros(i, np.float32))
"""
    found = counted(tmp_path, code)
    assert found["kinds"]["jit(triple)"] == 6
    assert found["again"] == {}


def test_a_cell_that_fails_is_shown(tmp_path):
    with pytest.raises(RuntimeError, match=r"notebook.py failed:[\s\S]*ZeroDivisionError"):
        counted(tmp_path, "1 / 0\n")
