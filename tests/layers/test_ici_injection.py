import numpy as np
import pytest

from keras_mmrel.layers._ici_injection import ICIInjection
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy
from tests.micinet_models import normal
from tests.micinet_models import softmax

COUNT, CLASSES = 60, 3
X = normal(COUNT, 2, 4)
VARIANCE = 0.5 + normal(COUNT, 2, 4, seed=1) ** 2
P = softmax(normal(COUNT, 2, CLASSES, seed=2))
CONFUSION = (np.ones((CLASSES, CLASSES)) - np.eye(CLASSES)).astype("float32")
MASK = np.ones((COUNT, 2), "float32")
PLAIN = {"probability": 1.0, "emptying": 0.0, "seed": 0}
HOLES = MASK.copy()
HOLES[::3, 0] = 0
HOLES[1::4, 1] = 0


def inject(x=X, variance=VARIANCE, p=P, mask=MASK, confusion=CONFUSION, **kw):
    names = ("empty", "active", "training")
    call = {k: kw.pop(k) for k in names if k in kw}
    layer = ICIInjection(**{**PLAIN, **kw})
    call = {"training": True, **call}
    return to_numpy(layer(x, variance, p, confusion, mask, **call))


def test_standard_checks():
    # As many samples as classes: the helper takes axis 0 of all for the batch.
    run_layer_checks(
        ICIInjection(seed=0),
        [X[:3], VARIANCE[:3], P[:3], CONFUSION, MASK[:3]],
        output_shapes={
            "features": (3, 2, 4),
            "injected": (3, 2),
            "replaced": (3, 2),
        },
    )


@pytest.mark.parametrize("off", [{"training": False}, {"active": 0.0}])
def test_at_inference_and_when_inactive_nothing_happens(off):
    out = inject(**off)
    np.testing.assert_array_equal(out["features"], X)
    np.testing.assert_array_equal(out["injected"], 0)
    np.testing.assert_array_equal(out["replaced"], 0)


def test_hits_are_as_frequent_as_asked_and_half_are_replacements():
    x = normal(20 * COUNT, 2, 4)
    out = inject(
        x,
        np.ones_like(x),
        np.tile(P, (20, 1, 1)),
        np.tile(MASK, (20, 1)),
        probability=0.3,
    )
    assert abs(out["injected"].mean() - 0.3) < 0.04
    assert abs(out["replaced"].mean() - 0.15) < 0.03
    assert (out["replaced"] <= out["injected"]).all()
    calm = out["injected"] == 0
    np.testing.assert_array_equal(out["features"][calm], x[calm])
    assert (out["features"][~calm] != x[~calm]).any(axis=-1).all()


def test_replaced_features_are_those_of_another_sample_that_has_them():
    out = inject(mask=HOLES, replacement=1.0)
    assert 20 < out["replaced"].sum() < HOLES.sum()
    for m in range(2):
        for b in range(COUNT):
            distance = np.abs(X[:, m] - out["features"][b, m]).max(axis=-1)
            source = distance.argmin()
            assert distance[source] == 0
            if out["replaced"][b, m]:
                assert source != b
                assert HOLES[source, m] == HOLES[b, m] == 1
            else:
                assert source == b


def test_missing_modalities_are_never_hit():
    out = inject(mask=HOLES)
    missing = HOLES == 0
    np.testing.assert_array_equal(out["injected"][missing], 0)
    np.testing.assert_array_equal(out["features"][missing], X[missing])
    assert out["injected"][~missing].mean() > 0.7


def test_replacements_come_from_the_class_that_confuses():
    labels = np.arange(COUNT) % CLASSES
    sure = np.eye(CLASSES, dtype="float32")[np.stack([labels] * 2, axis=1)]
    # Class 0 is taken for class 2, class 2 for class 1, class 1 for class 0.
    only = np.eye(CLASSES, dtype="float32")[[2, 0, 1]]
    out = inject(p=sure, confusion=only, replacement=1.0)
    assert out["replaced"].all()
    sources = [
        int(np.abs(X[:, 0] - row).max(axis=-1).argmin())
        for row in out["features"][:, 0]
    ]
    np.testing.assert_array_equal(labels[sources], (labels + 2) % CLASSES)
    assert len(set(sources)) > 20


def test_a_sample_alone_in_its_batch_is_not_replaced():
    one = [a[:1] for a in (X, VARIANCE, P, MASK)]
    for seed in range(5):
        out = inject(*one, replacement=1.0, seed=seed)
        np.testing.assert_array_equal(out["replaced"], 0)
        np.testing.assert_array_equal(out["features"], one[0])


def test_additive_noise_has_the_shape_of_the_prior():
    count = 3000
    x = np.zeros((count, 1, 3), "float32")
    variance = np.tile(np.array([[[0.01, 1.0, 4.0]]], "float32"), (count, 1, 1))
    out = inject(
        x,
        variance,
        np.ones((count, 1, CLASSES), "float32") / CLASSES,
        np.ones((count, 1), "float32"),
        replacement=0.0,
        low=3.0,
        high=3.0,
    )
    assert out["injected"].all() and not out["replaced"].any()
    expected = 3 * np.sqrt(np.array([0.01, 1.0, 4.0]) / (5.01 / 3))
    deviation = out["features"][:, 0].std(axis=0)
    np.testing.assert_allclose(deviation, expected, rtol=0.05)


def test_the_size_of_the_noise_is_log_uniform():
    x = np.zeros((400, 1, 200), "float32")
    out = inject(
        x,
        np.ones_like(x),
        np.ones((400, 1, CLASSES), "float32") / CLASSES,
        np.ones((400, 1), "float32"),
        replacement=0.0,
        low=1.0,
        high=16.0,
    )
    kappa = out["features"][:, 0].std(axis=-1)
    assert 0.85 < kappa.min() < 1.3 and 13 < kappa.max() < 18.5
    share = [(kappa < 2.0**i).mean() for i in (1, 2, 3)]
    np.testing.assert_allclose(share, [0.25, 0.5, 0.75], atol=0.08)


def test_emptied_modalities_hold_what_an_empty_sample_holds():
    empty = normal(1, 2, 4, seed=9)
    hit = inject(mask=HOLES, probability=0.0, emptying=1.0, empty=empty)
    present = HOLES > 0
    expected = np.where(present[:, :, None], empty, X)
    np.testing.assert_array_equal(hit["features"], expected)
    np.testing.assert_array_equal(hit["injected"], HOLES)
    np.testing.assert_array_equal(hit["replaced"], HOLES)
    both = inject(emptying=0.4, replacement=0.0, empty=empty)
    emptied = (both["features"] == empty).all(axis=-1)
    assert 0.25 < emptied.mean() < 0.55
    np.testing.assert_array_equal(both["replaced"], emptied)
    np.testing.assert_array_equal(both["injected"], 1)


def test_same_seed_same_injection():
    a, b = inject(), inject()
    np.testing.assert_array_equal(a["features"], b["features"])
    assert (inject(seed=1)["features"] != a["features"]).any()


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"low": 5.0, "high": 2.0}, "low=5.0, high=2.0"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        ICIInjection(**kwargs)
