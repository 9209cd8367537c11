"""CSV files of all sorts are read right, or refused in one sentence."""

import numpy as np
import pandas
import pytest

from keras_mmrel.benchmark import Dataset
from tests.benchmark.made_data import load
from tests.benchmark.made_data import load_npz

pytestmark = pytest.mark.one_backend

N = 30
rng = np.random.default_rng(0)
A = rng.normal(size=(N, 3)).round(4)
B = rng.normal(size=(N, 2)).round(4)
Y = np.arange(N) % 3
TEXTS = np.array(["ill", "well", "dead"])[Y]
ORDER = rng.permutation(N)
IDS = np.array([f"s{n}" for n in rng.permutation(1000)[:N]])


def frame(values, names="abcdef", **options):
    return pandas.DataFrame(
        values, columns=list(names)[: values.shape[1]], **options
    )


def text(values, sep=",", decimal=".", header="a b c d e f", end="", nl="\n"):
    """A file that is written cell by cell."""
    rows = [
        [str(v).replace(".", decimal) for v in row] for row in values.tolist()
    ]
    if header:
        rows.insert(0, header.split()[: values.shape[1]])
    return nl.join(sep.join(row) + end for row in rows) + nl


A_TEXT, B_TEXT = text(A), text(B)
Y_TEXT = "y\n" + "".join(f"{v}\n" for v in Y)
Y_NAKED = "".join(f"{v}\n" for v in Y)


def written(folder, a=A_TEXT, b=B_TEXT, y=Y_TEXT, **entry):
    """Load a data set of three files."""
    for name, content in (("a", a), ("b", b), ("y", y)):
        path = folder / f"{name}.csv"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            path.write_text(content, "utf-8", newline="")
    return load(
        folder,
        source="csv",
        modalities={"a": "a.csv", "b": "b.csv"},
        labels="y.csv",
        scale="none",
        **entry,
    )


def row(number, **cells):
    """`A` as a text with some cells of a row replaced."""
    lines = A_TEXT.splitlines()
    found = lines[number].split(",")
    for place, cell in cells.items():
        found[int(place[1:])] = cell
    lines[number] = ",".join(found)
    return "\n".join(lines) + "\n"


def with_first(name, values, table=A):
    """A text with a further first column."""
    data = frame(table)
    data.insert(0, name, values)
    return data.to_csv(index=False)


