"""The file layout of MOGONET: folders, real downloads, and what breaks."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_mmrel.datasets import load_brca
from keras_mmrel.datasets import load_rosmap
from keras_mmrel.datasets._download import fetch
from keras_mmrel.datasets._mogonet import Study
from keras_mmrel.datasets._mogonet import load_study
from keras_mmrel.datasets.brca import BRCA
from keras_mmrel.datasets.rosmap import ROSMAP

pytestmark = pytest.mark.one_backend

TINY = Study("TINY", rows=(6, 4), features=(3, 2, 5), num_classes=3)


def write_study(folder, study):
    """Write a made-up study in the layout of the published ones."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, rows in zip(("tr", "te"), study.rows, strict=True):
        for index, columns in enumerate(study.features, start=1):
            values = rng.random((rows, columns))
            np.savetxt(folder / f"{index}_{split}.csv", values, delimiter=",")
        labels = np.arange(rows) % study.num_classes
        np.savetxt(folder / f"labels_{split}.csv", labels)
    for index, columns in enumerate(study.features, start=1):
        names = "".join(f"f{index}.{k}\n" for k in range(columns))
        (folder / f"{index}_featname.csv").write_text(names)
    return folder


@pytest.fixture
def tiny(tmp_path):
    return write_study(tmp_path / "served" / "TINY", TINY)


@pytest.fixture
def rosmap_folder():
    data = os.environ.get("KERAS_MMREL_DATA")
    if not data or not (Path(data) / "rosmap").is_dir():
        pytest.skip("KERAS_MMREL_DATA names no folder that holds `rosmap`")
    return Path(data) / "rosmap"


def same(first, second):
    """Compare two results of a loader exactly."""
    return all(
        np.array_equal(y1, y2)
        and list(x1) == list(x2)
        and all(np.array_equal(x1[k], x2[k]) for k in x1)
        for (x1, y1), (x2, y2) in zip(first, second, strict=True)
    )


def test_folder_gives_the_modalities_and_labels_as_written(tiny):
    (x_train, y_train), (x_test, y_test) = load_study(TINY, tiny, False)
    assert {k: x.shape for k, x in x_train.items()} == {
        "mrna": (6, 3),
        "methylation": (6, 2),
        "mirna": (6, 5),
    }
    assert {x.dtype.name for x in (*x_train.values(), *x_test.values())} == {
        "float32"
    }
    written = np.loadtxt(tiny / "3_te.csv", delimiter=",")
    np.testing.assert_array_equal(x_test["mirna"], written.astype("float32"))
    assert y_train.tolist() == [0, 1, 2, 0, 1, 2]
    assert y_test.tolist() == [0, 1, 2, 0] and y_test.dtype == "int32"


def test_feature_names_come_third_and_are_read_only_when_asked_for(tiny):
    names = load_study(TINY, str(tiny), True)[2]
    assert names["methylation"] == ["f2.0", "f2.1"]
    (tiny / "2_featname.csv").unlink()
    assert len(load_study(TINY, tiny, False)) == 2
    with pytest.raises(FileNotFoundError, match="'2_featname.csv'"):
        load_study(TINY, tiny, True)


def test_windows_line_ends_are_read_alike(tiny):
    expected = load_study(TINY, tiny, False)
    for file in tiny.iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert same(load_study(TINY, tiny, False), expected)


def drop_last_row(text):
    return "".join(text.splitlines(keepends=True)[:-1])


def drop_column(text):
    return "".join(f"{r.rsplit(',', 1)[0]}\n" for r in text.splitlines())


