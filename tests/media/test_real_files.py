"""Published files, where they are: spoken digits and emoji."""

import io
import os
import wave
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keras_mmrel import media
from tests.media.files import cut

pytestmark = pytest.mark.one_backend

DATA = Path(os.environ.get("KERAS_MMREL_DATA", "no such folder"))
SPOKEN = DATA / "fsdd" / "free-spoken-digit-dataset-master.zip"
EMOJI = DATA / "emoji" / "emoji.zip"


@pytest.mark.skipif(not SPOKEN.is_file(), reason="no FSDD")
@pytest.mark.parametrize("decoder", ["pyav", "soundfile"])
def test_spoken_digits_are_read_sample_by_sample(tmp_path, decoder):
    rows, expected = [], []
    with zipfile.ZipFile(SPOKEN) as archive:
        names = [n for n in archive.namelist() if n.endswith(".wav")][::50]
        for name in names:
            content = archive.read(name)
            (tmp_path / Path(name).name).write_bytes(content)
            with wave.open(io.BytesIO(content)) as file:
                frames = file.readframes(file.getnframes())
            expected.append(np.frombuffer(frames, "<i2") / 32768)
            rows.append((Path(name).name, Path(name).name[0]))
    data = media.MediaTable(
        pd.DataFrame(rows, columns=["file", "digit"]),
        {"sound": media.Audio("file", sample_rate=8000, decoder=decoder)},
        label="digit",
        root=tmp_path,
    )
    x, y = data.arrays()
    assert data.class_names == list("0123456789") and len(y) == 60
    for sound, samples in zip(x["sound"], expected, strict=True):
        count = len(samples)
        np.testing.assert_allclose(sound[:count], samples, atol=1e-7)
        assert (sound[count:] == 0).all()


@pytest.mark.skipif(not EMOJI.is_file(), reason="no emoji")
def test_emoji_are_pictures_and_texts_of_nine_groups(tmp_path):
    with zipfile.ZipFile(EMOJI) as archive:
        archive.extractall(tmp_path)
    table = tmp_path / "emoji.csv"
    picture = tmp_path / pd.read_csv(table)["image"][0]
    cut(picture, picture)
    data = media.MediaTable(
        table,
        {
            "image": media.Image("image", size=16, pixels="uint8"),
            "name": media.Text("name", tokenizer=str.encode, length=32),
        },
        label="label",
        on_error="missing",
        workers=2,
    )
    x, y = data.arrays()
    assert x["image"].shape == (1377, 16, 16, 3)
    assert data.num_classes == 9 and np.bincount(y).min() == 5
    assert data.missing == {"image": 0, "name": 0}
    assert [entry[:2] for entry in data.unreadable] == [(0, "image")]
    assert x["modality_mask"].sum() == 2 * 1377 - 1
    assert x["name"]["padding_mask"].any(axis=1).all()
    pictures = x["image"].reshape(1377, -1).astype(float)
    assert (pictures[1:].std(axis=1) > 1).all()
