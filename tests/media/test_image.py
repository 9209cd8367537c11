"""Pictures from real files: orientation, alpha, depth, size, and refusal."""

import numpy as np
import pytest
from PIL import Image as Pillow

from keras_mmrel.media import Image
from tests.media.files import cut

pytestmark = pytest.mark.one_backend


def read(path, **options):
    medium = Image("file", **{"size": (4, 6), **options})
    values = medium.decode(path, {}, None)
    assert values.shape == medium.shape
    assert values.dtype == medium.dtype
    return values


def halves(height=4, width=6, left=0, right=255):
    """Greyscale whose left half differs from the right one."""
    values = np.full((height, width), left, "uint8")
    values[:, width // 2 :] = right
    return values


def save(path, values, mode=None, **options):
    Pillow.fromarray(values, mode).save(path, **options)
    return path


def test_pixels_are_those_that_were_written(tmp_path):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 6, 3), "uint8")
    path = save(tmp_path / "a b,c é.png", colours)
    np.testing.assert_array_equal(read(path, pixels="uint8"), colours)
    np.testing.assert_allclose(read(path), colours / 255, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB", "RGBA", "CMYK", "LA"])
def test_every_mode_has_the_channels_that_are_wanted(tmp_path, mode, channels):
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    Pillow.fromarray(halves()).convert(mode).save(path)
    values = read(path, channels=channels)
    colours = values[..., : min(channels, 3)]
    np.testing.assert_allclose(colours[:, :3], 0, atol=1e-6)
    np.testing.assert_allclose(colours[:, 3:], 1, atol=1e-6)
    assert channels < 4 or (values[..., 3] == 1).all()


def test_what_is_transparent_is_white_or_stays_so(tmp_path):
    values = np.zeros((4, 6, 4), "uint8")
    values[:, 3:, 3] = 255
    path = save(tmp_path / "a.png", values)
    shown = read(path)
    assert (shown[:, :3] == 1).all() and (shown[:, 3:] == 0).all()
    assert (read(path, channels=4)[:, :3, 3] == 0).all()
    # One colour of a palette, too.
    palette = Pillow.fromarray(halves()).convert("P")
    palette.save(path, transparency=0)
    assert (read(path) == 1).all()


def test_sixteen_bits_are_not_made_eight(tmp_path):
    depth = np.arange(24, dtype="uint16").reshape(4, 6) * 3 + 1000
    path = save(tmp_path / "a.png", depth)
    values = read(path, channels=1)[..., 0]
    np.testing.assert_allclose(values * 65535, depth, atol=0.01)
    assert read(path, channels=1, pixels="uint8").max() == 4
    assert (read(path, channels=3)[..., 1] == values).all()
    metres = np.linspace(0, 9, 24, dtype="float32").reshape(4, 6)
    path = save(tmp_path / "b.tiff", metres)
    np.testing.assert_allclose(read(path, channels=1)[..., 0], metres)
    with pytest.raises(ValueError, match="from 0 to 9 of a picture of 32 bits"):
        read(path, channels=1, pixels="uint8")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_photograph_is_upright(tmp_path, orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", halves(40, 60), exif=exif, quality=95)
    turned = orientation in (6, 8)
    size = (60, 40) if turned else (40, 60)
    values = read(path, size=size, channels=1)[..., 0]
    light = values > 0.5
    places = {
        1: light[:, size[1] // 2 + 2 :],
        3: light[:, : size[1] // 2 - 2],
        6: light[size[0] // 2 + 2 :],
        8: light[: size[0] // 2 - 2],
    }
    assert places[orientation].all()
    assert light.mean() == pytest.approx(0.5, abs=0.1)


def test_a_size_is_reached_in_three_ways(tmp_path):
    wide = np.full((10, 40), 255, "uint8")
    wide[:, :15] = 0
    wide[:, 25:] = 0
    path = save(tmp_path / "a.png", wide)
    crop, pad, stretch = (
        read(path, size=(10, 10), channels=1, fit=fit)[..., 0]
        for fit in ("crop", "pad", "stretch")
    )
    assert (crop == 1).all()
    assert (pad[:3] == 0).all() and pad[5, 5] > 0.9 and pad[5, 1] == 0
    assert (stretch[:, :3] == 0).all() and (stretch[:, 4:6] > 0.9).all()


def test_of_an_animation_there_is_the_first_picture(tmp_path):
    pictures = [Pillow.fromarray(np.full((4, 6), v, "uint8")) for v in (9, 99)]
    path = tmp_path / "a.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    assert (read(path, pixels="uint8") == 9).all()


def test_what_is_no_whole_picture_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 60, 3), "uint8")
    for name in ("a.png", "a.jpg"):
        part = cut(save(tmp_path / name, noise), tmp_path / f"cut_{name}")
        with pytest.raises((ValueError, OSError)):
            read(part)
    for content in (b"", b"\x89PNG\r\n\x1a\n", b"hello", b"GIF89a" + b"\0" * 9):
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises((ValueError, OSError)):
            read(tmp_path / "b.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_of_a_huge_picture_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Pillow.new("1", (20_000, 6_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="20000 x 6000 pixels"):
        read(path)
