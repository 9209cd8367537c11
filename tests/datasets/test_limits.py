"""Nobody's archive or answer takes more than the data can need."""

import http.server
import io
import os
import threading
import tracemalloc
import zipfile

import numpy as np
import pytest

from keras_mmrel.archives import check_sizes
from keras_mmrel.benchmark._files import read_arrays
from keras_mmrel.datasets import _fsdd
from keras_mmrel.datasets._download import fetch
from keras_mmrel.datasets._fsdd import load_clips
from keras_mmrel.datasets._mogonet import Study
from keras_mmrel.datasets._mogonet import load_study
from tests.benchmark.made_data import load

pytestmark = pytest.mark.one_backend

MEBIBYTE = 1 << 20
FOLDER = "free-spoken-digit-dataset-master/recordings"


def peak(act):
    """Megabytes of Python's and NumPy's memory that something took."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1] / MEBIBYTE
    finally:
        tracemalloc.stop()


def bomb(path, name, size, members=1, head=b""):
    """A ZIP file of zeros, a thousandth of what it unpacks to."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(members):
            with archive.open(name.format(number), "w") as file:
                file.write(head)
                for _ in range(size // MEBIBYTE):
                    file.write(bytes(MEBIBYTE))
    return path


def refused(path, act, match):
    """One sentence, and no memory."""

    def refuse():
        with pytest.raises(ValueError, match=match) as error:
            act()
        assert len(str(error.value).splitlines()) == 1

    assert path.stat().st_size < 4 * MEBIBYTE
    assert peak(refuse) < 8


def test_a_clip_that_is_a_bomb_is_refused(tmp_path):
    path = bomb(tmp_path / "a.zip", FOLDER + "/0_a_0.wav", 64 * MEBIBYTE)
    refused(
        path,
        lambda: load_clips(path),
        r"must hold FSDD's clips .* 67,108,864 bytes when unpacked, not",
    )


def test_many_clips_that_are_a_bomb_together_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_fsdd, "TOTAL_SIZE", 16 * MEBIBYTE)
    path = bomb(tmp_path / "a.zip", FOLDER + "/{}_a_0.wav", MEBIBYTE, 20)
    refused(path, lambda: load_clips(path), "20,971,520 bytes when unpacked")
    monkeypatch.setattr(_fsdd, "CLIPS", 10)
    refused(path, lambda: load_clips(path), "20 members, not at most 10")


def test_a_large_file_among_the_clips_is_refused(tmp_path):
    with (tmp_path / "0_a_0.wav").open("wb") as file:
        file.truncate(2 << 30)

    def read():
        with pytest.raises(ValueError, match="2,147,483,648 bytes, not at"):
            load_clips(tmp_path)

    assert peak(read) < 8


def npy_head(shape):
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def load_npz(path):
    return load(path.parent, source="npz", path=path.name)


def test_an_array_that_is_a_bomb_is_refused(tmp_path):
    size = (1 << 30) + MEBIBYTE
    shape = (size // 8,)
    path = bomb(tmp_path / "d.npz", "a.npy", size, head=npy_head(shape))
    refused(path, lambda: load_npz(path), r"d.path` must be an undam.*unpacked")


def test_an_array_that_says_more_than_it_has_is_refused(tmp_path):
    path = bomb(
        tmp_path / "d.npz", "a.npy", MEBIBYTE, head=npy_head((10**12, 3))
    )
    refused(
        path,
        lambda: load_npz(path),
        "undamaged .*'a.npy' has 1,048,576 bytes of an array of 24,000,000,000",
    )


@pytest.mark.parametrize(
    "members",
    [
        {"a.txt": b"text"},
        {"a.npy": b""},
        {"a.npy": b"no array"},
        {"a.npy": b"\x93NUMPY\x01\x00\xff\xff{"},
        {"a.npy": b"\x93NUMPY\x03\x00\x02\x00\x00\x00{}"},
        {"a.npy": b"\x93NUMPY\x01\x00\x02\x00{}"},
    ],
)
def test_a_member_that_is_no_array_is_refused(tmp_path, members):
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="undamaged `.npz` file of plain"):
        load_npz(path)


def test_arrays_that_are_mostly_zeros_are_read(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, a=np.zeros((1000, 1000)))
    assert path.stat().st_size < 1000 * 1000 * 8 // PACKED_AT_LEAST
    assert read_arrays(path)["a"].shape == (1000, 1000)


