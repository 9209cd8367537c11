"""Archives of many files: unpacked once, as a whole, and nowhere else."""

import errno
import io
import os
import tarfile
import zipfile

import pytest

from keras_mmrel.datasets import _unpacking
from keras_mmrel.datasets._unpacking import RECORD
from keras_mmrel.datasets._unpacking import unpacked
from tests.media.files import cut

pytestmark = pytest.mark.one_backend

FILES = {"set/a, b.txt": b"one" * 1000, "set/deep/é.bin": b"", "c": b"2"}
MOST = 1 << 20


def write(path, files=FILES):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("set")
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        mode = "w:gz" if path.suffix == ".gz" else "w"
        with tarfile.open(path, mode) as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def content(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != RECORD
    }


NAMES = ("own.zip", "own.tar", "own.tar.gz")


@pytest.mark.parametrize("name", NAMES)
def test_files_are_those_of_the_archive(tmp_path, name, capsys):
    archive = write(tmp_path / name)
    folder = unpacked(archive, MOST)
    assert folder == tmp_path / f"{name}.unpacked"
    assert content(folder) == FILES
    # Again, nothing is written.
    time = (folder / "c").stat().st_mtime_ns
    assert unpacked(archive, MOST) == folder
    assert (folder / "c").stat().st_mtime_ns == time
    assert capsys.readouterr().out.count("Unpacking") == 1
    # Another archive is not what was unpacked.
    write(archive, {"c": b"other"})
    with pytest.raises(ValueError, match="changed since: delete it"):
        unpacked(archive, MOST)


def refused(archive, reason, most=MOST):
    expected = f"must be a whole ZIP .*{reason}"
    with pytest.raises(ValueError, match=expected) as error:
        unpacked(archive, most)
    assert "\n" not in str(error.value)
    assert not [p for p in archive.parent.iterdir() if "unpacked" in p.name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_truncated_archive_leaves_nothing(tmp_path, name, share):
    whole = write(tmp_path / name, {**FILES, "d": os.urandom(30_000)})
    (tmp_path / "cut").mkdir()
    refused(cut(whole, tmp_path / "cut" / name, share), "nothing was kept")


@pytest.mark.parametrize("name", NAMES)
def test_too_much_is_not_unpacked(tmp_path, name, monkeypatch):
    archive = write(tmp_path / name)
    refused(archive, "more than 3,000 bytes when unpacked", 3000)
    assert content(unpacked(archive, 3001)) == FILES
    monkeypatch.setattr(_unpacking, "MEMBERS", 2)
    again = write(tmp_path / f"again{archive.suffix}")
    with pytest.raises(ValueError, match="more than 2 files"):
        unpacked(again, MOST)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["../out", "a/../../out", "/tmp/out"])
def test_nothing_is_written_elsewhere(tmp_path, name, place):
    inner = tmp_path / "inner"
    inner.mkdir()
    refused(write(inner / name, {"a/b": b"1", place: b"2"}), "leaves it")
    assert not (tmp_path / "out").exists()


def test_links_are_passed_over(tmp_path):
    archive = tmp_path / "own.tar"
    with tarfile.open(archive, "w") as opened:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        opened.addfile(link)
        file = tarfile.TarInfo("file")
        opened.addfile(file)
    assert content(unpacked(archive, MOST)) == {"file": b""}
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    packed = tmp_path / "own.zip"
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr(link, "/etc")
        opened.writestr("file", b"")
    assert content(unpacked(packed, MOST)) == {"file": b""}


def test_one_name_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a", b"2")
    refused(tmp_path / "own.zip", "'a' twice")


def test_another_folder_may_be_named_after_the_content(tmp_path):
    archive = write(tmp_path / "own.zip")
    target = tmp_path / "some/where/else"
    assert unpacked(archive, MOST, target) == target
    assert content(target) == FILES
    # The archive's size and time say nothing of it.
    os.utime(archive, (1, 1))
    assert unpacked(archive, MOST, target) == target


def test_a_faster_process_wins(tmp_path, monkeypatch):
    archive = write(tmp_path / "own.zip")
    keep = _unpacking._keep

    def late(partial, target, record):
        target.mkdir()
        (target / "c").write_text("theirs")
        (target / RECORD).write_text((partial / RECORD).read_text())
        keep(partial, target, record)

    monkeypatch.setattr(_unpacking, "_keep", late)
    folder = unpacked(archive, MOST)
    assert content(folder) == {"c": b"theirs"}
    assert {p.name for p in tmp_path.iterdir()} == {"own.zip", folder.name}


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_unpacking.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="with room .*No space left on device"):
        unpacked(write(tmp_path / "own.zip"), MOST)
    assert [p.name for p in tmp_path.iterdir()] == ["own.zip"]
