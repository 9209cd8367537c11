import keras
import numpy as np
import pytest

import keras_mmrel
from keras_mmrel.modulations import ContributionAcceleration
from tests.helpers import EAGER
from tests.helpers import run_model_checks
from tests.helpers import to_numpy
from tests.helpers import vectors
from tests.models.cal_models import MECHANISMS
from tests.models.cal_models import OFF
from tests.models.cal_models import SHAPES
from tests.models.cal_models import X
from tests.models.cal_models import Y
from tests.models.cal_models import compiled
from tests.models.cal_models import crossentropy
from tests.models.cal_models import fit
from tests.models.cal_models import make
from tests.models.cal_models import step
from tests.models.cal_models import weights

pytestmark = pytest.mark.filterwarnings("ignore:CAL measures")


def test_standard_checks(tmp_path):
    def make_cal(modalities, num_classes, **kwargs):
        options = {
            "modality_loss_weight": 1.0,
            "acceleration": 0.5,
            "bottleneck": 0.01,
            "sample_bottleneck": "typicality",
            "holdout": 0.25,
            "release": 0.5,
        }
        return keras_mmrel.CAL(
            modalities, num_classes, **{**OFF, **options}, **kwargs
        )

    model = run_model_checks(make_cal, tmp_path, shapes=SHAPES)
    x, _ = vectors(shapes=SHAPES)
    out = model.predict(x, verbose=0)
    assert out["contribution"].shape == (48, 2)
    assert out["modality_quality"].shape == (48, 2)
    assert out["contribution_fraction"].shape == (48, 2)
    np.testing.assert_allclose(
        out["contribution_fraction"].sum(1), 1, atol=1e-5
    )
    assert not {"held_out", "modality_parts"} & set(out)


