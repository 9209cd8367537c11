"""Facts about the package as a whole, read from its files."""

import ast
import graphlib
import importlib
import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import pytest

import keras_mmrel
import keras_mmrel.contract
from tests.conftest import ONE_BACKEND

# Files are the same on every backend.
pytestmark = pytest.mark.one_backend

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "keras_mmrel"
FRAMEWORKS = {"jax", "jaxlib", "tensorflow", "torch"}
# Loaded where they are used, so never at the top of a module.
OPTIONAL = {
    "PIL",
    "av",
    "h5py",
    "keras_hub",
    "matplotlib",
    "pandas",
    "rdata",
    "scipy",
    "sklearn",
    "soundfile",
    "tensorflow_io",
    "tokenizers",
    "yaml",
}
# Made to be subclassed: no file holds an instance of them.
BASES = {"Corruption", "MultimodalModel"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCES = sorted(PACKAGE.rglob("*.py"))
# Homes of many small things that belong together, by design.
FAMILIES = {PACKAGE / "constraints.py", PACKAGE / "contract.py"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def imports_of(path, tree=None):
    """Names of all modules that the nodes of `tree`, or a file, import.

    `from a import b` counts as `a.b` where that is a module of the package,
    and as `a` elsewhere, but `from keras import src` is always `keras.src`.
    """
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names = set()
    for node in ast.walk(tree or ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package[: len(package) - node.level + 1], base]
                ).rstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                known = full in MODULES or full == "keras.src"
                names.add(full if known else base)
    return names


def top_level_imports_of(path):
    """Names of the modules that loading the file imports."""
    tree = ast.parse(path.read_text())
    nodes, found = list(tree.body), []
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes.extend(ast.iter_child_nodes(node))
    return imports_of(path, ast.Module(body=found, type_ignores=[]))


def subpackage(name):
    """`keras_mmrel.layers.feature_gate` -> `layers`; the root -> an empty."""
    return (name.split(".") + [""])[1]


def subpackage_imports():
    """Subpackage -> the other subpackages that it imports."""
    graph = {}
    for name, path in MODULES.items():
        if name == "keras_mmrel":
            continue
        own = graph.setdefault(subpackage(name), set())
        own |= {
            subpackage(imported)
            for imported in imports_of(path)
            if imported.split(".")[0] == "keras_mmrel"
        } - {subpackage(name)}
    return graph


def loaded_by(statement):
    """Top-level names in `sys.modules` of a new process after a statement."""
    code = (
        f"{statement}\nimport json, sys\n"
        "print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def public_objects():
    """Qualified name -> each class and function in an `__all__`."""
    found = {}
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            module = importlib.import_module(name)
            for public in module.__all__:
                value = getattr(module, public)
                if inspect.isclass(value) or inspect.isfunction(value):
                    found[f"{name}.{public}"] = value
    return found


def test_version_is_the_one_of_the_project_file():
    assert keras_mmrel.__version__ == PROJECT["project"]["version"]


def test_version_is_the_one_of_the_installed_metadata():
    try:
        version = importlib.metadata.version("keras-mmrel")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("keras-mmrel runs from its folder, not installed.")
    assert version == keras_mmrel.__version__


def test_changelog_has_an_entry_for_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"\n## {keras_mmrel.__version__}" in changelog


def test_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_importing_the_package_loads_nothing_that_keras_does_not():
    extra = loaded_by("import keras_mmrel") - loaded_by("import keras")
    assert extra - sys.stdlib_module_names == {"keras_mmrel"}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module_keeps_to_keras_and_loads_the_optional_late(name):
    path = MODULES[name]
    imported = imports_of(path)
    private = {i for i in imported if i.startswith("keras.src")}
    assert not private
    if subpackage(name) != "backend":
        assert not FRAMEWORKS & {i.split(".")[0] for i in imported}
    at_the_top = {i.split(".")[0] for i in top_level_imports_of(path)}
    assert not OPTIONAL & at_the_top


def test_the_whole_check_runs_the_tests_of_one_backend():
    check = (ROOT / ".ci/run").read_text()
    assert check.splitlines()[-1] == "bash scripts/test.sh"
    assert "BACKENDS" not in check
    loop = re.search(
        r"\$\{BACKENDS:-(.*?)\}",
        (ROOT / "scripts/test.sh").read_text(),
    )
    assert sorted(loop[1].split()) == ["jax", "tensorflow", "torch"]
    assert ONE_BACKEND in loop[1].split()


def test_private_keras_is_not_reached_by_attribute():
    reached = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr == "src"
        and isinstance(node.value, ast.Name)
        and node.value.id == "keras"
    ]
    assert not reached


def test_subpackages_import_each_other_one_way():
    # Raises CycleError, which names the cycle.
    assert list(graphlib.TopologicalSorter(subpackage_imports()).static_order())


def test_no_module_imports_from_the_root_namespace():
    graph = subpackage_imports()
    assert not [name for name, others in graph.items() if "" in others]


@pytest.mark.parametrize(
    ("below", "above"),
    [
        ("layers", {"models", "modulations", "evaluation", "callbacks"}),
        ("losses", {"layers", "models", "modulations", "evaluation"}),
        ("metrics", {"layers", "models", "modulations", "evaluation"}),
        ("encoders", {"models", "modulations", "evaluation", "callbacks"}),
        ("modulations", {"models", "evaluation", "callbacks"}),
        ("models", {"evaluation", "datasets"}),
        ("media", {"models", "layers", "evaluation", "encoders", "datasets"}),
        ("corruptions", {"models", "layers", "evaluation", "datasets"}),
        ("datasets", {"models", "layers", "evaluation", "encoders"}),
        ("evaluation", {"models", "layers", "modulations", "encoders"}),
    ],
)
def test_lower_subpackage_does_not_import_a_higher_one(below, above):
    assert not subpackage_imports().get(below, set()) & above


def test_backend_imports_nothing_of_the_package():
    assert subpackage_imports()["backend"] == set()


def code_lines(source, node):
    """Lines of a class or function without docstrings, comments, blanks."""
    documented = set()
    for inner in ast.walk(node):
        if isinstance(inner, DEFINITIONS) and ast.get_docstring(inner):
            text = inner.body[0]
            documented |= set(range(text.lineno, text.end_lineno + 1))
    lines = source.splitlines()
    return sum(
        number not in documented
        and lines[number - 1].strip() != ""
        and not lines[number - 1].strip().startswith("#")
        for number in range(node.lineno, node.end_lineno + 1)
    )


@pytest.mark.parametrize(
    ("kinds", "aim", "limit"),
    [
        pytest.param((ast.ClassDef,), 300, 340, id="class"),
        pytest.param(FUNCTIONS, 60, 80, id="function"),
    ],
)
def test_a_reader_can_hold_each_class_and_function_in_mind(kinds, aim, limit):
    sizes = {}
    for path in SOURCES:
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, kinds):
                name = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                sizes[name] = code_lines(source, node)
    assert sizes
    above_the_aim = {name: n for name, n in sizes.items() if n > aim}
    assert max(sizes.values()) <= limit, above_the_aim


