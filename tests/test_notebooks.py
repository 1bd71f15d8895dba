"""What counts a notebook's programs sees a loop that compiles anew, and a cell that fails."""

import sys

import pytest

from tests.conftest import ROOT

if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.append(str(ROOT / "benchmarks"))

import compilations


def test_a_loop_that_compiles_anew_is_seen(tmp_path):
    source = tmp_path / "loop.py"
    source.write_text(
        "# %%\nimport jax\nfrom practical import keep_compiled\nkeep_compiled()\n"
        "for i in range(6):\n    jax.jit(lambda x: 3 * x - 1)(1.0)\n"
    )
    found = compilations.in_a_process(source, tmp_path)
    assert max(found["again"].values()) == 5 > compilations.MOST


def test_a_loop_whose_arrays_have_ever_other_shapes_is_seen(tmp_path):
    """Our own functions fill up shorter batches, but for much shorter ones."""
    source = tmp_path / "loop.py"
    source.write_text(
        "# %%\nimport jax\nimport numpy as np\n\n@jax.jit\ndef triple(x):\n    return 3 * x\n\n"
        "for i in range(6):\n    triple(np.zeros(i, np.float32))\n"
    )
    found = compilations.in_a_process(source, tmp_path)
    assert found["kinds"]["jit(triple)"] == 6
    assert found["again"] == {}


def test_a_cell_that_fails_is_shown(tmp_path):
    (tmp_path / "broken.py").write_text("# %%\n1 / 0\n")
    with pytest.raises(RuntimeError, match=r"broken.py failed:[\s\S]*ZeroDivisionError"):
        compilations.in_a_process(tmp_path / "broken.py", tmp_path)