def test_with_every_mechanism_off_it_is_concatenation():
    model, plain = make(), make(model_class=keras_mmrel.ConcatFusion)
    for each in (model, plain):
        each.compile(keras.optimizers.SGD(0.1), run_eagerly=EAGER)
    logs, expected = (fit(each, epochs=2)["loss"] for each in (model, plain))
    # Another order of the same sums, where they are compiled together.
    atol = 0.0 if keras.config.backend() == "torch" else 1e-6
    np.testing.assert_allclose(logs, expected, rtol=0, atol=atol)
    for a, b in zip(weights(model), weights(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


# -- Acceleration -------------------------------------------------------------


def known(model, information):
    """Contributions as if the model had seen enough."""
    model.contribution.information.assign(information)
    model.contribution.counts.assign(np.ones(len(information)))


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_encoders_learn_faster_by_their_share_and_the_head_does_not(name):
    optimizer = getattr(keras.optimizers, name)
    moved = {}
    for scheme, strength in (
        ("contribution", 0.0),
        ("contribution", 1.0),
        ("inverted", 1.0),
    ):
        model = compiled(
            optimizer(0.01),
            acceleration=strength,
            acceleration_scheme=scheme,
            measure="information",
        )
        known(model, [0.45, 0.15])
        moved[scheme, strength] = step(model)
    # softmax((.45, .15) / .25) is (.7685, .2315), of which exp(2 w - 1).
    factor = np.exp(0.537)
    base = moved["contribution", 0.0]
    for scheme, a in (("contribution", factor), ("inverted", 1 / factor)):
        found = moved[scheme, 1.0]
        for group, expected in (("a", a), ("b", 1 / a), ("fusion", 1.0)):
            scale = np.abs(base[group]).max()
            assert scale > 0
            np.testing.assert_allclose(
                found[group] / scale, expected * base[group] / scale, atol=1e-3
            )


@pytest.mark.slow_on("jax", "tensorflow")
@pytest.mark.parametrize("count", [2, 3])
def test_coefficients_have_a_geometric_mean_of_one(count):
    found = {}
    shapes = dict.fromkeys("abc"[:count], (4,))
    x = dict.fromkeys(shapes, X["b"])
    for scheme in ("contribution", "inverted"):
        model = compiled(
            shapes=shapes,
            acceleration=2.0,
            acceleration_scheme=scheme,
            measure="information",
        )
        known(model, [0.5, 0.1, 0.2][:count])
        step(model, x)
        found[scheme] = to_numpy(model.modulation.coefficients)
        assert abs(np.log(found[scheme]).sum()) < 1e-5
        assert found[scheme].max() > 1.2
    np.testing.assert_allclose(
        found["contribution"], 1 / found["inverted"], rtol=1e-5
    )


def test_acceleration_needs_a_model_that_measures_contributions():
    model = make(model_class=keras_mmrel.ConcatFusion)
    modulation = ContributionAcceleration(0.5)
    model.compile("sgd", modulation=modulation, run_eagerly=EAGER)
    with pytest.raises(ValueError, match="needs one with the output"):
        fit(model)


@pytest.mark.slow_on("jax")
def test_permuting_modalities_permutes_all_that_is_asymmetric():
    found = {}
    for names in (["a", "b"], ["b", "a"]):
        model = compiled(
            shapes={n: SHAPES[n] for n in names},
            acceleration=0.5,
            bottleneck=0.1,
            modality_loss_weight=1.0,
            measure="information",
            sample_bottleneck="typicality",
        )
        for layer in model.bottlenecks:
            layer.noise_scale.assign(0.0)
        x = {n: X[n] for n in names}
        fit(model, x, batch_size=24, epochs=1)
        out = model.predict(x, verbose=0)
        found[names[0]] = [
            to_numpy(model.contribution.contributions),
            to_numpy(model.contribution.fractions),
            to_numpy(model.modulation.coefficients),
            np.array([to_numpy(b.strength) for b in model.bottlenecks]),
            *out["contribution"],
            *out["modality_quality"],
        ]
    for a, b in zip(found["a"], found["b"], strict=True):
        np.testing.assert_allclose(a, b[::-1], atol=1e-5)
    assert abs(found["a"][1][0] - 0.5) > 0.01


# -- Bottleneck ---------------------------------------------------------------


@pytest.mark.parametrize(
    "scheme, weight, expected",
    [
        ("contribution", 1.0, [0.0, 0.75, 1.0]),
        # An encoder that nobody made learn is no noise.
        ("contribution", 0.0, [0.0, 0.0, 0.0]),
        ("uniform", 0.0, [1.0, 1.0, 1.0]),
        ("inverted", 0.0, [1.0, 0.25, 0.0]),
    ],
)
def test_bottleneck_schemes(scheme, weight, expected):
    model = compiled(
        shapes={"a": (6,), "b": (4,), "c": (5,)},
        bottleneck=0.2,
        bottleneck_scheme=scheme,
        contribution_threshold=0.1,
        modality_loss_weight=weight,
        measure="information",
    )
    known(model, [0.5, 0.025, -0.3])
    np.testing.assert_allclose(
        to_numpy(model.bottleneck_factors()), expected, atol=1e-5
    )


def test_bottleneck_pays_its_divergence_and_compresses():
    model = compiled(
        bottleneck=0.3, bottleneck_scheme="uniform", seed=1, acceleration=0.0
    )
    for layer in model.bottlenecks:
        layer.noise_scale.assign(0.0)
        layer.strength.assign(0.3)
    features = [to_numpy(f) for f in model.encode(model.prepare_inputs(X))]
    divergence = [
        0.5 * (f**2 + np.exp(-4.0) + 4 - 1).sum(axis=1) for f in features
    ]
    logs = model.train_on_batch(X, Y, return_dict=True)
    expected = 0.3 * np.sum([d.mean() for d in divergence])
    np.testing.assert_allclose(logs["bottleneck_loss"], expected, rtol=1e-5)
    plain = crossentropy(make()).mean()
    np.testing.assert_allclose(logs["loss"], plain + expected, rtol=1e-5)


# -- Bottleneck of each sample ------------------------------------------------


def typical_model():
    """Two modalities that both tell, trained until they do."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    centres = rng.normal(size=(2, 3, 6))
    x = {
        name: (centres[i, y] + 0.35 * rng.normal(size=(240, 6))).astype(
            "float32"
        )
        for i, name in enumerate("ab")
    }
    model = compiled(
        keras.optimizers.SGD(0.2, momentum=0.9),
        shapes={"a": (6,), "b": (6,)},
        sample_bottleneck="typicality",
        modality_loss_weight=1.0,
    )
    for _ in range(60):
        model.train_on_batch(x, y)
    return model, x, y


@pytest.mark.slow_on("jax", "tensorflow")
def test_noise_in_one_modality_costs_no_more_than_its_loss():
    model, x, y = typical_model()

    def accuracy(x, **kwargs):
        outputs = model.predict({**x, **kwargs}, verbose=0)
        return 100 * (outputs["logits"].argmax(1) == y).mean(), outputs

    mask = np.ones((240, 2), "float32")
    # Every other sample has a noisy `a`, the others a noisy `b`.
    bad = np.arange(240) % 2
    mask[np.arange(240), bad] = 0
    rng = np.random.default_rng(1)
    noisy = {k: v + 6 * rng.normal(size=v.shape) for k, v in x.items()}
    mixed = {
        k: np.where(bad[:, None] == i, noisy[k], x[k]).astype("float32")
        for i, k in enumerate("ab")
    }
    clean, without = accuracy(x)[0], accuracy(x, modality_mask=mask)[0]
    found, outputs = accuracy(mixed)
    assert found >= without - 3
    quality = outputs["modality_quality"]
    assert quality[np.arange(240), bad].mean() < 0.3
    assert quality[np.arange(240), 1 - bad].mean() > 0.8
    confidence = outputs["confidence"]
    assert confidence[np.arange(240), bad].mean() < 0.3

    # Weights of other samples lose it, and so do none.
    order = np.random.default_rng(2).permutation(240)
    shuffled = quality / quality.max(axis=1, keepdims=True)
    features = model.encode(model.prepare_inputs(mixed))
    for factors in (shuffled[order], np.ones_like(shuffled)):
        partial = [
            to_numpy(f) * factors[:, [i]] @ to_numpy(model.head[i].kernel)
            for i, f in enumerate(features)
        ]
        guess = (sum(partial) + to_numpy(model.bias)).argmax(1)
        assert 100 * (guess == y).mean() < found - 8
    # Where nothing is unusual it costs nothing.
    model.typicalities, kept = [], model.typicalities
    plain = to_numpy(model(x)["logits"]).argmax(1)
    model.typicalities = kept
    assert clean >= 100 * (plain == y).mean() - 1


# -- Masks, epochs, edges -----------------------------------------------------


def test_a_modality_missing_in_a_whole_batch_changes_nothing():
    model = compiled(**MECHANISMS, sample_bottleneck="typicality")
    step(model)

    def states():
        return [
            to_numpy(model.contribution.contributions)[1],
            to_numpy(model.modulation.coefficients)[1],
            *(to_numpy(v) for v in model.bottlenecks[1].trainable_weights),
            *(to_numpy(v) for v in model.typicalities[1].weights),
        ]

    before = states()
    mask = np.tile(np.array([1.0, 0.0], "float32"), (24, 1))
    x = {"a": X["a"], "b": np.full_like(X["b"], np.nan), "modality_mask": mask}
    moved = step(model, x)
    assert (moved["b"] == 0).all()
    assert np.abs(moved["a"]).max() > 0
    for new, old in zip(states(), before, strict=True):
        np.testing.assert_array_equal(new, old)
    assert np.isfinite([to_numpy(b.strength) for b in model.bottlenecks]).all()


@pytest.mark.slow_on("jax", "tensorflow")
def test_mechanisms_begin_with_their_epochs():
    model = compiled(
        acceleration=0.5,
        bottleneck=0.1,
        bottleneck_scheme="uniform",
        warmup=0.25,
        bottleneck_start=0.5,
        holdout=0.25,
        release=0.75,
    )
    seen = []

    class Record(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            clock = self.model.clock
            seen.append(
                [
                    float(to_numpy(self.model.modulation.active)),
                    float(max(logs["a_bottleneck"], logs["b_bottleneck"]) > 0),
                    float(to_numpy(clock.passed(self.model.release))),
                ]
            )

    fit(model, epochs=4, callbacks=[Record()])
    # Two epochs of warm-up, then what begins with half and three quarters.
    assert seen == [[0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 1, 1]]


@pytest.mark.slow_on("jax", "tensorflow")
def test_before_its_start_the_bottleneck_does_nothing():
    model = compiled(bottleneck=5.0, bottleneck_start=1.0)
    plain = compiled()
    logs = [fit(each, epochs=1)["loss"] for each in (model, plain)]
    np.testing.assert_allclose(*logs, atol=1e-6)
    assert model.predict(X, verbose=0)["logits"].shape == (24, 3)


@pytest.mark.slow_on("jax", "tensorflow")
def test_one_modality_trains_like_any_other():
    model = compiled(shapes={"a": (6,)}, holdout=0.25, **MECHANISMS)
    logs = fit(model, {"a": X["a"]}, epochs=2)
    assert np.isfinite(logs["loss"]).all()
    np.testing.assert_allclose(to_numpy(model.contribution.fractions), [1.0])
    assert logs["a_coefficient"] == [1.0, 1.0]


@pytest.mark.parametrize(
    "kwargs, text",
    [
        ({"modality_loss_weight": -1.0}, "modality_loss_weight=-1.0"),
        ({"acceleration": -0.1}, "acceleration=-0.1"),
        ({"acceleration_scheme": "faster"}, "scheme='faster'"),
        ({"bottleneck": float("inf")}, "bottleneck=inf"),
        ({"bottleneck_scheme": "tight"}, "bottleneck_scheme='tight'"),
        ({"contribution_threshold": 0}, "contribution_threshold=0"),
        ({"measure": "size"}, "measure='size'"),
        ({"sample_bottleneck": "all"}, "sample_bottleneck='all'"),
        ({"fusion": keras.layers.Dense(3)}, "`fusion` must be None"),
        ({"temperature": 0}, "temperature=0"),
        ({"warmup": 1.5}, "warmup=1.5"),
        ({"bottleneck_start": -0.5}, "bottleneck_start=-0.5"),
        ({"holdout": "some"}, "holdout='some'"),
        ({"holdout": 1.0}, "holdout=1.0"),
        ({"release": 2}, "release=2"),
    ],
)
def test_bad_arguments_are_named(kwargs, text):
    with pytest.raises(ValueError, match=text):
        keras_mmrel.CAL(SHAPES, 3, **kwargs)


def test_no_modality_may_be_called_held_out():
    with pytest.raises(ValueError, match="'held_out'"):
        keras_mmrel.CAL({"a": (6,), "held_out": (4,)}, 3)


@pytest.mark.slow_on("jax")
def test_estimates_stay_in_float32_in_mixed_precision():
    model = make(bottleneck=0.1, measure="information", dtype="mixed_float16")
    # More than half precision can count to.
    model.class_counts.assign([1e5, 1e5, 2e5])
    known(model, [0.45004, 0.15])
    outputs = model({**X, "modality_mask": np.zeros((24, 2), "float32")})
    np.testing.assert_allclose(
        to_numpy(outputs["probabilities"])[0], [0.25, 0.25, 0.5], atol=1e-5
    )
    share = 1 / (1 + np.exp(-0.30004 / 0.25))
    np.testing.assert_allclose(
        to_numpy(outputs["contribution_fraction"])[0, 0], share, atol=1e-6
    )