def test_readme_has_at_most_120_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_less_than_a_tenth_of_the_annotated_arguments_are_any():
    annotations = [
        argument.annotation
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, FUNCTIONS)
        for argument in (
            *node.args.posonlyargs,
            *node.args.args,
            *node.args.kwonlyargs,
        )
        if argument.annotation is not None
    ]
    bare = [a for a in annotations if ast.unparse(a) == "Any"]
    assert len(bare) < 0.1 * len(annotations)


def docstrings_of(tree):
    """The nodes that are docstrings."""
    return {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, (*DEFINITIONS, ast.Module))
        and ast.get_docstring(node) is not None
    }


def test_the_key_of_the_mask_is_written_once():
    written = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        documented = docstrings_of(tree)
        written += [
            str(path.relative_to(ROOT))
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and node.value == keras_mmrel.contract.MASK
            and node not in documented
        ]
    assert written == ["keras_mmrel/contract.py"]


def test_models_outputs_are_read_by_the_constants_of_the_contract():
    """Neither `outputs["logits"]`, nor `"logits" in outputs`."""
    keys = {*keras_mmrel.contract.OUTPUTS, keras_mmrel.contract.TRAINING_RECORD}
    written = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Subscript):
                source, key = node.value, node.slice
            elif isinstance(node, ast.Compare):
                source, key = node.comparators[0], node.left
            else:
                continue
            literal = isinstance(key, ast.Constant) and key.value in keys
            text = ast.unparse(source)
            if literal and re.search(r"outputs$|predict\(", text):
                written.add(str(path.relative_to(ROOT)))
    assert written == set()


def test_private_names_of_keras_stand_in_one_file():
    """Nothing else reaches into a `model` or an `optimizer`."""
    reached = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and re.fullmatch("_[^_].*", node.attr)
        and ast.unparse(node.value).split(".")[-1] in ("model", "optimizer")
    }
    home = "keras_mmrel/backend/upstream.py"
    assert any(place.startswith(home) for place in reached)
    assert {p for p in reached if not p.startswith(home)} == set()


def test_private_names_of_keras_are_no_strings_elsewhere():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    callback = keras.callbacks.Callback()
    callback.set_model(model)
    private = {
        name
        for owner in (model, model.layers[0], model.optimizer, callback)
        for name in dir(owner)
        if re.fullmatch("_[^_].*", name)
    }
    home = PACKAGE / "backend" / "upstream.py"
    written = set()
    for path in set(SOURCES) - {home}:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        # `f"{name}_kernel"` is a name of our own.
        ends = {
            part
            for node in nodes
            if isinstance(node, ast.JoinedStr)
            for part in node.values
        }
        written |= {
            f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
            for node in set(nodes) - ends
            if isinstance(node, ast.Constant) and node.value in private
        }
    assert written == set()


def test_a_public_module_holds_one_public_class_that_it_is_named_after():
    wrong = {}
    for name, path in MODULES.items():
        if path.stem.startswith("_") or path in FAMILIES:
            continue
        classes = [
            node.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        ]
        if [c.lower() for c in classes] not in (
            [],
            [path.stem.replace("_", "")],
        ):
            wrong[name] = classes
    assert wrong == {}


def test_every_public_name_has_a_docstring():
    objects = public_objects()
    assert objects
    assert [n for n, value in objects.items() if not value.__doc__] == []


def test_every_public_serialisable_class_is_registered_under_the_package():
    names = {
        value.__name__: keras.saving.get_registered_name(value)
        for value in public_objects().values()
        if hasattr(value, "get_config") and value.__name__ not in BASES
    }
    assert names
    assert names == {name: f"keras_mmrel>{name}" for name in names}
