"""environment.yml, pyproject.toml and constraints.txt agree, also with what is installed."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
LARGEST = 5_000_000  # bytes


def pin_lines():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins():
    return {name: version for name, _, version in (line.partition("==") for line in pin_lines())}


def declared():
    return [
        Requirement(one) for group in (PROJECT["dependencies"], *EXTRAS.values()) for one in group
    ]


def git(*arguments):
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"not a git checkout: {done.stderr.strip()}")
    return done.stdout


def tracked():
    return [ROOT / name for name in git("ls-files", "-z").split("\0") if name]


# --- the three files -----------------------------------------------------------------------------


def test_each_constraint_is_one_exact_version():
    for line in pin_lines():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.+]*", line), line
    names = [line.partition("==")[0] for line in pin_lines()]
    assert names == sorted(set(names)), "sorted by name, and each once"


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_each_dependency_is_pinned(requirement):
    name = canonicalize_name(requirement.name)
    assert name in pins(), f"{name} is in pyproject.toml and not in constraints.txt: make lock"
    assert Version(pins()[name]) in requirement.specifier
    assert requirement.url is None


def test_what_the_issue_promises_is_declared():
    names = {canonicalize_name(Requirement(one).name) for one in PROJECT["dependencies"]}
    assert names >= {
        *("jax", "flax", "optax", "jax-resnet", "tensorflow-datasets", "importlib-resources"),
        *("matplotlib", "seaborn", "pandas", "jupyterlab", "pytest"),
    }
    assert not names & {"tensorflow", "tensorflow-cpu", "torch", "torchvision"}
    assert not pins().keys() & {"tensorflow", "tensorflow-cpu", "torch", "torchvision"}
    assert set(EXTRAS) == {"cuda12", "cuda13", "dev"}


@pytest.mark.parametrize("cuda", ["cuda12", "cuda13"])
def test_the_cuda_extras_are_pinned_with_what_they_pull_in(cuda):
    (requirement,) = (Requirement(one) for one in EXTRAS[cuda])
    assert (requirement.name, requirement.extras) == ("jax", {cuda})
    assert pins()[f"jax-{cuda}-plugin"] == pins()[f"jax-{cuda}-pjrt"] == pins()["jax"]
    assert pins()["jaxlib"] == pins()["jax"]
    assert f"nvidia-cudnn-cu{cuda[-2:]}" in pins()


def test_conda_installs_the_project_under_the_constraints():
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]
    *packages, by_pip = CONDA["dependencies"]
    assert by_pip == {"pip": ["-c constraints.txt", "-e .[cuda13]"]}
    assert "pip" in packages
    (python,) = (one.partition("=")[2] for one in packages if one.startswith("python="))
    assert python == "3.12"
    assert Version(python) in SpecifierSet(PROJECT["requires-python"])
    assert {one.partition("=")[0] for one in packages} == {"python", "pip"}, "pip has the versions"


@pytest.mark.parametrize("name", ["environment.yml", "pyproject.toml", "constraints.txt"])
def test_no_host_is_named(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|\b(index-url|find-links)\b|@ |\b[\w-]+\.(org|com|io|net)\b", text)


# --- what is installed ---------------------------------------------------------------------------


def in_our_environment():
    return Path(sys.prefix).resolve() == (ROOT / ".venv").resolve()


@pytest.mark.skipif(not in_our_environment(), reason="only .venv promises the pinned versions")
def test_installed_versions_are_the_pinned_ones():
    # Not sys.path: importing setuptools puts a folder of packages of its own on it.
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    installed = {
        canonicalize_name(one.metadata["Name"]): one.version
        for one in importlib.metadata.distributions(path=list(places))
    }
    for name in ("pip", "setuptools", "dd2412-practical"):  # venv's own, and ours
        installed.pop(name, None)
    wrong = {name: v for name, v in installed.items() if pins().get(name) != v}
    assert not wrong, f"not what constraints.txt says: {wrong}. Mend it: make distclean env"
    missing = {
        canonicalize_name(one.name)
        for one in map(Requirement, [*PROJECT["dependencies"], *EXTRAS["dev"]])
    } - installed.keys()
    assert not missing


def test_importing_the_package_is_cheap_and_starts_nothing():
    code = """
import json, sys
import practical
from jax._src import xla_bridge
heavy = {"tensorflow", "torch", "torchvision", "jupyterlab"} & set(sys.modules)
print(json.dumps([sorted(heavy), list(xla_bridge._backends)]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    heavy, backends = json.loads(done.stdout.splitlines()[-1])
    assert heavy == []
    assert backends == [], "import practical chose a device: a jnp array at module level?"


# --- what is committed ---------------------------------------------------------------------------


def test_no_large_file_is_tracked():
    large = {
        str(p): p.stat().st_size for p in tracked() if p.is_file() and p.stat().st_size > LARGEST
    }
    assert not large


def test_committed_notebooks_have_no_outputs():
    """Looks at what git has staged: a student's own run of a notebook is no failure."""
    notebooks = [path for path in tracked() if path.suffix == ".ipynb"]
    for path in notebooks:
        notebook = json.loads(git("show", f":{path.relative_to(ROOT)}"))
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code), path.name


def test_the_embedded_weights_belong_to_the_package():
    weights = ROOT / "practical/models/weights"
    ignored = subprocess.run(
        ["git", "-C", str(ROOT), "check-ignore", "-q", str(weights / "shapes.safetensors")]
    )
    assert ignored.returncode != 0, ".gitignore would keep the weights out of the package"
