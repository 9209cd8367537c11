"""Samples that contradict: from what models of each modality say."""

import numpy as np
import pytest

from keras_mmrel.diagnose._suspects import find_suspects
from keras_mmrel.diagnose._suspects import suspicious
from tests.diagnose.made_data import clean
from tests.diagnose.made_data import swapped

pytestmark = pytest.mark.one_backend
NAMES = list("abc")


def probabilities(x, y, labels):
    """Gaussian posteriors of each modality: of its own classes' means."""
    found = []
    for values in x.values():
        means = np.stack([values[labels == c].mean(axis=0) for c in range(3)])
        squares = ((values[:, None] - means) ** 2).sum(axis=2) / 2
        p = np.exp(squares.min(axis=1, keepdims=True) - squares)
        found.append(p / p.sum(axis=1, keepdims=True))
    return np.stack(found, axis=1)


def findings(x, y, labels):
    p = probabilities(x, y, labels)
    suspects = find_suspects(p, y, NAMES)
    return suspects, suspicious(suspects, p, y, NAMES, np.arange(len(y)))


@pytest.mark.parametrize("seed", range(8))
def test_clean_data_have_no_finding(seed):
    x, y = clean(600, seed=seed)
    assert findings(x, y, y)[1] == []


@pytest.mark.parametrize("seed", range(4))
def test_swapped_files_are_found_in_their_modality(seed):
    x, y = clean(600, seed=seed)
    x, rows = swapped(x, y, "c", 30)
    suspects, found = findings(x, y, y)
    assert [(f.kind, f.modality) for f in found] == [("contradiction", "c")]
    first = [s.row in rows for s in suspects[:20]]
    assert np.mean(first) > 0.8
    assert {s.modality for s in suspects[:20] if s.row in rows} == {"c"}


@pytest.mark.parametrize("seed", range(4))
def test_wrong_labels_are_told_from_wrong_files(seed):
    x, y = clean(600, seed=seed)
    rng = np.random.default_rng(seed)
    rows = rng.choice(600, 20, replace=False)
    wrong = y.copy()
    wrong[rows] = (y[rows] + 1) % 3
    suspects, found = findings(x, wrong, y)
    assert [f.kind for f in found] == ["wrong_label"]
    mine = [s for s in suspects if s.modality is None]
    assert np.mean([s.row in rows for s in mine]) > 0.8
    assert all(s.said == y[s.row] for s in mine if s.row in rows)


def test_a_modality_of_mistakes_has_no_wrong_files_to_be_told():
    """What says nothing of classes cannot contradict."""
    x, y = clean(600)
    x["b"] = np.random.default_rng(0).normal(size=x["b"].shape)
    assert findings(x, y, y)[1] == []
