"""The rules of ../shared/style.md for public functions, kept by looking at them."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "practical"
MODULES = {
    name: importlib.import_module(f"practical.{name}")
    for name in (
        "attribution", "augmentation", "baselines", "bias", "data", "data.shapes", "evaluation",
        "explainfix", "metrics", "models", "plotting", "training", "widgets",
    )
}  # fmt: skip
# What a call cannot do without, by name: no default would be right.
KEYWORDS_WITHOUT_DEFAULT = {
    "epochs", "key", "signed", "classes", "top", "left", "height", "width"
}  # fmt: skip
# What is passed by position and may be left out.
POSITIONS_WITH_DEFAULT = {
    "load_dataset": {"split"},
    "packaged_study": {"dataset"},
    "per_class": {"count"},
    "plot_images": {"titles"},
    "plot_heatmap": {"image"},
    "plot_methods": {"titles"},
    "main": {"arguments"},
    "plant": {"way"},
    "ghaar": {"a"},
    "ghaar4": {"a"},
    "steered_dct": {"powers"},
}
VARIADIC = {"calls", "heatmap"}  # METHODS' own: they pass a method's options on  # fmt: skip


def public_names(module) -> list[str]:
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def public_functions():
    for where, module in MODULES.items():
        for name in public_names(module):
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield pytest.param(value, id=f"{where}.{name}")
            elif inspect.isclass(value):
                for method, function in vars(value).items():
                    function = getattr(function, "__func__", function)
                    if not method.startswith("_") and inspect.isfunction(function):
                        yield pytest.param(function, id=f"{where}.{name}.{method}")


every_function = pytest.mark.parametrize("function", list(public_functions()))
MEASURED = [  # explanations and metrics: the style's rules are strictest for them
    pytest.param(value, id=f"{where}.{name}")
    for where in ("attribution", "metrics")
    for name in MODULES[where].__all__
    if inspect.isfunction(value := getattr(MODULES[where], name)) and name != "methods_table"
]
# What a measure is of, where it is not a model's answer for some images.
FIRST = {
    "heatmap": ["attribution"], "superpixels": ["images"], "bootstrap_interval": ["values"],
    "holm": ["p_values"], "permutation_test": ["first", "second"],
    "rank_agreement": ["first", "second"], "sparseness": ["heatmaps"], "entropy": ["heatmaps"],
    "pointing_game": ["heatmaps", "masks"], "relevance_mass": ["heatmaps", "masks"],
    "relevance_rank": ["heatmaps", "masks"], "focus": ["heatmaps", "masks"],
    "classifier_layers": ["model"], "permute_entries": ["tree"],
}  # fmt: skip


@every_function
def test_options_are_keywords_with_defaults(function):
    for parameter in inspect.signature(function).parameters.values():
        optional = parameter.default is not parameter.empty
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert optional or parameter.name in KEYWORDS_WITHOUT_DEFAULT, parameter
        elif optional:
            assert parameter.name in POSITIONS_WITH_DEFAULT.get(function.__name__, ()), parameter
        assert parameter.kind is not parameter.VAR_POSITIONAL
        assert parameter.kind is not parameter.VAR_KEYWORD or function.__name__ in VARIADIC


def sections(function) -> dict[str, str]:
    """Return a Google docstring's parts by their heading; "" is what comes before the first."""
    parts = re.split(r"^(Args|Returns|Raises|References):$", inspect.getdoc(function), flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


@every_function
def test_docstrings(function):
    parts = sections(function)
    summary = parts[""].split("\n\n")[0]
    assert summary.strip().endswith((".", "?"))
    listed = re.findall(r"^    (\w+):", parts.get("Args", ""), flags=re.M)
    taken = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    assert set(listed) <= set(taken), "an argument is described that does not exist"
    if listed:
        assert [name for name in taken if name in listed] == listed, "in another order"


@pytest.mark.parametrize("function", MEASURED)
def test_docstrings_of_explanations_and_metrics(function):
    parts = sections(function)
    # Each argument is described, but for what the summary line is about.
    listed = re.findall(r"^    (\w+):", parts["Args"], flags=re.M)
    assert listed == list(inspect.signature(function).parameters)
    assert "ValueError" in parts["Raises"]
    assert "Returns" in parts or parts[""].startswith("Return ")
    if function.__name__ not in ("gradient", "heatmap"):  # no paper's: a derivative, a sum
        assert re.search(r", (1|2)\d{3}|\w+ (1|2)\d{3}", parts["References"])  # a year


@pytest.mark.parametrize("function", MEASURED)
def test_one_call_shape(function):
    names = list(inspect.signature(function).parameters)
    first = FIRST.get(function.__name__, ["model", "images", "targets"])
    assert names[: len(first)] == first
    defaults = {
        name: p.default
        for name, p in inspect.signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    }
    assert defaults.get("chunk_size", 32) == 32
    assert defaults.get("key") is None


def test_public_names_exist():
    import practical

    for name in practical.__all__:
        assert getattr(practical, name) is not None
        assert name in dir(practical)
    with pytest.raises(AttributeError, match="module 'practical' has no attribute 'atribution'"):
        practical.atribution  # noqa: B018
    for module in MODULES.values():
        for name in public_names(module):
            assert hasattr(module, name)
    assert set(MODULES["attribution"].METHODS) <= set(MODULES["attribution"].__all__)
    for package in ("attribution", "metrics", "models", "data"):
        assert list(MODULES[package].__all__) == sorted(
            MODULES[package].__all__, key=lambda n: (not n.isupper(), n[0].islower(), n)
        )


def test_the_readme_of_the_package_runs_in_the_order_it_says():
    import practical

    text = practical.__doc__
    for name in re.findall(r"(attribution|metrics|plotting)\.(\w+)\(", text):
        assert hasattr(MODULES[name[0]], name[1])


def test_importing_is_cheap_and_pulls_in_no_other_framework():
    code = """
import sys, practical
assert "jax" not in sys.modules and "matplotlib" not in sys.modules, "import practical is lazy"
from practical import *
import practical.data.shapes, practical.data.folder, practical.data.imagenette, practical.models.hub
for other in ("tensorflow", "torch", "torchvision", "keras"):
    assert other not in sys.modules, other
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "importing started a device"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# What each part may import of the package; the arrows of ../shared/design.md.
BASE = {
    "_arguments", "_bootstrap", "_files", "_inputs", "_jit", "_chunks", "_keys", "_names",
    "_outputs", "_programs",
}  # fmt: skip
ALLOWED = {
    "_files": set(),
    "_arguments": {"_compiled"},
    "_jit": {"_arguments", "_compiled", "_memory", "_rows", "_sharding"},
    "_memory": {"_programs"},
    "_programs": set(),
    "_rows": {"_compiled"},
    "_sharding": set(),
    "_compiled": {"_files"},
    "_chunks": set(),
    "_bootstrap": set(),
    "_checkpoint": {"_files"},
    "_study": {"_arguments", "_files", "_jit"},
    "_inputs": {"_arguments", "_jit", "_sharding"},
    "_keys": set(),
    "_names": set(),
    "_outputs": {"_arguments", "_inputs", "_jit"},
    "baselines": BASE,
    "_download": {"_files"},
    "data": BASE | {"_download"},
    "models": BASE | {"_download", "data"},
    "augmentation": set(),
    "training": BASE | {"_checkpoint", "_command", "_compiled", "augmentation", "data", "models"},
    "explainfix": BASE | {"_study", "augmentation", "data", "models", "plotting", "training"},
    "attribution": BASE | {"baselines", "models"},
    "metrics": BASE | {"baselines", "models", "attribution"},
    "bias": BASE
    | {"_study", "attribution", "baselines", "data", "explainfix", "metrics", "models", "plotting"}
    | {"training"},
    "plotting": BASE | {"metrics"},
    "evaluation": BASE
    | {"_sharding", "_study", "attribution", "data", "metrics", "models", "plotting"},
    "widgets": BASE | {"attribution", "baselines", "metrics", "models", "plotting"},
}


def imports_of(path: Path) -> set[str]:
    """Return the parts of the package that a file imports, inside functions as well."""
    found = set()
    tree = ast.parse(path.read_text())
    # What only a type checker imports is no import.
    tree.body = [node for node in tree.body if not _only_for_types(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module]
            if node.module == "practical":
                names = [f"practical.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("practical.")}
    return found


def _only_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def test_imports_run_one_way():
    parts = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).with_suffix("").parts[0]
        parts.setdefault(part, set()).update(imports_of(path))
    assert parts.pop("__init__") == {"_command"}
    for part, found in parts.items():
        assert "grading" not in found - {part}, f"{part} imports grading"
        if part in ALLOWED:  # later parts add their own line
            assert found - {part} <= ALLOWED[part], part
    assert set(ALLOWED) <= set(parts)
    assert "attribution" in imports_of(Path(__file__).with_name("test_jit.py"))  # it can find some


def test_modules_are_short():
    for path in PACKAGE.rglob("*.py"):
        lines = len(path.read_text().splitlines())
        assert lines < 400, f"{path.name} has {lines} lines; about 300 is the house's limit"