PACKED_AT_LEAST = 500


def test_labels_of_any_size_make_as_many_classes_as_there_are(tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 2))
    y = np.array([10**18, 0, -(10**18)] * 2)
    np.savez(tmp_path / "d.npz", a=x, y=y)
    assert load_npz(tmp_path / "d.npz").num_classes == 3
    rows = np.zeros((6, 100_000), "int8")
    rows[np.arange(6), [99_999, 7, 3] * 2] = 1
    np.savez_compressed(tmp_path / "d.npz", a=x, y=rows)
    assert load_npz(tmp_path / "d.npz").num_classes == 3


def test_check_sizes_reads_what_an_archive_announces(tmp_path):
    path = bomb(tmp_path / "a.zip", "{}", MEBIBYTE, members=3)
    with zipfile.ZipFile(path) as archive:
        check_sizes(archive, 3, MEBIBYTE, 3 * MEBIBYTE)
        for limits in (
            (2, MEBIBYTE, 3 * MEBIBYTE),
            (3, MEBIBYTE - 1, 3 * MEBIBYTE),
            (3, MEBIBYTE, 3 * MEBIBYTE - 1),
        ):
            with pytest.raises(ValueError, match="not at most"):
                check_sizes(archive, *limits)


# -- Downloads ---------------------------------------------------------------


@pytest.fixture
def endless(monkeypatch):
    """A server that never stops, and one that announces too much."""
    sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if self.path == "/announced":
                self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            try:
                for _ in range(1000):
                    self.wfile.write(bytes(MEBIBYTE))
                    sent.append(1)
            except OSError:
                pass

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        httpd.url = f"http://127.0.0.1:{httpd.server_port}"
        httpd.sent = sent
        yield httpd
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("page", "received"),
    [("announced", "1099511627776 bytes, not at most"), ("open", "more than")],
)
def test_no_more_is_taken_than_a_file_can_have(
    tmp_path, endless, page, received
):
    target = tmp_path / "cache/file.csv"
    with pytest.raises(OSError, match=f"must be served in full.*{received}"):
        fetch(f"{endless.url}/{page}", target, None, len, 3 * MEBIBYTE)
    assert list(target.parent.iterdir()) == []
    # What the system has buffered is not what was taken.
    assert len(endless.sent) < 60


STUDY = Study("TINY", rows=(6, 4), features=(3, 2, 5), num_classes=3)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home/datasets/keras_mmrel/TINY"
    folder.mkdir(parents=True)
    return folder


def test_a_folder_in_the_place_of_a_cached_file_is_named(cache):
    (cache / "1_tr.csv").mkdir()
    with pytest.raises(ValueError, match=r"cached file .*1_tr.csv must be a f"):
        load_study(STUDY, None, False, "http://127.0.0.1:9")
    (cache / "1_tr.csv").rmdir()
    (cache / "1_tr.csv").write_text("1,2,3\n")
    (cache / "1_tr.csv.sha256").mkdir()
    with pytest.raises(ValueError, match=r"1_tr.csv.sha256 must be a file"):
        load_study(STUDY, None, False, "http://127.0.0.1:9")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"x" * 10_000_000])
def test_a_damaged_digest_is_named(cache, content):
    (cache / "1_tr.csv").write_text("1,2,3\n")
    (cache / "1_tr.csv.sha256").write_bytes(content)
    with pytest.raises(ValueError, match="must be the one that was downl") as e:
        load_study(STUDY, None, False, "http://127.0.0.1:9")
    assert len(str(e.value)) < 600 and len(str(e.value).splitlines()) == 1


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    with pytest.raises(OSError, match="The cache .* `KERAS_HOME`"):
        load_study(STUDY, None, False, "http://127.0.0.1:9")


def test_a_large_table_of_a_user_is_refused_unread(tmp_path):
    with (tmp_path / "1_tr.csv").open("wb") as file:
        file.truncate(3 << 30)

    def read():
        with pytest.raises(ValueError, match="3,221,225,472 bytes, not at"):
            load_study(STUDY, tmp_path, False)

    assert peak(read) < 8
    assert os.listdir(tmp_path) == ["1_tr.csv"]