@pytest.mark.parametrize(
    ("name", "change", "received"),
    [
        ("1_tr.csv", drop_last_row, r"shape \(5, 3\), not \(6, 3\)"),
        ("2_te.csv", drop_column, r"shape \(4, 1\), not \(4, 2\)"),
        ("3_te.csv", lambda t: t[:40], "no line end"),
        ("3_te.csv", lambda t: t[:-3], "no line end"),
        ("3_te.csv", lambda t: t[:160] + "\n", "columns changed"),
        ("1_te.csv", lambda t: "", "an empty file"),
        ("1_te.csv", lambda t: "\n \n", "an empty file"),
        ("1_te.csv", lambda t: "x" + t[1:], "could not convert string"),
        ("1_te.csv", lambda t: "nan" + t[24:], "1 NaN or infinite"),
        ("1_te.csv", lambda t: "inf" + t[24:], "1 NaN or infinite"),
        ("labels_tr.csv", drop_last_row, r"shape \(5, 1\), not \(6, 1\)"),
        ("labels_tr.csv", lambda t: "3" + t[1:], r"labels \[3.0\], not"),
        ("labels_te.csv", lambda t: "-1" + t[1:], r"labels \[-1.0\], not"),
        ("labels_te.csv", lambda t: "0.5" + t[24:], r"labels \[0.5\], not"),
        ("2_featname.csv", drop_last_row, "1 feature names, not 2"),
        ("2_featname.csv", lambda t: "\n" + t[5:], "1 feature names, not 2"),
    ],
)
def test_damaged_file_is_named_with_the_remedy(tiny, name, change, received):
    file = tiny / name
    file.write_text(change(file.read_text()))
    with pytest.raises(
        ValueError,
        match=f"{name} must be as published.*replace it by .*/TINY/{name}"
        f".*Received: .*{received}",
    ):
        load_study(TINY, tiny, True)


def test_binary_content_is_refused_by_name(tiny):
    (tiny / "1_tr.csv").write_bytes(b"\xff\xfe\x00\x81" * 50)
    with pytest.raises(ValueError, match="1_tr.csv must be as published"):
        load_study(TINY, tiny, False)


@pytest.mark.parametrize("loader", [load_rosmap, load_brca])
def test_missing_file_is_named_with_where_to_get_it(loader, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match="`path` must be a folder .*'1_tr.csv'.*https://.*/1_tr.csv.*"
        "leave `path` out.*Received: path=",
    ):
        loader(tmp_path / "nowhere")


def test_download_equals_the_folder_and_is_used_again_offline(tiny, server):
    expected = load_study(TINY, tiny, True)
    received = load_study(TINY, None, True, server.url)
    assert same(received[:2], expected[:2]) and received[2] == expected[2]
    assert len(server.requests) == len(set(server.requests)) == 11
    shutil.rmtree(tiny)
    again = load_study(TINY, None, True, server.url)
    assert same(again[:2], expected[:2]) and again[2] == expected[2]
    assert len(server.requests) == 11


def test_download_that_ends_early_leaves_nothing_and_can_be_repeated(
    tiny, server
):
    server.cut["2_tr.csv"] = 10
    with pytest.raises(
        OSError, match="/TINY/2_tr.csv must be served in full.*Received: "
    ):
        load_study(TINY, None, False, server.url)
    kept = {file.name for file in (server.cache / "TINY").iterdir()}
    assert kept == {"1_tr.csv", "1_tr.csv.sha256"}
    server.cut.clear()
    received = load_study(TINY, None, False, server.url)
    assert same(received, load_study(TINY, tiny, False))
    assert server.requests.count("/TINY/1_tr.csv") == 1


def test_interrupted_download_leaves_nothing(tiny, server):
    def interrupt(file):
        assert file.read_bytes() == (tiny / "1_tr.csv").read_bytes()
        raise KeyboardInterrupt

    target = server.cache / "TINY" / "1_tr.csv"
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{server.url}/TINY/1_tr.csv", target, None, interrupt, 9999)
    assert list(target.parent.iterdir()) == []


def test_file_that_the_server_lacks_is_named_with_the_status(tiny, server):
    (tiny / "1_tr.csv").unlink()
    with pytest.raises(OSError, match="/TINY/1_tr.csv must be served.*404"):
        load_study(TINY, None, False, server.url)
    assert list((server.cache / "TINY").iterdir()) == []


