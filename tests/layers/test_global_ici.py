import keras
import numpy as np
import pytest
from keras import ops

from keras_mmrel.layers._global_ici import GlobalICI
from tests.helpers import run_layer_checks
from tests.helpers import to_numpy
from tests.micinet_models import gradients_of
from tests.micinet_models import input_gradient
from tests.micinet_models import normal
from tests.micinet_models import randomise
from tests.micinet_models import softmax

CLASSES, MODALITIES, SIZE, BATCH = 7, 2, 5, 12
Z = normal(BATCH, MODALITIES, SIZE)
P = softmax(normal(BATCH, MODALITIES, CLASSES, seed=1))
LABELS = np.arange(BATCH) % 5  # two classes are absent
PARTNERS = (LABELS + 1 + np.arange(BATCH) % 3) % CLASSES
FOUND = np.isin(PARTNERS, LABELS).astype("float32")
INDEX = np.array([np.argmax(LABELS == p) for p in PARTNERS])
MASK = np.ones((BATCH, MODALITIES), "float32")
MASK[::4, 0] = 0
TABLES = ("counts", "sums", "squares", "confusion")


@keras.saving.register_keras_serializable(package="keras_mmrel_tests")
class Learning(GlobalICI):
    """Adds its losses, with the likeliest classes for labels."""

    def call(self, inputs, probabilities):
        labels = ops.argmax(probabilities[:, 0], axis=-1)
        self.add_loss(sum(self.losses_of(inputs, labels).values()))
        return super().call(inputs, probabilities)


def build(tables="pair", classes=CLASSES, fixed=True):
    """A layer of random weights and tables, partners drawn beforehand."""
    layer = GlobalICI(classes, tables, seed=0)
    layer.build(Z.shape)
    randomise(layer.trainable_weights)
    rng = np.random.default_rng(1)
    counts = rng.uniform(1, 9, size=layer.counts.shape)
    layer.counts.assign(counts)
    mean = rng.normal(size=layer.sums.shape)
    layer.sums.assign(counts * mean)
    variance = rng.uniform(0.5, 2, size=mean.shape)
    layer.squares.assign(counts * (variance + mean**2))
    degrees = rng.uniform(size=layer.confusion.shape) * (1 - np.eye(classes))
    layer.confusion.assign(degrees / degrees.sum(axis=-1, keepdims=True))
    if fixed:
        layer.draw_partners = lambda labels: ops.convert_to_tensor(
            PARTNERS, "int32"
        )
        layer._draw_samples = lambda labels, partner, mask: (
            ops.convert_to_tensor(INDEX, "int32"),
            ops.convert_to_tensor(FOUND),
        )
    return layer


def states(layer):
    return {name: to_numpy(getattr(layer, name)) for name in TABLES}


def film(z, weights, classes):
    kernel, scale, shift = (to_numpy(w) for w in weights)
    encoded = np.einsum("bmd,mde->bme", z, kernel)
    scale, shift = (x[:, classes].swapaxes(0, 1) for x in (scale, shift))
    return encoded * (1 + scale) + shift


def decode(layer, x):
    bias = to_numpy(layer.decoder_bias)
    return np.einsum("bmd,mde->bme", x, to_numpy(layer.decoder)) + bias


def mean_where(x, mask):
    return x[mask > 0].mean()


@pytest.mark.parametrize("tables", ["pair", "marginal"])
def test_standard_checks(tables):
    run_layer_checks(
        Learning(CLASSES, tables, seed=0),
        [Z, P],
        output_shapes={
            "mean": (BATCH, MODALITIES, SIZE),
            "variance": (BATCH, MODALITIES, SIZE),
        },
    )


# -- The prior ----------------------------------------------------------------


def test_the_prior_is_the_exact_moment_match_of_all_pairs():
    layer = build()
    mean, variance = np.zeros_like(Z), np.zeros_like(Z)
    counts, sums, squares, degrees = (
        to_numpy(getattr(layer, name)) for name in TABLES
    )
    for b in range(BATCH):
        for m in range(MODALITIES):
            first, second = np.zeros(SIZE), np.zeros(SIZE)
            for c in range(CLASSES):
                for other in range(CLASSES):
                    row = c * CLASSES + other
                    mu = sums[m, row] / counts[m, row]
                    var = squares[m, row] / counts[m, row] - mu**2
                    weight = P[b, m, c] * degrees[m, c, other]
                    first += weight * mu
                    second += weight * (var + mu**2)
            mean[b, m] = first
            variance[b, m] = second - first**2
    out = to_numpy(layer(Z, P))
    np.testing.assert_allclose(out["mean"], mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out["variance"], variance, rtol=1e-4)


def test_marginal_tables_hold_the_moments_of_every_class():
    layer = build("marginal")
    assert layer.sums.shape == (MODALITIES, CLASSES, SIZE)
    counts, sums, squares, _ = states(layer).values()
    first, second = sums / counts, squares / counts
    mean = np.einsum("bmk,mkd->bmd", P, first)
    out = to_numpy(layer(Z, P))
    np.testing.assert_allclose(out["mean"], mean, atol=1e-5)
    np.testing.assert_allclose(
        out["variance"],
        np.einsum("bmk,mkd->bmd", P, second) - mean**2,
        rtol=1e-4,
    )


