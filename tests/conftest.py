"""What all tests share: annotations checked at run time, no open figures, small models, data."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

from tests.oracles import Small

os.environ["MPLBACKEND"] = "Agg"
# Most of the tests' time goes to compiling small programs that run once. Without optimisation, by
# the older of XLA's two ways to write loops, and in one piece, that takes a third of the time; what
# is computed is the same but for rounding. Benchmarks and users run with all of it.
_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()

# A suite that runs in the background ignores Ctrl-C, and so would the commands that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# Shapes and types in annotations are checked while the tests run, so this comes before any import
# of practical. `tests.oracles.refuses` turns it off where our own messages are tested. Shapes are
# drawn unchecked: a scene is hundreds of small calls, and would take twice as long.
jaxtyping.install_import_hook(
    [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "practical").rglob("*.py")
        if path.stem not in ("__init__", "shapes")
    ],
    "tests.oracles.typechecker",
)

# The same examples each time: a test that is red today was not green by luck yesterday.
hypothesis.settings.register_profile(
    "practical", deadline=None, derandomize=True, database=None, max_examples=15
)
hypothesis.settings.load_profile("practical")

_compiled: list[str] = []


def _listen(event: str, seconds: float, **_) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


@pytest.fixture
def compilations(monkeypatch):
    """A function that returns how many programs XLA compiled since it was last called."""
    from practical import _compiled as programs

    monkeypatch.setattr(programs, "_compiled", 0)  # none are dropped while they are counted

    def count() -> int:
        number = len(_compiled)
        _compiled.clear()
        return number

    count()
    return count


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def sandboxed() -> None:
    """Skip a test where the grader's sandbox cannot be had, as in most containers."""
    from practical.grading import sandbox

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        sandbox.stage(Path(folder))
        if problem := sandbox.problem("bwrap", Path(folder)):
            pytest.skip(f"there is no sandbox: {problem}")


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """The arrays of ../shared/golden: PyTorch's, Captum's and ExplainFix's answers."""
    path = SHARED / "golden/torch_reference.npz"
    if not path.is_file():
        pytest.skip(f"the reference answers are not here: {path}")
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="session")
def small() -> Small:
    """A curved model with features and head: a convolution, ReLU, pool, and a dense layer."""
    return Small.random(0)


@pytest.fixture(scope="session")
def resnet():
    """A ResNet of one block with random weights, for images of 24x24 pixels."""
    from practical.models import new_resnet

    return new_resnet(
        ("a", "b", "c"), key=jax.random.key(1), stage_sizes=(1,), widths=(8,), stem_width=8,
        stem_kernel=3,
    )  # fmt: skip


@pytest.fixture(scope="session")
def batch():
    """Five images of 12x10 pixels and their targets among three classes."""
    rng = np.random.default_rng(5)
    return rng.random((5, 12, 10, 3), np.float32), np.array([0, 2, 1, 1, 0])
