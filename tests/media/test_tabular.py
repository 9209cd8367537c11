"""Numbers and categories of a table, learnt from training rows alone."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from keras_mmrel.media import Tabular

TRAIN = pd.DataFrame(
    {
        "age": [20.0, 40.0, None, 60.0],
        "sex": ["f", "m", "f", None],
        "ward": [1, 2, 10, 2],
        "note": ["x", "", None, "y"],
    }
)


def test_numbers_are_standardised_and_categories_are_one_hot():
    clinic = Tabular(["age", "sex", "ward"], categorical=["ward"])
    values, present, _ = clinic.read_cells(TRAIN, [])
    assert values.dtype == np.float32 and present.all()
    known = TRAIN["age"].dropna()
    expected = ((known - known.mean()) / known.std(ddof=0)).tolist()
    np.testing.assert_allclose(values[[0, 1, 3], 0], expected, atol=1e-6)
    # A number that lacks is the mean, a category that lacks is zeros.
    assert values[2, 0] == 0
    assert (values[3, 1:4] == 0).all()
    assert clinic.names[1:] == [
        "sex=?",
        "sex=f",
        "sex=m",
        "ward=?",
        "ward=1",
        "ward=10",
        "ward=2",
    ]
    assert values[1].tolist()[1:] == [0, 0, 1, 0, 0, 0, 1]
    assert clinic.shape == (8,)


@pytest.mark.one_backend
def test_test_rows_are_seen_as_training_rows_were():
    clinic = Tabular(["age", "sex", "ward"], categorical=["ward"])
    clinic.adapt(TRAIN)
    test = pd.DataFrame(
        {"age": [40, 50], "sex": ["x", "m"], "ward": [2.0, None]}
    )
    values, present, _ = clinic.read_cells(test, [])
    assert values[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    assert values[1, 1:].tolist() == [0, 0, 1, 0, 0, 0, 0]
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(clinic)))
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(again.transform(test), values)
    assert again.get_config() == clinic.get_config()


@pytest.mark.one_backend
def test_a_row_of_empty_cells_is_missing():
    values, present, _ = Tabular(["note", "age"]).read_cells(TRAIN, [])
    assert present.tolist() == [True, True, False, True]
    assert (values[2] == 0).all()


@pytest.mark.one_backend
def test_what_never_varied_is_not_divided_by_nothing():
    same = pd.DataFrame({"a": [3.0, 3.0]})
    clinic = Tabular(["a"])
    clinic.adapt(same)
    assert clinic.transform(pd.DataFrame({"a": [3.0, 4.0]})).tolist() == [
        [0.0],
        [1.0],
    ]


@pytest.mark.one_backend
@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ([None, np.nan], "must hold a number in some row|1 to 1,000 categ"),
        (["1", "2", "3,5"], "be named in `categorical`"),
        ([str(i) + "a" for i in range(1001)], "1 to 1,000 categories"),
        ([1e300, 1.0], "at most 1e"),
    ],
)
def test_what_teaches_nothing_is_refused(cells, text):
    with pytest.raises(ValueError, match=text):
        Tabular(["a"]).adapt(pd.DataFrame({"a": cells}))


@pytest.mark.one_backend
def test_text_in_the_place_of_numbers_is_refused():
    clinic = Tabular(["age"])
    with pytest.raises(ValueError, match="must have seen training rows"):
        clinic.transform(TRAIN)
    clinic.adapt(TRAIN)
    with pytest.raises(ValueError, match="'age' must hold numbers"):
        clinic.transform(pd.DataFrame({"age": ["old"]}))
    for columns, categorical in ((["a", "a"], []), (["a"], ["b"])):
        with pytest.raises(ValueError, match="name each column once"):
            Tabular(columns, categorical=categorical)


@pytest.mark.one_backend
def test_numbers_of_another_form_and_dates_are_told_from_categories():
    commas = pd.DataFrame({"bp": [f"{i},5" for i in range(30)]})
    with pytest.raises(ValueError, match=r"Received: text, such as \['0,5'"):
        Tabular(["bp"]).adapt(commas)
    with pytest.raises(ValueError, match=r"text, such as \['1', '2'\]$"):
        Tabular(["a"]).adapt(pd.DataFrame({"a": ["1", "2"]}))
    dates = pd.DataFrame({"day": [f"2024-01-{i:02}" for i in range(1, 31)]})
    with pytest.warns(UserWarning, match="'day' has 30 categories in 30 rows"):
        Tabular(["day"]).adapt(dates)
    Tabular(["day"], categorical=["day"]).adapt(dates)