def test_variances_never_vanish():
    layer = build()
    layer.squares.assign(ops.square(layer.sums) / layer.counts)
    sure = np.eye(CLASSES, dtype="float32")[np.stack([LABELS] * 2, axis=1)]
    layer.sums.assign(0.0 * layer.sums)
    layer.squares.assign(0.0 * layer.squares)
    variance = to_numpy(layer(Z, sure))["variance"]
    np.testing.assert_allclose(variance, 1e-2, rtol=1e-5)


def test_before_any_batch_the_prior_is_the_standard_normal():
    out = to_numpy(GlobalICI(CLASSES)(Z, P))
    np.testing.assert_allclose(out["mean"], 0, atol=1e-6)
    np.testing.assert_allclose(out["variance"], 1, rtol=1e-3)


@pytest.mark.parametrize(
    "tables, classes, pairs",
    [
        ("auto", 32, True),
        ("auto", 33, False),
        ("pair", 33, True),
        ("marginal", 2, False),
    ],
)
def test_tables_of_pairs_are_for_few_classes(tables, classes, pairs):
    layer = GlobalICI(classes, tables)
    layer.build((None, 1, 2))
    rows = classes**2 if pairs else classes
    assert layer.counts.shape == (1, rows, 1)
    assert layer.squares.shape == layer.sums.shape == (1, rows, 2)


# -- Losses -------------------------------------------------------------------


@pytest.mark.parametrize("mask", [None, MASK])
def test_losses_follow_the_formulas(mask):
    layer = build()
    losses = to_numpy(layer.losses_of(Z, LABELS, mask))
    mask = np.ones_like(MASK) if mask is None else mask
    own = film(Z, layer.specific, PARTNERS)
    shared = film(Z, layer.shared, PARTNERS)
    other = film(Z[INDEX], layer.shared, LABELS)
    swapped = decode(layer, own + other)
    cycle = (film(swapped, layer.specific, PARTNERS) - own) ** 2
    cycle += (film(swapped, layer.shared, PARTNERS) - other) ** 2

    def score(part, table):
        table = to_numpy(table)
        telling = table[:, LABELS] - table[:, PARTNERS]
        return (part * telling.swapaxes(0, 1)).sum(axis=-1)

    def softplus(x):
        return np.log1p(np.exp(x))

    x = score(shared, layer.adversary)
    expected = {
        "reconstruction": ((decode(layer, own + shared) - Z) ** 2).mean(-1),
        "cycle": np.minimum(cycle.mean(axis=-1), 25),
        "specific": softplus(-score(own, layer.discriminator)),
        "adversary": softplus(-x),
        "shared": 0.5 * (softplus(x) + softplus(-x)) - np.log(2),
    }
    # Some samples are bounded, some are not.
    assert 0 < (cycle.mean(axis=-1) > 25).sum() < MASK.size
    both = mask * mask[INDEX] * FOUND[:, None]
    assert 0 < both.sum() < both.size
    for key, value in expected.items():
        where = both if key == "cycle" else mask
        np.testing.assert_allclose(
            losses[key], mean_where(value, where), rtol=1e-4, err_msg=key
        )


def test_no_gradient_leaves_the_global_ici():
    layer = build()
    gradient = input_gradient(
        lambda z: sum(layer.losses_of(z, LABELS).values()), Z
    )
    np.testing.assert_array_equal(gradient, 0)


def test_the_adversary_and_the_encoder_learn_from_their_own_loss_only():
    layer = build()
    learnt = {
        name: [
            np.abs(g).max()
            for g in gradients_of(
                lambda name=name: layer.losses_of(Z, LABELS)[name],
                [layer.adversary, layer.shared[0], layer.specific[0]],
            )
        ]
        for name in ("adversary", "shared", "specific")
    }
    assert [g > 0 for g in learnt["adversary"]] == [True, False, False]
    assert [g > 0 for g in learnt["shared"]] == [False, True, False]
    assert [g > 0 for g in learnt["specific"]] == [False, False, True]


def test_partners_follow_the_confusion_degrees():
    layer = build(fixed=False)
    only = np.roll(np.eye(CLASSES), 2, axis=1)
    layer.confusion.assign(np.stack([only] * MODALITIES))
    drawn = to_numpy(layer.draw_partners(ops.convert_to_tensor(LABELS)))
    np.testing.assert_array_equal(drawn, (LABELS + 2) % CLASSES)
    layer.confusion.assign(
        np.stack([only, np.roll(np.eye(CLASSES), 1, axis=1)])
    )
    many = np.zeros(2000, "int32")
    drawn = to_numpy(layer.draw_partners(ops.convert_to_tensor(many)))
    assert set(drawn) == {1, 2}
    assert abs((drawn == 1).mean() - 0.5) < 0.06


