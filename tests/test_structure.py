"""The house rule: every file imports only from those below it."""

import ast
from pathlib import Path

import pytest

import sklearn_halrp

PACKAGE = Path(sklearn_halrp.__file__).parent
FILES = {path.stem: ast.parse(path.read_text()) for path in PACKAGE.glob("*.py")}


def imports(name):
    """The files of the package that a file imports."""
    found = set()
    for node in ast.walk(FILES[name]):
        if isinstance(node, ast.ImportFrom) and node.module == "sklearn_halrp":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn_halrp."):
            found.add(node.module.split(".")[1])
    return found & set(FILES)


def test_no_circles():
    floors = {}

    def floor(name, above=()):
        assert name not in above, f"circle: {' -> '.join([*above, name])}"
        if name not in floors:
            floors[name] = 1 + max([floor(n, (*above, name)) for n in imports(name)], default=0)
        return floors[name]

    for name in FILES:
        floor(name)
    assert floors["__init__"] == max(floors.values())


@pytest.mark.parametrize(
    "name",
    [
        "_low_rank",
        "_ranks",
        "_pruning",
        "_importance",
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


def test_the_face_does_no_tensor_mathematics():
    modules = {
        alias.name
        for node in ast.walk(FILES["_classifier"])
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert "torch" not in modules


def test_only_public_names_are_public():
    assert sorted(sklearn_halrp.__all__) == [
        "ContinualClassifier",
        "__version__",
        "published_settings",
    ]
