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
            "bottleneck_scheme": "contribution",
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
    assert out["contribution_fraction"].shape == (48, 2)
    np.testing.assert_allclose(
        out["contribution_fraction"].sum(1), 1, atol=1e-5
    )
    assert not {"held_out", "modality_parts"} & set(out)


def test_with_every_mechanism_off_it_is_concatenation():
    model, plain = make(), make(model_class=keras_mmrel.ConcatFusion)
    for each in (model, plain):
        each.compile(keras.optimizers.SGD(0.1), run_eagerly=EAGER)
    np.testing.assert_allclose(
        fit(model, epochs=2)["loss"], fit(plain, epochs=2)["loss"], atol=1e-6
    )
    for a, b in zip(weights(model), weights(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# -- Acceleration -------------------------------------------------------------


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_encoders_learn_faster_by_their_share_and_the_head_does_not(name):
    optimizer = getattr(keras.optimizers, name)
    moved = {}
    for strength in (0.0, 0.5):
        model = compiled(optimizer(0.01), acceleration=strength)
        model.contribution.sums.assign([0.45, 0.15])
        model.contribution.counts.assign([1.0, 1.0])
        moved[strength] = step(model)
    # softmax((.45, .15) / .25) is (.7685, .2315).
    for group, factor in (("a", 1.7685), ("b", 1.2315), ("fusion", 1.0)):
        scale = np.abs(moved[0.0][group]).max()
        assert scale > 0
        np.testing.assert_allclose(
            moved[0.5][group] / scale,
            factor * moved[0.0][group] / scale,
            atol=2e-4,
        )


@pytest.mark.parametrize(
    "scheme, expected",
    [
        ("contribution", [1.7685, 1.2315]),
        ("uniform", [1.5, 1.5]),
        ("inverted", [1.2315, 1.7685]),
    ],
)
def test_schemes_have_the_same_mean(scheme, expected):
    model = compiled(acceleration=0.5, acceleration_scheme=scheme)
    model.contribution.sums.assign([0.45, 0.15])
    model.contribution.counts.assign([1.0, 1.0])
    step(model)
    np.testing.assert_allclose(
        to_numpy(model.modulation.coefficients), expected, atol=1e-4
    )


def test_acceleration_needs_a_model_that_measures_contributions():
    model = make(model_class=keras_mmrel.ConcatFusion)
    modulation = ContributionAcceleration(0.5)
    model.compile("sgd", modulation=modulation, run_eagerly=EAGER)
    with pytest.raises(ValueError, match="needs one with the output"):
        fit(model)


def test_permuting_modalities_permutes_all_that_is_asymmetric():
    found = {}
    for names in (["a", "b"], ["b", "a"]):
        model = compiled(
            shapes={n: SHAPES[n] for n in names},
            acceleration=0.5,
            bottleneck=0.1,
            bottleneck_scheme="contribution",
            measure="information",
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
        ]
    for a, b in zip(found["a"], found["b"], strict=True):
        np.testing.assert_allclose(a, b[::-1], atol=1e-5)
    assert abs(found["a"][1][0] - 0.5) > 0.01


# -- Bottleneck ---------------------------------------------------------------


@pytest.mark.parametrize(
    "scheme, expected",
    [
        ("adaptive", [0.0, 0.75, 1.0]),
        ("uniform", [1.0, 1.0, 1.0]),
        ("contribution", None),
    ],
)
def test_bottleneck_schemes(scheme, expected):
    model = compiled(
        shapes={"a": (6,), "b": (4,), "c": (5,)},
        bottleneck=0.2,
        bottleneck_scheme=scheme,
        contribution_threshold=0.1,
    )
    model.contribution.sums.assign([0.5, 0.025, -0.3])
    model.contribution.counts.assign([1.0, 1.0, 1.0])
    if expected is None:
        share = np.exp(np.array([0.5, 0.025, -0.3]) / 0.25)
        expected = 3 * (1 - share / share.sum()) / 2
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


# -- Masks, epochs, edges -----------------------------------------------------


def test_a_modality_missing_in_a_whole_batch_changes_nothing():
    model = compiled(**{**MECHANISMS, "bottleneck_scheme": "contribution"})
    step(model)

    def states():
        return [
            to_numpy(model.contribution.contributions)[1],
            to_numpy(model.modulation.coefficients)[1],
            *(to_numpy(v) for v in model.bottlenecks[1].trainable_weights),
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


def test_before_its_start_the_bottleneck_does_nothing():
    model = compiled(bottleneck=5.0, bottleneck_start=1.0)
    plain = compiled()
    logs = [fit(each, epochs=1)["loss"] for each in (model, plain)]
    np.testing.assert_allclose(*logs, atol=1e-6)
    assert model.predict(X, verbose=0)["logits"].shape == (24, 3)


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


def test_estimates_stay_in_float32_in_mixed_precision():
    model = make(bottleneck=0.1, dtype="mixed_float16")
    # More than half precision can count to.
    model.class_counts.assign([1e5, 1e5, 2e5])
    model.contribution.sums.assign([0.45004, 0.15])
    model.contribution.counts.assign([1.0, 1.0])
    outputs = model({**X, "modality_mask": np.zeros((24, 2), "float32")})
    np.testing.assert_allclose(
        to_numpy(outputs["probabilities"])[0], [0.25, 0.25, 0.5], atol=1e-5
    )
    share = 1 / (1 + np.exp(-0.30004 / 0.25))
    np.testing.assert_allclose(
        to_numpy(outputs["contribution_fraction"])[0, 0], share, atol=1e-6
    )