def test_samples_are_drawn_from_the_partner_class():
    layer = build(fixed=False)
    labels = ops.convert_to_tensor(np.repeat(np.arange(3), 40))
    partner = ops.convert_to_tensor(np.repeat([2, 0, 5], 40))
    # A sample that has no modality is no partner.
    mask = np.ones((len(labels), 2), "float32")
    mask[90:100] = 0
    index, found = layer._draw_samples(
        labels, partner, ops.convert_to_tensor(mask)
    )
    index = to_numpy(index)
    assert not ((90 <= index) & (index < 100)).any()
    np.testing.assert_array_equal(to_numpy(found), np.repeat([1, 1, 0], 40))
    assert ((80 <= index[:40]) & (index[:40] < 120)).all()
    assert (index[40:80] < 40).all()
    assert len(set(index[:40])) > 15


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 1, 1], [0]], ids=str)
def test_absent_classes_and_single_samples_give_finite_losses(labels):
    layer = GlobalICI(3, seed=0)
    z, labels = Z[: len(labels)], np.array(labels)
    for _ in range(5):
        losses = to_numpy(layer.losses_of(z, labels))
        assert np.isfinite(list(losses.values())).all()
        layer.update_statistics(z, labels, P[: len(labels), :, :3])
    if not labels.any():
        assert losses["cycle"] == 0
    assert all(np.isfinite(v).all() for v in states(layer).values())


# -- Statistics ---------------------------------------------------------------


@pytest.mark.parametrize("tables", ["pair", "marginal"])
def test_tables_keep_decayed_sums_of_what_the_shared_part_decodes_to(tables):
    layer = build(tables)
    before = states(layer)
    layer.update_statistics(Z, LABELS, P, MASK, decay=0.9)
    shared = film(Z, layer.shared, PARTNERS)
    ici = np.einsum("bmd,mde->bme", shared, to_numpy(layer.decoder))
    rows = LABELS * CLASSES + PARTNERS if tables == "pair" else LABELS
    new = {name: np.zeros_like(before[name]) for name in TABLES[:3]}
    for b, row in enumerate(rows):
        for m in range(MODALITIES):
            new["counts"][m, row] += MASK[b, m]
            new["sums"][m, row] += MASK[b, m] * ici[b, m]
            new["squares"][m, row] += MASK[b, m] * ici[b, m] ** 2
    seen = new["counts"] > 0
    assert 0 < seen.sum() < seen.size
    for name, value in new.items():
        expected = np.where(seen, 0.9, 1.0) * before[name] + value
        np.testing.assert_allclose(
            states(layer)[name], expected, rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_confusion_degrees_follow_what_a_class_is_taken_for():
    layer = build()
    before = states(layer)["confusion"]
    layer.update_statistics(Z, LABELS, P, MASK)
    expected = before.copy()
    for m in range(MODALITIES):
        samples = MASK.sum() / (MODALITIES * CLASSES)
        for c in range(CLASSES):
            of_class = (LABELS == c) * MASK[:, m]
            if not of_class.sum():
                continue
            taken = (of_class[:, None] * P[:, m]).sum(axis=0)
            taken += 1e-3 * samples
            taken[c] = 0
            expected[m, c] = 0.95 * before[m, c] + 0.05 * taken / taken.sum()
    found = states(layer)["confusion"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    assert (np.einsum("mkk->mk", found) == 0).all()


def test_two_classes_are_confused_with_each_other_only():
    layer = GlobalICI(2, seed=0)
    layer.build(Z.shape)
    for _ in range(2):
        np.testing.assert_allclose(
            states(layer)["confusion"], [[[0, 1], [1, 0]]] * 2, atol=1e-6
        )
        layer.update_statistics(Z, LABELS % 2, softmax(P[:, :, :2]))


def test_missing_modalities_do_not_enter_the_tables():
    a, b = build(), build()
    a.update_statistics(Z, LABELS, P, MASK)
    changed, guessed = Z.copy(), P.copy()
    changed[MASK == 0] = 99.0
    guessed[MASK == 0] = np.eye(CLASSES)[0]
    b.update_statistics(changed, LABELS, guessed, MASK)
    for name, value in states(a).items():
        np.testing.assert_allclose(value, states(b)[name], err_msg=name)


def test_tables_are_saved_and_stay_float32(tmp_path):
    layer = GlobalICI(CLASSES, dtype="mixed_float16", seed=0)
    z, p = keras.Input(Z.shape[1:]), keras.Input(P.shape[1:])
    model = keras.Model([z, p], layer(z, p))
    layer.update_statistics(Z, LABELS, P)
    assert {w.dtype for w in layer.weights} == {"float32"}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for key, value in to_numpy(loaded([Z, P])).items():
        np.testing.assert_allclose(value, to_numpy(layer(Z, P))[key])


# -- Bad arguments ------------------------------------------------------------


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="batch, modalities, features"):
        GlobalICI(3)(Z[:, 0], P)
    with pytest.raises(ValueError, match="`probabilities` must have"):
        GlobalICI(3)(Z, np.ones((len(Z), Z.shape[1], 5)))
