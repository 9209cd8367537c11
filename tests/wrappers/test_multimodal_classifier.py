"""The classifier keeps scikit-learn's rules, and the library's."""

import pickle

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import keras_mmrel
from keras_mmrel.contract import MASK
from keras_mmrel.models._scaled import scaling_layers
from keras_mmrel.models._scaled import unadapted
from keras_mmrel.wrappers import MultimodalClassifier
from keras_mmrel.wrappers import sample_array
from keras_mmrel.wrappers._building import METHODS
from tests.helpers import SHAPES
from tests.helpers import vectors

GROUPS = {"a": slice(0, 6), "b": [6, 7, 8, 9], "c": slice(10, None)}
NAMES = np.array(["left", "middle", "right"])
FAST = {"epochs": 8, "batch_size": 256, "random_state": 0}
# Text, so that all processes that run the tests call them the same.
ADAM = {"class_name": "Adam", "config": {"learning_rate": 0.03}}
QUICK = {"compile_options": {"optimizer": ADAM}}


def table(samples=60):
    x, y = vectors(samples)
    return np.concatenate([x[name] for name in SHAPES], axis=1), NAMES[y]


def classifier(model="LateFusion", modalities=GROUPS, **options):
    return MultimodalClassifier(
        model, modalities, **{**FAST, **QUICK, **options}
    )


def failures(estimator):
    """What scikit-learn asks and is not promised, and why."""
    return {
        "check_sample_weight_equivalence_on_dense_data": (
            "batches are drawn by the number of samples, and a sample that "
            "is there twice is not one with the weight 2"
        ),
    }


@pytest.mark.one_backend
@parametrize_with_checks(
    [MultimodalClassifier(**FAST, **QUICK)], expected_failed_checks=failures
)
def test_it_is_a_classifier_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        MultimodalClassifier(
            name, epochs=60, batch_size=64, random_state=0, allow_missing=allow
        )
        for name, allow in (("QADMNet", False), ("LateFusion", True))
    ],
    expected_failed_checks=failures,
)
def test_so_are_others_with_other_settings(estimator, check):
    check(estimator)


@pytest.mark.slow_on("tensorflow")
def test_a_table_and_a_dict_of_it_train_the_same_model():
    x, y = vectors(60)
    columns, names = table()
    ours = classifier().fit(columns, names)
    other = classifier(modalities=None).fit(x, names)
    np.testing.assert_array_equal(
        ours.predict_proba(columns), other.predict_proba(x)
    )
    assert ours.score(columns, names) > 0.9
    assert list(ours.classes_) == list(NAMES)
    assert ours.modality_names_ == list(SHAPES)
    assert ours.n_features_in_ == 15
    # What is trained takes what the table holds, scaling included.
    found = ours.model_.predict(x, verbose=0)["probabilities"]
    np.testing.assert_allclose(found, ours.predict_proba(columns), atol=1e-6)


@pytest.mark.one_backend
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_scaled(name):
    columns, names = table()
    columns = 1000.0 + 300.0 * columns
    options = {"options": {"history_size": 60}} if name == "QMF" else {}
    ours = classifier(name, **options, epochs=2).fit(columns, names)
    assert not unadapted(ours.model_)
    assert set(scaling_layers(ours.model_)) == set(SHAPES)
    assert np.isfinite(ours.predict_proba(columns)).all()
    assert set(ours.predict(columns)) <= set(NAMES)


@pytest.mark.one_backend
def test_columns_may_be_named():
    columns, names = table()
    labels = [f"column {i}" for i in range(15)]
    frame = pd.DataFrame(columns, columns=labels)
    groups = {"a": labels[:6], "b": labels[6:10], "c": labels[10:]}
    ours = classifier(modalities=groups).fit(frame, names)
    other = classifier().fit(columns, names)
    np.testing.assert_array_equal(
        ours.predict_proba(frame), other.predict_proba(columns)
    )
    assert ours.groups_ == {
        "a": list(range(6)),
        "b": list(range(6, 10)),
        "c": list(range(10, 15)),
    }


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ["x"]}, "must name columns of a table with names"),
        ({"a": [15]}, "must number the columns 0 to 14. Received: 15 for"),
        ({"a": []}, "a slice that is not empty, or a list of numbers"),
        ({"a": slice("x", None)}, "must have slices of numbers"),
        ({"a": "x"}, "a slice that is not empty, or a list of numbers"),
        (["a"], "must be a dict of modality name -> columns"),
    ],
)
def test_wrong_groups_are_named(groups, message):
    with pytest.raises(ValueError, match=message):
        classifier(modalities=groups).fit(*table())


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a positive integer"),
        ({"model": "Concat"}, "`model` must be one of"),
        ({"model": 3}, "`model` must be the name of a model"),
        ({"scale": "yes"}, "`scale` must be True or False"),
        ({"options": {"width": 3}}, "must get arguments that it has"),
        ({"model": lambda m, k: keras.Sequential()}, "Received: Sequential"),
    ],
)
def test_wrong_arguments_are_named_by_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        classifier(**arguments).fit(*table())