def test_server_that_does_not_answer_is_named(tiny, server):
    url = "http://127.0.0.1:9"
    with pytest.raises(OSError, match="check the network and try again"):
        load_study(TINY, None, False, url)
    assert list((server.cache / "TINY").iterdir()) == []


def test_download_with_another_digest_is_not_kept(tiny, server):
    study = Study("TINY", (6, 4), (3, 2, 5), 3, {"1_tr.csv": "0" * 64})
    with pytest.raises(
        ValueError, match="download of .*/1_tr.csv must be the published file"
    ):
        load_study(study, None, False, server.url)
    assert list((server.cache / "TINY").iterdir()) == []


def test_download_without_a_known_digest_must_still_be_the_table(tiny, server):
    (tiny / "1_tr.csv").write_text("<html>Try again later</html>\n")
    with pytest.raises(ValueError, match="1_tr.csv.*could not convert string"):
        load_study(TINY, None, False, server.url)
    assert list((server.cache / "TINY").iterdir()) == []


@pytest.mark.parametrize(
    "change", [lambda t: t[:-3], lambda t: "9" + t[1:]], ids=["cut", "altered"]
)
def test_cached_file_that_changed_later_is_named(tiny, server, change):
    load_study(TINY, None, False, server.url)
    file = server.cache / "TINY" / "3_te.csv"
    file.write_text(change(file.read_text()))
    with pytest.raises(
        ValueError, match="cached file .*3_te.csv must be .*delete it and call"
    ):
        load_study(TINY, None, False, server.url)
    file.unlink()
    received = load_study(TINY, None, False, server.url)
    assert same(received, load_study(TINY, tiny, False))


def test_file_without_a_finished_download_does_not_count(tiny, server):
    cache = server.cache / "TINY"
    cache.mkdir(parents=True)
    (cache / "1_tr.csv").write_text("1.0,2.0,")
    (cache / "2_tr.csv.0123.part").write_text("1.0,2.0,")
    received = load_study(TINY, None, False, server.url)
    assert same(received, load_study(TINY, tiny, False))


def test_brca_has_its_published_sizes(tmp_path):
    folder = write_study(tmp_path / "BRCA", BRCA)
    (x_train, y_train), (x_test, _), names = load_brca(folder, True)
    assert [x.shape for x in x_train.values()] == [
        (612, 1000),
        (612, 1000),
        (612, 503),
    ]
    assert [x.shape for x in x_test.values()] == [
        (263, 1000),
        (263, 1000),
        (263, 503),
    ]
    assert set(y_train.tolist()) == {0, 1, 2, 3, 4}
    assert [len(n) for n in names.values()] == [1000, 1000, 503]


def test_rosmap_is_the_published_split(rosmap_folder):
    (x_train, y_train), (x_test, y_test), names = load_rosmap(
        rosmap_folder, return_feature_names=True
    )
    assert list(x_train) == ["mrna", "methylation", "mirna"]
    assert {x.shape for x in x_train.values()} == {(245, 200)}
    assert {x.shape for x in x_test.values()} == {(106, 200)}
    assert np.bincount(y_train).tolist() == [118, 127]
    assert np.bincount(y_test).tolist() == [51, 55]
    for x in (*x_train.values(), *x_test.values()):
        assert 0 <= x.min() and x.max() <= 1
    assert names["mrna"][0] == "ENSG00000161896.6"
    assert names["mirna"][0] == "hsa-let-7b"
    np.testing.assert_allclose(x_train["mrna"][0, 0], 0.18138132)


def test_rosmap_downloads_the_files_whose_digests_are_known(
    rosmap_folder, server, tmp_path
):
    served = tmp_path / "served" / "ROSMAP"
    shutil.copytree(rosmap_folder, served)
    expected = load_rosmap(rosmap_folder, True)
    received = load_study(ROSMAP, None, True, server.url)
    assert same(received[:2], expected[:2]) and received[2] == expected[2]
    offline = load_rosmap(return_feature_names=True)
    assert same(offline[:2], expected[:2])
    assert len(server.requests) == len(ROSMAP.sha256) == 11
