"""The split of what was published whole."""

import numpy as np
import pytest

from keras_mmrel.datasets._split import stratified_parts

pytestmark = pytest.mark.one_backend


def test_parts_hold_each_class_by_its_share_and_every_row_once():
    labels = ["a"] * 50 + ["b"] * 20 + ["c"] * 5
    parts = stratified_parts(labels, (0.2, 0.1))
    assert sorted(np.concatenate(parts).tolist()) == list(range(75))
    names = np.array(labels)
    counts = [[(names[p] == c).sum() for c in "abc"] for p in parts]
    assert counts == [[35, 14, 3], [10, 4, 1], [5, 2, 1]]
    again = stratified_parts(labels, (0.2, 0.1))
    for one, other in zip(parts, again, strict=True):
        np.testing.assert_array_equal(one, other)
        assert (np.diff(one) > 0).all()


def test_another_class_moves_no_row_of_the_classes_before_it():
    first = stratified_parts(["a"] * 10, [0.3])
    more = stratified_parts(["b", *["a"] * 10], [0.3])
    assert [n + 1 for n in first[1]] == [n for n in more[1] if n > 0]
