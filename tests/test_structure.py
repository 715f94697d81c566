"""The house rules: files import only from those below them; tests reach inside in one file."""

import ast
import re
from pathlib import Path

import pytest

import sklearn_halrp

PACKAGE = Path(sklearn_halrp.__file__).parent
FILES = {path.stem: ast.parse(path.read_text()) for path in PACKAGE.glob("*.py")}

TESTS = Path(__file__).parent
# They ran once, in the version of the package that wrote their files, and stay as they are.
RECORDS = {f"data/write_format_{number}.py" for number in (1, 2, 3, 4, 5, 6)}


def imports(name):
    """The files of the package that a file imports."""
    found = set()
    for node in ast.walk(FILES[name]):
        if isinstance(node, ast.ImportFrom) and node.module == "sklearn_halrp":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn_halrp."):
            found.add(node.module.split(".")[1])
    return found & set(FILES)


def rows():
    """The rows of the table in CONTRIBUTING.md, from top to bottom: the files in each."""
    text = (TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    text = text.partition("\n## Where things belong\n")[2].partition("\n| to add |")[0]
    cells = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    return [re.findall(r"`(\w+)\.py`", cell) for cell in cells]


def test_every_file_has_its_place_in_the_table():
    assert sorted(name for row in rows() for name in row) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_files_import_only_from_rows_below_their_own(name):
    places = {file: number for number, row in enumerate(rows()) for file in row}
    assert [other for other in imports(name) if places[other] <= places[name]] == []


@pytest.mark.parametrize(
    "name",
    [
        "_low_rank",
        "_ranks",
        "_pruning",
        "_importance",
        "_gradients",
        "_rankings",
        "_layer",
        "_curvature",
        "_weight",
        "_modules",
        "_task",
    ],
)
def test_tensor_mathematics_know_nothing_of_scikit_learn_or_skorch(name):
    text = (PACKAGE / f"{name}.py").read_text()
    assert "sklearn." not in text.replace("sklearn_halrp.", "")
    assert "skorch" not in text


@pytest.mark.parametrize("face", ["_classifier", "_regressor", "_estimator"])
def test_a_face_does_no_tensor_mathematics(face):
    modules = {
        alias.name
        for node in ast.walk(FILES[face])
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert "torch" not in modules


def test_only_public_names_are_public():
    assert sorted(sklearn_halrp.__all__) == [
        "ContinualClassifier",
        "ContinualRegressor",
        "__version__",
        "published_settings",
    ]


def is_private(name):
    return re.fullmatch(r"_[a-zA-Z]\w*(?<!_)", name) is not None  # IPython's _repr_html_ is not


NODES = [node for tree in FILES.values() for node in ast.walk(tree)]
ATTRIBUTES = {
    node.attr
    for node in NODES
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_private(node.attr)
}
METHODS = {
    node.name for node in NODES if isinstance(node, ast.FunctionDef) and is_private(node.name)
}


def reached(text):
    """The private files, attributes and methods of the package that a file of the tests names."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            paths = [node.value] if re.fullmatch(r"[\w.]+", node.value) else []
            found |= {node.value} & ATTRIBUTES
        elif isinstance(node, ast.Attribute):
            paths = []
            found |= {node.attr} & (ATTRIBUTES | METHODS)
        else:
            continue
        for path in paths:
            package, *names = path.split(".")
            if package == "sklearn_halrp":
                found |= set(filter(is_private, names))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from sklearn_halrp._task import Task", True),
        ("from sklearn_halrp import _task", True),
        ("import sklearn_halrp._task as task", True),
        ("monkeypatch.setattr('sklearn_halrp._task.Task', None)", True),
        ("learned._learned.tasks", True),
        ("vars(learned)['_learned']", True),
        ("learned._what_was_learned()", True),
        ("from sklearn_halrp import ContinualClassifier, __version__", False),
        ("from benchmarks.methods._task import train", False),
        ("learned._repr_html_()", False),
        ("task_of(learned, 0)", False),
    ],
)
def test_what_reaches_inside_is_found(text, expected):
    assert bool(reached(text)) == expected


def test_only_one_file_of_the_tests_reaches_inside():
    found = {
        path.relative_to(TESTS).as_posix(): reached(path.read_text(encoding="utf-8"))
        for path in TESTS.rglob("*.py")
    }
    assert found.pop("inside.py")
    assert {name for name in RECORDS if found.pop(name)} == RECORDS
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize("name", FILES)
def test_no_generator_holds_what_is_global(name):
    """What it holds between two yields stays so until it is collected, whoever dropped it."""
    holders = [
        f"{function.name}:{held.lineno}"
        for function in ast.walk(FILES[name])
        if isinstance(function, ast.FunctionDef)
        and "contextmanager" not in map(ast.unparse, function.decorator_list)
        for held in ast.walk(function)
        if isinstance(held, ast.With) or (isinstance(held, ast.Try) and held.finalbody)
        for inside in ast.walk(held)
        if isinstance(inside, ast.Yield | ast.YieldFrom)
    ]
    assert holders == []
