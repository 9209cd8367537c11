"""Decoded arrays on disk: found again, and never believed when damaged."""

import concurrent.futures
import multiprocessing

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from keras_mmrel import media
from keras_mmrel.media._cache import Cache

pytestmark = pytest.mark.one_backend


class Counted(media.Image):
    """Pictures, each reading of which is counted."""

    reads = 0

    def decode(self, path, cells, rng):
        type(self).reads += 1
        return super().decode(path, cells, rng)


@pytest.fixture
def table(tmp_path):
    Counted.reads = 0
    rng = np.random.default_rng(0)
    for index in range(6):
        values = rng.integers(0, 256, (8, 8, 3), "uint8")
        Pillow.fromarray(values).save(tmp_path / f"{index}.png")
    return pd.DataFrame({"file": [f"{index}.png" for index in range(6)]})


def make(table, folder, size=(4, 4), **options):
    image = Counted("file", size=size, **options)
    return media.MediaTable(
        table, {"image": image}, root=folder, cache=folder / "cache"
    )


def entries(folder):
    return sorted(p for p in (folder / "cache").rglob("*") if p.is_file())


def test_what_is_kept_is_not_decoded_again(table, tmp_path):
    first, _ = make(table, tmp_path).arrays()
    again, _ = make(table, tmp_path).arrays()
    assert Counted.reads == 6 and len(entries(tmp_path)) == 6
    np.testing.assert_array_equal(first["image"], again["image"])
    # The same content under another name is the same.
    (tmp_path / "0.png").rename(tmp_path / "other.png")
    renamed = table.replace("0.png", "other.png")
    make(renamed, tmp_path).arrays()
    assert Counted.reads == 6


def test_a_cache_that_is_a_file_is_named(table, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(ValueError, match="`cache` must be a folder.*exists"):
        make(table, tmp_path)


def test_another_setting_or_content_is_decoded(table, tmp_path):
    make(table, tmp_path).arrays()
    make(table, tmp_path, size=(2, 2)).arrays()
    make(table, tmp_path, fit="stretch").arrays()
    assert Counted.reads == 18
    data = make(table, tmp_path)
    old, _ = data.arrays()
    Pillow.new("RGB", (8, 8), "white").save(tmp_path / "3.png")
    new, _ = data.arrays()
    assert Counted.reads == 19 and (new["image"][3] == 1).all()
    # What comes after decoding changes nothing that is kept.
    make(table, tmp_path, transform=lambda v: v * 2).arrays()
    assert Counted.reads == 19


@pytest.mark.parametrize("damage", ["cut", "altered", "longer", "folder"])
def test_a_damaged_entry_is_decoded_again(table, tmp_path, damage):
    first, _ = make(table, tmp_path).arrays()
    entry = entries(tmp_path)[2]
    content = bytearray(entry.read_bytes())
    if damage == "folder":
        entry.unlink()
        entry.mkdir()
    else:
        content[-1] ^= 255 * (damage == "altered")
        content = content[:-9] if damage == "cut" else content
        entry.write_bytes(content + b"x" * (damage == "longer"))
    if damage == "folder":
        with pytest.warns(UserWarning, match="could not be written"):
            again, _ = make(table, tmp_path).arrays()
    else:
        again, _ = make(table, tmp_path).arrays()
        assert len(entries(tmp_path)) == 6
    assert Counted.reads == 7
    np.testing.assert_array_equal(first["image"], again["image"])


def test_what_is_random_is_not_kept(tmp_path):
    from tests.media.files import write_video

    write_video(tmp_path / "a.mp4", 20)
    clip = media.Video("file", frames=1, size=4, sampling="random")
    data = media.MediaTable(
        pd.DataFrame({"file": ["a.mp4"] * 8}),
        {"clip": clip},
        root=tmp_path,
        cache=tmp_path / "cache",
    )
    x, _ = data.arrays()
    assert len(np.unique(x["clip"])) > 4 and entries(tmp_path) == []


def fill(folder, seed):
    """Write and read one entry again and again; return what was wrong."""
    cache = Cache(folder)
    value = np.arange(50_000, dtype="float32")
    wrong = 0
    for _ in range(60):
        cache.put("ab" * 32, value)
        found = cache.get("ab" * 32, value.shape, "float32")
        wrong += found is None or bool((found != value).any())
    return wrong


def test_two_processes_write_one_entry(tmp_path):
    fork = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, fork) as pool:
        assert list(pool.map(fill, [tmp_path] * 2, (0, 1))) == [0, 0]
    assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] == [""]