RIGHT = {
    "as it should be": {},
    "pandas without an index": {"a": frame(A).to_csv(index=False)},
    "a byte order mark": {"a": b"\xef\xbb\xbf" + A_TEXT.encode()},
    "UTF-16 of a spreadsheet": {"a": A_TEXT.encode("utf-16")},
    "Windows line ends": {
        "a": text(A, nl="\r\n"),
        "y": Y_TEXT.replace("\n", "\r\n"),
    },
    "old line ends": {"a": text(A, nl="\r")},
    "no last line end": {"a": A_TEXT.rstrip("\n"), "y": Y_TEXT.rstrip("\n")},
    "semicolons": {"a": text(A, ";")},
    "semicolons and decimal commas": {"a": text(A, ";", ",")},
    "tabs": {"a": text(A, "\t")},
    "tabs and decimal commas": {"a": text(A, "\t", ",")},
    "bars": {"a": text(A, "|")},
    "quoted numbers": {
        "a": '"a","b","c"\n'
        + "".join(",".join(f'"{v}"' for v in r) + "\n" for r in A.tolist())
    },
    "quoted decimal commas": {
        "a": "a;b;c\n"
        + "".join(
            ";".join('"' + str(v).replace(".", ",") + '"' for v in r) + "\n"
            for r in A.tolist()
        )
    },
    "spaces round cells": {"a": text(A, " , ")},
    "a delimiter at every line's end": {"a": text(A, end=",")},
    "a delimiter at the end below the header": {
        "a": A_TEXT.splitlines()[0] + "\n" + text(A, end=",", header="")
    },
    "empty lines": {
        "a": "\n" + A_TEXT.replace("\n", "\n\n") + "\n  \n",
        "y": Y_TEXT + "\n\n",
    },
    "names that stand twice": {"a": text(A, header="x x x")},
    "names that are years, and a word": {"a": text(A, header="2001 2002 mean")},
    "numeric names, announced": {
        "a": text(A, header="0 1 2"),
        "b": text(B, header="0 1"),
        "header": True,
    },
    "exponents": {"a": text(np.vectorize(lambda v: f"{v:.8e}")(A))},
    "no header, announced": {
        "a": text(A, header=""),
        "b": text(B, header=""),
        "y": Y_NAKED,
        "header": False,
    },
    "no header and a delimiter at the end": {
        "a": text(A, header="", end=","),
        "b": text(B, header=""),
        "y": Y_NAKED,
        "header": False,
    },
    "no header, tabs and decimal commas": {
        "a": text(A, "\t", ",", header=""),
        "b": text(B, header=""),
        "y": Y_NAKED,
        "header": False,
    },
    "labels as texts": {"y": "y\n" + "".join(f"{t}\n" for t in TEXTS)},
    "labels in quotes": {"y": "y\n" + "".join(f'"{t}"\n' for t in TEXTS)},
    "labels with a point": {"y": "y\n" + "".join(f"{v}.0\n" for v in Y)},
    "pandas' default, by its index": {
        "a": frame(A).to_csv(),
        "b": frame(B).to_csv(),
        "y": pandas.Series(Y, name="y").to_csv(),
        "index": "Unnamed: 0",
    },
    "pandas' default of plain arrays, by its index": {
        "a": pandas.DataFrame(A).to_csv(),
        "b": pandas.DataFrame(B).to_csv(),
        "y": pandas.Series(Y).to_csv(),
        "index": "Unnamed: 0",
    },
    "an index, each file in its order": {
        "a": frame(A, index=IDS)[::-1].to_csv(index_label="id"),
        "b": frame(B, index=IDS).iloc[ORDER].to_csv(index_label="id"),
        "y": pandas.Series(Y, IDS, name="y").to_csv(index_label="id"),
        "index": "id",
    },
    "an index that is not the first column": {
        "a": frame(A)
        .assign(id=IDS)[["a", "id", "b", "c"]]
        .iloc[ORDER]
        .to_csv(index=False),
        "b": frame(B).assign(id=IDS).to_csv(index=False),
        "y": pandas.DataFrame({"y": Y, "id": IDS}).to_csv(index=False),
        "index": "id",
    },
    "an index of numbers, with a point in one file": {
        "a": frame(A, index=ORDER + 7.0).to_csv(index_label="n"),
        "b": frame(B, index=ORDER + 7)[::-1].to_csv(index_label="n"),
        "y": pandas.Series(Y, ORDER + 7, name="y").to_csv(index_label="n"),
        "index": "n",
    },
}


@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_sure_is_read_right(tmp_path, kind):
    found = written(tmp_path, **RIGHT[kind])
    np.testing.assert_allclose(found.x["a"], A, rtol=1e-6)
    np.testing.assert_allclose(found.x["b"], B, rtol=1e-6)
    expected = Y
    if kind in ("labels as texts", "labels in quotes"):
        expected = np.unique(TEXTS, return_inverse=True)[1]
    np.testing.assert_array_equal(found.y, expected)


