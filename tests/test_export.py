"""What `to_module` returns can be compiled and exported, and computes the same there."""

import numpy as np
import pytest
import torch

from tests.conftest import make_classifier, permuted
from tests.modules import ZOO

# torch warns of its own plans while it compiles and exports.
pytestmark = pytest.mark.filterwarnings("ignore")
# Which rows an expert gets depends on the data, and no exporter follows that.
EXPORTABLE = set(ZOO) - {"experts"}
# torch's exporter to ONNX has no products of complex numbers.
TO_ONNX = EXPORTABLE - {"waves"}
QUICK = ("residual", "attention", "recurrent")


def exportable(name, digits):
    """A plain module of a second task, five rows for it, and others."""
    X, y = digits
    X = X.reshape(-1, *ZOO[name].shape)
    clf = make_classifier(ZOO[name].module, growth_budget=2.0, net={"max_epochs": 2})
    clf.partial_fit(X[:100], y[:100], task_id=0)
    clf.partial_fit(permuted(X[:100], 1), y[:100] % 3, task_id=1)
    assert max(clf.ranks_[1].values()) > 0
    return clf.to_module(1), torch.from_numpy(X[:5]), torch.from_numpy(X[:7])


def several():
    return ({0: torch.export.Dim("n", min=2)},)


@pytest.mark.parametrize("name", sorted(EXPORTABLE))
def test_torch_export(name, digits):
    module, rows, others = exportable(name, digits)
    program = torch.export.export(module, (rows,), dynamic_shapes=several())
    torch.testing.assert_close(program.module()(others), module(others))


@pytest.mark.parametrize("name", QUICK)
def test_torch_compile(name, digits):
    module, rows, _ = exportable(name, digits)
    compiled = torch.compile(module, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(rows), module(rows))


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in sorted(TO_ONNX)],
)
def test_onnx(name, digits, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    module, rows, others = exportable(name, digits)
    file = tmp_path / "task.onnx"
    torch.onnx.export(module, (rows,), file, dynamo=True, dynamic_shapes=several(), verbose=False)
    session = runtime.InferenceSession(file)
    (found,) = session.run(None, {session.get_inputs()[0].name: others.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(found, module(others).numpy(), rtol=1e-4, atol=1e-5)