@pytest.mark.one_backend
def test_folds_grids_and_pipelines_take_it():
    columns, names = table()
    x, _ = vectors(60)
    ours = classifier()
    assert cross_val_score(ours, columns, names, cv=2).mean() > 0.9
    samples = sample_array(x)
    by_name = classifier(modalities=None)
    assert cross_val_score(by_name, samples, names, cv=2).mean() > 0.9
    steps = make_pipeline(StandardScaler(), ours).fit(columns, names)
    assert steps.score(columns, names) > 0.9
    grid = {"options__average": ["logits", "probabilities"]}
    search = GridSearchCV(ours, grid, cv=2).fit(columns, names)
    assert search.best_score_ > 0.9
    chosen = search.best_params_["options__average"]
    assert search.best_estimator_.model_.average == chosen


@pytest.mark.one_backend
def test_clones_and_pickles_are_complete():
    columns, names = table()
    ours = classifier(options={"average": "probabilities"})
    copy = clone(ours)
    assert copy.get_params() == ours.get_params()
    assert copy.get_params()["options__average"] == "probabilities"
    copy.set_params(options__average="logits")
    assert ours.options == {"average": "probabilities"}
    ours.fit(columns, names)
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_allclose(
        again.predict_proba(columns), ours.predict_proba(columns), atol=1e-6
    )
    assert again.fit(columns, names).score(columns, names) > 0.9


@pytest.mark.one_backend
def test_a_random_state_decides_and_leaves_others_alone():
    columns, names = table()
    np.random.seed(5)
    expected = np.random.uniform()
    np.random.seed(5)
    first = classifier().fit(columns, names)
    assert np.random.uniform() == expected
    keras.utils.set_random_seed(7)
    second = classifier().fit(columns, names)
    other = classifier(random_state=1).fit(columns, names)
    p = first.predict_proba(columns)
    np.testing.assert_array_equal(second.predict_proba(columns), p)
    assert np.abs(other.predict_proba(columns) - p).max() > 1e-3


@pytest.mark.one_backend
def test_nan_is_refused_or_a_missing_modality():
    columns, names = table()
    holes = columns.copy()
    holes[::3, 7] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        classifier().fit(holes, names)
    ours = classifier(allow_missing=True).fit(holes, names)
    assert ours.score(holes, names) > 0.9
    found = ours.model_.predict(
        ours._by_modality(holes), verbose=0
    )  # What is handed to the model says so.
    expected = np.ones((60, 3))
    expected[::3, 1] = 0
    np.testing.assert_array_equal(found[MASK], expected)
    # The rest of a modality that is missing has no influence.
    holes[::3, 6] = 99.0
    np.testing.assert_array_equal(
        ours.predict_proba(holes), found["probabilities"]
    )


@pytest.mark.one_backend
def test_samples_keep_masks_parts_and_rows():
    x = {
        "a": np.arange(12.0).reshape(6, 2),
        "text": {"token_ids": np.arange(18).reshape(6, 3)},
        MASK: np.ones((6, 2), "float32"),
    }
    samples = sample_array(x)
    assert samples.shape == (6,)
    rows = samples[[4, 1]]
    np.testing.assert_array_equal(rows["a"], x["a"][[4, 1]])
    np.testing.assert_array_equal(
        rows["text"]["token_ids"], x["text"]["token_ids"][[4, 1]]
    )
    with pytest.raises(ValueError, match="the same number of samples"):
        sample_array({"a": np.ones((3, 1)), "b": np.ones((4, 1))})
    with pytest.raises(ValueError, match="Modality 'a' must hold numbers"):
        sample_array({"a": np.array(["x"])})


@pytest.mark.one_backend
def test_modalities_of_a_dict_may_be_chosen():
    x, y = vectors(60)
    mask = np.ones((60, 3), "float32")
    mask[::2, 2] = 0
    ours = classifier(modalities=["c", "a"]).fit({**x, MASK: mask}, NAMES[y])
    assert ours.modality_names_ == ["c", "a"]
    found = ours._by_modality({**x, MASK: mask})
    np.testing.assert_array_equal(found[MASK], mask[:, [2, 0]])
    with pytest.raises(ValueError, match="must be names among"):
        classifier(modalities=["d"]).fit(x, y)
    with pytest.raises(ValueError, match="must be a dict of arrays"):
        ours.predict(table()[0])


@pytest.mark.one_backend
def test_layers_and_optimizers_of_options_are_used_anew():
    columns, names = table()
    quality = keras_mmrel.layers.RangeControl()
    optimizer = keras.optimizers.Adam(0.02)
    ours = classifier(
        "ConcatFusion",
        options={"quality": quality},
        compile_options={"optimizer": optimizer},
    )
    ours.fit(columns, names)
    ours.fit(columns, names)
    assert ours.model_.quality is not quality
    assert not quality.built
    assert not optimizer.built