COUNT = np.arange(N)
REFUSED = {
    "pandas' default": (
        {"a": frame(A).to_csv()},
        "`datasets.d.modalities.a` must .* 'Unnamed: 0' .*`index: Unnamed: 0`",
    ),
    "pandas' default, all files": (
        {
            "a": frame(A).to_csv(),
            "b": frame(B).to_csv(),
            "y": pandas.Series(Y, name="y").to_csv(),
        },
        "'Unnamed: 0'",
    ),
    "pandas' default of an array": (
        {"a": pandas.DataFrame(A).to_csv()},
        "'Unnamed: 0'|first row",
    ),
    "a literal Unnamed: 0": (
        {"a": with_first("Unnamed: 0", rng.permutation(900)[:N])},
        "no name",
    ),
    "texts as an index of pandas": (
        {"a": frame(A, index=IDS).to_csv()},
        "`index: Unnamed: 0`",
    ),
    "row numbers": ({"a": with_first("n", COUNT)}, "only counts the rows"),
    "row numbers from 1": ({"a": with_first("n", COUNT + 1)}, "only counts"),
    "row numbers downwards": ({"a": with_first("n", -COUNT)}, "only counts"),
    "row numbers in another order": (
        {"a": with_first("n", ORDER)},
        "only counts",
    ),
    "row numbers with points": (
        {"a": with_first("n", COUNT.astype(float))},
        "only counts",
    ),
    "row numbers with gaps": (
        {"a": with_first("n", np.cumsum(rng.integers(1, 9, N)))},
        "only counts",
    ),
    "row numbers in the last column": (
        {"a": frame(A).assign(n=ORDER).to_csv(index=False)},
        "column 'n'",
    ),
    "row numbers without a header": (
        {
            "a": text(np.column_stack([COUNT, COUNT * 0.5]), header=""),
            "b": text(B, header=""),
            "y": Y_NAKED,
            "header": False,
        },
        "column 1 only",
    ),
    "an id of numbers": (
        {"a": with_first("sample_id", rng.permutation(5000)[:N])},
        "another whole number in every row",
    ),
    "an id of texts": ({"a": with_first("id", IDS)}, "`index: id`"),
    "two files with an id in two orders": (
        {
            "a": with_first("code", ORDER * 7),
            "b": with_first("code", ORDER[::-1] * 7, B),
        },
        "'code' .* in another order than .*a.csv.*`index: code`",
    ),
    "two files with the same id": (
        {
            "a": with_first("code", ORDER * 7),
            "b": with_first("code", ORDER * 7, B),
        },
        "'code' .* the same as",
    ),
    "no header": ({"a": text(A, header="")}, "`header: false`.*first row is"),
    "no header, with NaN in the first row": (
        {"a": "0.1,,0.2\n" + text(A[1:], header="")},
        "`header: false`",
    ),
    "no header, with truths": (
        {"a": "".join(f"{v > 0},{v}\n" for v in A[:, 0])},
        "`header: false`",
    ),
    "numeric names": (
        {"a": pandas.DataFrame(A).to_csv(index=False)},
        "`header: true` if these are names",
    ),
    "no header, ids in front": (
        {"a": "".join(f"{i},{v}\n" for i, v in zip(IDS, A[:, 0], strict=True))},
        "hold numbers",
    ),
    "labels without a header": (
        {"y": Y_NAKED},
        "labels` must have a name.*'0'",
    ),
    "texts as labels without a header": (
        {"y": "".join(f"{t}\n" for t in TEXTS)},
        "labels` must have a name.*'ill'",
    ),
    "labels with row numbers": (
        {"y": pandas.Series(Y, name="y").to_csv()},
        r"one column of labels.*`index: NAME`.*\['Unnamed: 0', 'y'\]",
    ),
    "a header that was not announced away": (
        {"a": A_TEXT, "b": text(B, header=""), "y": Y_NAKED, "header": False},
        "'a' in column 1, row 0; leave out `header: false`",
    ),
    "two tables in one": (
        {"a": A_TEXT + "\n" + text(B)},
        "3 cells in every row",
    ),
    "a short row": ({"a": A_TEXT + "1,2\n"}, "3 cells .* with 2 in row 30"),
    "a long row": ({"a": A_TEXT + "1,2,3,4\n"}, "3 cells .* with 4 in row 30"),
    "R's row names": (
        {
            "a": A_TEXT.splitlines()[0]
            + "\n"
            + "".join(
                f"{n},{line}\n"
                for n, line in enumerate(A_TEXT.splitlines()[1:])
            )
        },
        "3 cells .* with 4 in row 0",
    ),
    "decimal commas among commas": (
        {"a": text(A, ",", ",")},
        "3 cells .* with 6",
    ),
    "commas and points": (
        {"a": text(A, ";", ",") + "0.5;1,5;2\n"},
        "decimal commas.*'0.5'",
    ),
    "thousands": ({"a": "a;b\n" + "1.234,5;2\n" * N}, "'1.234,5'"),
    "one garbage column": ({"a": text(A, ":")}, "separated by a comma"),
    "spaces as separators": ({"a": text(A, " ")}, "separated by a comma"),
    "a text among the numbers": (
        {"a": row(4, c1="high")},
        "'high' in column 'b', row 3",
    ),
    "a number with its unit": (
        {"a": row(4, c1="3 kg")},
        "'3 kg' in column 'b'",
    ),
    "a number of Python": ({"a": row(4, c1="1_000")}, "'1_000' in column 'b'"),
    "a cell without a value": (
        {"a": row(4, c1="")},
        "NaN .* in 1 rows, .* row 3",
    ),
    "a cell that is NaN": (
        {"a": row(4, c2="NaN")},
        "NaN .* in 1 rows, .* row 3",
    ),
    "a cell that is NA": ({"a": row(4, c2="NA")}, "NaN .* in 1 rows, .* row 3"),
    "a question mark": ({"a": row(4, c2="?")}, "NaN .* in 1 rows, .* row 3"),
    "infinity": ({"a": row(4, c2="inf")}, "infinite .* in 1 rows, .* row 3"),
    "1e400": ({"a": row(4, c2="1e400")}, "infinite .* in 1 rows, .* row 3"),
    "a column of NaN": (
        {"a": frame(A).assign(n=np.nan).to_csv(index=False)},
        "NaN .* in 30 rows",
    ),
    "an empty line among labels": (
        {"y": Y_TEXT.replace("y\n0\n", "y\n0\n\n", 1)},
        "1 empty labels, .* row 1",
    ),
    "a label that is empty in quotes": (
        {"y": Y_TEXT.rstrip("\n")[:-1] + '""\n'},
        "1 empty labels, .* row 29",
    ),
    "a label that is NA": ({"y": Y_TEXT.replace("2", "NA", 1)}, "empty labels"),
    "fewer labels": ({"y": Y_TEXT.rstrip("\n")[:-2]}, r"'labels': \(29,\)"),
    "fewer rows": ({"a": text(A[:-1])}, r"'a': \(29, 3\)"),
    "an empty file": ({"a": ""}, "which is empty"),
    "a header alone": ({"a": "a,b,c\n"}, "rows of features"),
    "labels that are a header alone": ({"y": "y\n"}, "label for each sample"),
    "no file": ({"a": None}, "does not exist"),
    "latin letters of another code": (
        {"a": "ä,b,c\n".encode("latin-1") + A_TEXT[6:].encode()},
        "in UTF-8",
    ),
    "a spreadsheet": (
        {"a": b"PK\x03\x04\x14\x00\x06\x00" + bytes(range(256))},
        "in UTF-8",
    ),
    "zero bytes": ({"a": A_TEXT + "\x00\x00"}, "in UTF-8.*zero bytes"),
    "a quote without an end": (
        {"a": A_TEXT + '"1,2,3\n'},
        r"in UTF-8.*\(unexpected end",
    ),
    "a cell without an end": (
        {"a": 'a,b\n"' + "1" * 200_000 + '",2\n'},
        "field larger",
    ),
    "an index that is not there": (
        {"index": "id"},
        "one column 'id', the `index`",
    ),
    "an index that the labels lack": (
        {
            "a": with_first("id", IDS),
            "b": with_first("id", IDS, B),
            "index": "id",
        },
        "labels` must have one column 'id'",
    ),
    "an index twice in a header": (
        {"a": with_first("k", IDS).replace("k,a", "k,k"), "index": "k"},
        r"one column 'k', the `index`.*\['k', 'k', 'b', 'c'\]",
    ),
    "an index with a value twice": (
        {
            "a": with_first("id", [*IDS[:-1], IDS[0]]),
            "b": with_first("id", IDS, B),
            "y": pandas.DataFrame({"id": IDS, "y": Y}).to_csv(index=False),
            "index": "id",
        },
        "tell every sample apart.*a.csv' with 1 values",
    ),
    "an index with an empty value": (
        {
            "a": with_first("id", ["", *IDS[1:]]),
            "b": with_first("id", IDS, B),
            "y": pandas.DataFrame({"id": IDS, "y": Y}).to_csv(index=False),
            "index": "id",
        },
        "tell every sample apart.* 1 that are empty",
    ),
    "an index that lacks samples": (
        {
            "a": with_first("id", IDS[:-2], A[:-2]),
            "b": with_first("id", IDS, B),
            "y": pandas.DataFrame({"id": IDS, "y": Y}).to_csv(index=False),
            "index": "id",
        },
        f"a.csv' without 2 .* '{IDS[-2]}', and with 0 others",
    ),
    "an index of other samples": (
        {
            "a": with_first("id", [*IDS[:-1], "new"]),
            "b": with_first("id", IDS, B),
            "y": pandas.DataFrame({"id": IDS, "y": Y}).to_csv(index=False),
            "index": "id",
        },
        "without 1 .* with 1 others, such as 'new'",
    ),
    "an index that is a number": (
        {"index": 0},
        "`datasets.d.index` must be the name",
    ),
    "an index that is true": (
        {"index": True},
        "`datasets.d.index` must be the name",
    ),
    "an index without a header": (
        {"index": "id", "header": False},
        "must name a column of a header",
    ),
    "a header that is a text": (
        {"header": "no"},
        "`datasets.d.header` must be True",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_sure_is_refused(tmp_path, kind):
    entry, message = REFUSED[kind]
    with pytest.raises((ValueError, FileNotFoundError), match=message) as e:
        written(tmp_path, **entry)
    found = str(e.value)
    assert found.startswith("`datasets.d")
    assert len(found.splitlines()) == 1 and "Received: " in found


def test_whoever_says_so_has_every_column_as_a_feature(tmp_path):
    found = written(tmp_path, a=with_first("n", ORDER), index=False)
    np.testing.assert_array_equal(found.x["a"][:, 0], ORDER)
    assert found.x["a"].shape == (N, 4)


def test_constant_columns_are_read_and_say_nothing(tmp_path):
    found = written(tmp_path, a=with_first("k", [5] * N))
    assert (found.x["a"][:, 0] == 5).all()
    (train, _), _ = load_npz(tmp_path, {"a": found.x["a"]}, Y).parts(0)
    assert (train["a"][:, 0] == 0).all()


def test_noise_with_an_index_is_not_learned(tmp_path):
    """Sorted by class, the row number alone tells the classes apart."""
    y = "y\n" + "".join(f"{v}\n" for v in np.sort(Y))
    with pytest.raises(ValueError, match="only counts the rows|no name"):
        written(tmp_path, a=frame(A).to_csv(), y=y)


def test_an_array_with_row_numbers_is_refused_too(tmp_path):
    x = {"a": np.column_stack([A, ORDER]), "b": B}
    with pytest.raises(ValueError, match="'a', whose column 3 only counts"):
        load_npz(tmp_path, x, Y)
    found = load_npz(tmp_path, x, Y, index=False)
    assert found.x["a"].shape == (N, 4)
    with pytest.raises(ValueError, match="`datasets.d.index` must be one of"):
        load_npz(tmp_path, x, Y, index="id")


def test_of_a_function_row_numbers_are_named():
    x = {"a": np.column_stack([COUNT, A]), "b": B}
    with pytest.warns(UserWarning, match="Column 0 of modality 'a' only"):
        Dataset(lambda: (x, Y)).load("d")


def test_tables_of_a_function_must_have_the_same_rows():
    x = {"a": frame(A), "b": frame(B)}
    found = Dataset(lambda: (x, Y), scale="none").load("d")
    np.testing.assert_allclose(found.x["a"], A, rtol=1e-6)
    shuffled = {**x, "b": x["b"].iloc[ORDER]}
    with pytest.raises(
        ValueError, match="'a' .* 'b' of `source` must have the same row"
    ):
        Dataset(lambda: (shuffled, Y)).load("d")
    labels = pandas.Series(Y)[::-1]
    with pytest.raises(
        ValueError, match="labels of `source` must have the same row"
    ):
        Dataset(lambda: (x, labels)).load("d")
