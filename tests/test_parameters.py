"""A parameter is written down by name: swapping two of them, anywhere, fails a test."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import sklearn_halrp
from sklearn_halrp import ContinualClassifier, ContinualRegressor
from tests.inside import Settings

PACKAGE = Path(sklearn_halrp.__file__).parent
FACES = [ContinualClassifier, ContinualRegressor]
# Of nets there is but one in every call, so that nothing can be taken for it.
NAMES = {name for face in FACES for name in face().get_params(deep=False)} - {"net"}
# Where a function further down calls it by another name. A pair that is not here is a mistake.
RENAMED = {
    ("cache_bytes", "max_bytes"),
    ("convolution", "form"),
    ("factor_lr_scale", "scale"),
    ("l1_penalty", "l1"),
    ("l2_penalty", "l2"),
    ("random_state", "seed"),
}


@pytest.mark.parametrize("face", FACES)
def test_docstring_constraints_and_signature_name_the_same_parameters(face):
    signature = [name for name in inspect.signature(face.__init__).parameters if name != "self"]
    section = re.search(r"Parameters\n-+\n(.*?)\nAttributes\n", inspect.getdoc(face), re.DOTALL)[1]
    documented = re.findall(r"^(\w+) : ", section, re.MULTILINE)
    assert set(face._parameter_constraints) == set(signature)
    assert documented == signature


@pytest.mark.parametrize("face", FACES)
def test_the_docstring_gives_the_defaults(face):
    text = inspect.getdoc(face)
    for name, parameter in inspect.signature(face.__init__).parameters.items():
        if name != "self":
            (default,) = re.findall(rf"^{name} : .*default=(\S+)$", text, re.MULTILINE)
            assert ast.literal_eval(default) == parameter.default


@pytest.mark.parametrize("face", FACES)
def test_every_parameter_is_kept_under_its_own_name(face):
    given = {name: object() for name in face().get_params(deep=False)}
    estimator = face(**given)
    for name, value in given.items():
        assert getattr(estimator, name) is value


def test_the_settings_of_a_visit_have_the_names_of_the_parameters():
    given = {name: object() for name in ContinualClassifier().get_params(deep=False)}
    settings = Settings.of(ContinualClassifier(**given))
    for name, value in vars(settings).items():
        assert value is given[name]
    with pytest.raises(TypeError, match="positional"):
        Settings(*vars(settings).values())


# Elsewhere self is something else, with attributes of its own.
OF_AN_ESTIMATOR = {"_estimator", "_classifier", "_regressor", "_intake"}


def swaps(text, owners=("self", "settings", "estimator")):
    """Places where a parameter is handed on by position, or under another one's name."""
    found = []
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        found += [ast.unparse(call) for value in call.args if read(value, owners)]
        for keyword in call.keywords:
            names = {read(keyword.value, owners), keyword.arg}
            pair = read(keyword.value, owners), keyword.arg
            if None not in names and len(names) == 2 and pair not in RENAMED:
                found.append(ast.unparse(call))
    return found


def read(node, owners):
    """The parameter that an expression reads off an estimator or settings, or None."""
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        last = node.value.attr if isinstance(node.value, ast.Attribute) else ast.unparse(node.value)
        return node.attr if last in owners else None
    return None


@pytest.mark.parametrize(
    ("text", "n_found"),
    [
        ("f(l1_penalty=self.l1_penalty)", 0),
        ("f(l1_penalty=self.l2_penalty)", 1),
        ("f(l1=visit.settings.l1_penalty, l2=visit.settings.l2_penalty)", 0),
        ("f(l2=visit.settings.l1_penalty, l1=visit.settings.l2_penalty)", 2),
        ("f(settings.max_rank)", 1),
        ("f(recipe.max_rank, self.other)", 0),
    ],
)
def test_what_may_be_swapped_is_found(text, n_found):
    assert len(swaps(text)) == n_found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_parameters_are_handed_on_by_their_names(path):
    owners = ["settings", *(["self", "estimator"] if path.stem in OF_AN_ESTIMATOR else [])]
    assert swaps(path.read_text(encoding="utf-8"), owners) == []
