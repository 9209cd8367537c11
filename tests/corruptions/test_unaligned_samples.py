import numpy as np
import pytest

from keras_mmrel.corruptions import UnalignedSamples

pytestmark = pytest.mark.one_backend

MASK = "modality_mask"


def numbered(n, modalities=("a", "b")):
    """Return inputs whose every feature is the number of its sample."""
    numbers = np.arange(n, dtype="float32")
    return {
        name: np.stack([numbers, numbers], axis=1) + 1000 * k
        for k, name in enumerate(modalities)
    }


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("target", ["all", "one", "b"])
def test_exact_share_of_the_samples_is_hit(share, target):
    hits = UnalignedSamples(share, target=target).corrupted(numbered(50))
    assert hits.any(axis=1).sum() == round(share * 50)


@pytest.mark.parametrize("seed", range(20))
def test_chosen_samples_exchange_whole_rows_and_none_keeps_its_own(seed):
    inputs = numbered(12)
    unaligned = UnalignedSamples(0.5, target="a")
    corrupted = unaligned(inputs, seed)["a"]
    chosen = unaligned.corrupted(inputs, seed)[:, 0]
    assert (corrupted[:, 0] == corrupted[:, 1]).all()
    assert (corrupted[chosen] != inputs["a"][chosen]).all()
    np.testing.assert_array_equal(
        np.sort(corrupted[chosen], axis=0), inputs["a"][chosen]
    )
    np.testing.assert_array_equal(corrupted[~chosen], inputs["a"][~chosen])


def test_modalities_of_a_sample_come_from_different_samples():
    corrupted = UnalignedSamples(1.0, target="all")(numbered(100))
    donors = corrupted["a"][:, 0], corrupted["b"][:, 0] - 1000
    assert (donors[0] != donors[1]).mean() > 0.9


@pytest.mark.parametrize("seed", range(10))
def test_single_chosen_sample_takes_the_features_of_another(seed):
    inputs = numbered(5)
    unaligned = UnalignedSamples(0.2, target="a")
    hits = unaligned.corrupted(inputs, seed)
    assert hits.sum() == 1
    row = hits[:, 0].argmax()
    taken = unaligned(inputs, seed)["a"][row, 0]
    assert taken in set(range(5)) - {row}


def test_one_sample_alone_is_not_hit():
    inputs = numbered(1)
    unaligned = UnalignedSamples(1.0, target="all")
    assert not unaligned.corrupted(inputs).any()
    np.testing.assert_array_equal(unaligned(inputs)["a"], inputs["a"])


def test_missing_modality_neither_gives_nor_counts():
    inputs = numbered(6, ("a",))
    inputs["a"][:4] = np.nan
    inputs[MASK] = np.array([0, 0, 0, 0, 1, 1])[:, None]
    unaligned = UnalignedSamples(1.0, target="a")
    corrupted = unaligned(inputs)
    np.testing.assert_array_equal(corrupted["a"][4:, 0], [5, 4])
    assert np.isnan(corrupted["a"][:4]).all()
    inputs[MASK][4] = 0
    assert not unaligned.corrupted(inputs).any()
