"""What a file of the package offers to the others, and to users, is annotated."""

import ast
from pathlib import Path

import pytest

import sklearn_halrp

PACKAGE = Path(sklearn_halrp.__file__).parent
FILES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.glob("*.py")}

# Python calls these when a class or an object of it is called.
CALLED = {"__init__", "__new__", "__call__"}


def imported(trees):
    """The names of the package that its files import from each other."""
    return {
        alias.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn_halrp")
        for alias in node.names
    }


def offered(tree, names):
    """The functions, and methods of classes, that others may call: with their names."""
    for node in tree.body:
        if node_name(node).startswith("_") and node_name(node) not in names:
            continue
        if isinstance(node, ast.FunctionDef):
            yield node.name, node, list(parameters(node))
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (
                    not method.name.startswith("_") or method.name in CALLED
                ):
                    yield f"{node.name}.{method.name}", method, without_self(method)


def node_name(node):
    return getattr(node, "name", "_")


def parameters(function):
    given = function.args
    yield from (*given.posonlyargs, *given.args, *given.kwonlyargs)
    yield from (each for each in (given.vararg, given.kwarg) if each is not None)


def without_self(method):
    decorators = {ast.unparse(each) for each in method.decorator_list}
    static = "staticmethod" in decorators and method.name != "__new__"
    return list(parameters(method))[0 if static else 1 :]


def bare(tree, names):
    """The names of what is offered and lacks an annotation."""
    return [
        name
        for name, function, given in offered(tree, names)
        if function.returns is None or any(each.annotation is None for each in given)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(a: int, *b: int, c: int = 1, **d: int) -> int: ...", []),
        ("def f(a: int): ...", ["f"]),
        ("def f(a) -> int: ...", ["f"]),
        ("def f(*, a=1) -> int: ...", ["f"]),
        ("def f(*a) -> int: ...", ["f"]),
        ("def f(**a) -> int: ...", ["f"]),
        ("def _f(a): ...", []),
        ("def _known(a): ...", ["_known"]),
        ("class A:\n    def f(self) -> int: ...", []),
        ("class A:\n    def f(self): ...", ["A.f"]),
        ("class A:\n    def __init__(self, a): ...", ["A.__init__"]),
        ("class A:\n    def _f(self, a): ...", []),
        ("class A:\n    @staticmethod\n    def f(a) -> int: ...", ["A.f"]),
        ("class A:\n    @classmethod\n    def f(cls) -> int: ...", []),
        ("class A:\n    @property\n    def f(self): ...", ["A.f"]),
        ("class _A:\n    def f(self): ...", []),
        ("class _Known:\n    def f(self): ...", ["_Known.f"]),
    ],
)
def test_what_lacks_an_annotation_is_found(text, expected):
    known = imported([ast.parse("from sklearn_halrp._a import _known, _Known")])
    assert bare(ast.parse(text), known) == expected


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_offers_is_annotated(name):
    assert bare(FILES[name], imported(FILES.values())) == []


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()
