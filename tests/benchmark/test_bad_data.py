"""Data that cannot be used are refused, with what is wrong with them."""

import numpy as np
import pytest

from tests.benchmark.helpers import arrays
from tests.benchmark.made_data import load
from tests.benchmark.made_data import load_csv
from tests.benchmark.made_data import load_npz

pytestmark = pytest.mark.one_backend


def test_rows_with_nan_are_counted_and_the_first_is_named(tmp_path):
    x, y = arrays()
    x["b"][[9, 30], 1] = np.nan
    message = (
        "`datasets.d.source` .* finite .* 'b'.* 2 rows, the first is row 9"
    )
    with pytest.raises(ValueError, match=message):
        load_npz(tmp_path, x, y)
    with pytest.raises(ValueError, match=message):
        load_csv(tmp_path, x, y)


def test_numbers_beyond_float32_are_refused_as_infinite(tmp_path):
    x, y = arrays()
    x["a"] = x["a"].astype("float64")
    x["a"][4, 0] = 1e300
    with pytest.raises(ValueError, match="infinite values in 1 rows.*row 4"):
        load_npz(tmp_path, x, y)


@pytest.mark.parametrize("read", [load_npz, load_csv])
def test_lengths_that_differ_are_listed(tmp_path, read):
    x, y = arrays()
    with pytest.raises(ValueError, match=r"'b': \(39, 3\), 'labels': \(40,\)"):
        read(tmp_path, {**x, "b": x["b"][:-1]}, y)
    with pytest.raises(ValueError, match=r"'labels': \(38,\)"):
        read(tmp_path, x, y[:-2])


@pytest.mark.parametrize(
    "extra",
    [np.float32(3), np.zeros(40), np.zeros((40, 0)), np.zeros((0, 40))],
    ids=["scalar", "vector", "no features", "no samples"],
)
def test_a_modality_that_is_no_table_is_refused(tmp_path, extra):
    x, y = arrays()
    with pytest.raises(ValueError, match=r"\(samples, features\).*'extra'"):
        load_npz(tmp_path, {**x, "extra": extra}, y)


def test_texts_among_the_numbers_are_refused(tmp_path):
    x, y = arrays()
    texts = {**x, "a": np.full((len(y), 2), "x")}
    for read in (load_npz, load_csv):
        with pytest.raises(
            ValueError, match="numbers in modality 'a'|hold numbers"
        ):
            read(tmp_path, texts, y)
    # A header that nobody announced.
    load_csv(tmp_path, x, y, header=True)
    with pytest.raises(
        ValueError, match="numbers in modality 'a'|hold numbers"
    ):
        load(
            tmp_path,
            source="csv",
            modalities={"a": "a.csv", "b": "b.csv"},
            labels="labels.csv",
            header=False,
        )


def test_a_missing_file_is_named(tmp_path):
    x, y = arrays()
    with pytest.raises(FileNotFoundError, match=r"datasets\.d\.path.*no\.npz"):
        load(tmp_path, source="npz", path="no.npz")
    load_csv(tmp_path, x, y)
    for lost, key in (("a", r"modalities\.a"), ("labels", "labels")):
        (tmp_path / f"{lost}.csv").rename(tmp_path / "kept.csv")
        with pytest.raises(
            FileNotFoundError, match=rf"datasets\.d\.{key}.*{lost}\.csv"
        ):
            load(
                tmp_path,
                source="csv",
                modalities={"a": "a.csv"},
                labels="labels.csv",
            )
        (tmp_path / "kept.csv").rename(tmp_path / f"{lost}.csv")


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_truncated_npz_is_refused(tmp_path, save, fraction):
    x, y = arrays()
    path = tmp_path / "d.npz"
    save(path, **x, y=y)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(ValueError, match=r"datasets\.d\.path.*undamaged"):
        load(tmp_path, source="npz", path="d.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_refused(tmp_path, save):
    x, y = arrays()
    path = tmp_path / "d.npz"
    save(path, **x, y=y)
    content = bytearray(path.read_bytes())
    content[300:310] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="undamaged"):
        load(tmp_path, source="npz", path="d.npz")


def test_a_single_array_or_a_text_is_no_npz(tmp_path):
    path = tmp_path / "d.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="undamaged"):
        load(tmp_path, source="npz", path="d.npz")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="undamaged"):
        load(tmp_path, source="npz", path="d.npz")


def test_pickled_objects_are_refused_and_not_run(tmp_path):
    x, _ = arrays(samples=2)
    mark = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return mark.touch, ()

    labels = np.array([Trap(), "b"], dtype=object)
    with pytest.raises(ValueError, match="plain arrays.*allow_pickle"):
        load_npz(tmp_path, x, labels)
    assert not mark.exists()


def test_names_that_the_npz_does_not_hold_are_listed(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "d.npz", **x, target=y)
    for entry, lost in (
        ({}, r"\['y'\]"),
        ({"labels": "target", "modalities": ["a", "c"]}, r"\['c'\]"),
    ):
        message = rf"\['a', 'b', 'target'\]\. Received: {lost}"
        with pytest.raises(ValueError, match=message):
            load(tmp_path, source="npz", path="d.npz", **entry)


def test_labels_cannot_be_a_modality(tmp_path):
    x, y = arrays()
    with pytest.raises(ValueError, match="must not hold the labels"):
        load_npz(tmp_path, x, y, modalities=["a", "y"])


@pytest.mark.parametrize(
    "labels", [[0] * 20, [0] * 19 + [1], [0] * 10 + [1] * 9 + [2]]
)
def test_every_class_needs_two_samples(tmp_path, labels):
    x, _ = arrays(samples=20)
    with pytest.raises(ValueError, match="`datasets.d.source` .* every class"):
        load_npz(tmp_path, x, np.array(labels))


@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_missing_labels_are_counted(tmp_path, kind):
    x, y = arrays()
    load_csv(tmp_path, x, y if kind == "numbers" else np.array(["u", "v"])[y])
    path = tmp_path / "labels.csv"
    rows = path.read_text().splitlines()
    rows[3] = rows[7] = "NA"
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(ValueError, match="`datasets.d.labels`.*2 .*row 2"):
        load(
            tmp_path,
            source="csv",
            modalities={"a": "a.csv", "b": "b.csv"},
            labels="labels.csv",
        )
    y = y.astype("float64")
    y[2] = np.nan
    with pytest.raises(ValueError, match="label for each sample.* 1 labels"):
        load_npz(tmp_path, x, y)


def test_labels_have_one_column(tmp_path):
    x, y = arrays()
    with pytest.raises(ValueError, match=r"labels` must have one column"):
        load_csv(tmp_path, x, np.stack([y, y], axis=1))


@pytest.mark.parametrize("content", [b"", b'a,b\n"1,2\n', b"\xff\xfe\n"])
def test_what_is_no_csv_is_refused_by_its_key(tmp_path, content):
    x, y = arrays()
    load_csv(tmp_path, x, y)
    (tmp_path / "b.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"`datasets\.d\.modalities\.b` must"):
        load(
            tmp_path,
            source="csv",
            modalities={"a": "a.csv", "b": "b.csv"},
            labels="labels.csv",
        )


def test_a_split_without_a_class_is_refused_before_it_is_used(tmp_path):
    x, _ = arrays(samples=20)
    y = np.array([0] * 9 + [1] * 9 + [2] * 2)
    dataset = load_npz(tmp_path, x, y, test_fraction=0.1)
    with pytest.raises(
        ValueError, match=r"`datasets\.d\.test_fraction` must leave samples"
    ):
        dataset.rows(0)
