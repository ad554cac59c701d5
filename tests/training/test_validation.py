from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from carina.training.validation import figures


def test_the_figures_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 4)).round(1).astype(np.float32)
    labels = rng.integers(0, 4, 200)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    found = figures(logits, labels, [1, 2])
    assert found.loss == pytest.approx(log_loss(labels, p))
    assert found.auc_disease == pytest.approx(roc_auc_score(~np.isin(labels, [1, 2]), p[:, 0] + p[:, 3]))
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).mean())


def test_a_diseased_film_in_the_wrong_diseased_class_is_still_disease() -> None:
    logits = np.eye(3, dtype=np.float32)[[2, 2, 0]]
    found = figures(logits, np.array([1, 2, 0]), [0])
    assert found.recall_disease == found.specificity == 1
    assert found.recall == (1, 0, 1)


def test_what_cannot_be_measured_is_none() -> None:
    found = figures(np.eye(3, dtype=np.float32)[[0, 0]], np.array([0, 0]), [0])
    assert found.recall == (1, None, None)
    assert found.recall_disease is None
    assert found.auc_disease is None
