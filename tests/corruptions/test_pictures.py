"""The page of the corruptions of raw media, and its pictures."""

import io
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_mmrel import corruptions
from tests.corruptions import media

pytestmark = pytest.mark.one_backend
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/corruptions.md").read_text()
MEDIA = [
    name
    for name in corruptions.__all__
    if media.of(getattr(corruptions, name)) is not None
]


def test_every_corruption_of_raw_media_has_its_unit_and_its_picture():
    script = (ROOT / "scripts/draw_corruptions.py").read_text()
    assert len(MEDIA) == 12
    for name in MEDIA:
        assert re.search(rf"\| `{name}` \| \w+", PAGE), name
        assert f"c.{name}" in script, name


def test_pictures_of_the_page_are_small_and_what_the_script_draws(tmp_path):
    names = re.findall(r"\]\((corruptions/\w+\.png)\)", PAGE)
    files = [ROOT / "docs" / name for name in names]
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) < 300_000
    script = runpy.run_path(str(ROOT / "scripts/draw_corruptions.py"))
    script["main"](tmp_path)
    for file in files:
        kept, drawn = (
            np.asarray(Image.open(io.BytesIO(f.read_bytes())).convert("L"))
            for f in (file, tmp_path / file.name)
        )
        assert kept.shape == drawn.shape
        # Fonts and versions of Matplotlib move single pixels.
        assert np.abs(kept.astype(float) - drawn).mean() < 8
