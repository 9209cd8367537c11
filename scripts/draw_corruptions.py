"""Draw what the corruptions of raw media do, for docs/corruptions.md.

    python scripts/draw_corruptions.py [FOLDER]

writes one picture a medium into the folder, by default docs/corruptions. All
that is shown is generated. Needs the extras `media` and `report`.
"""

import io
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from keras_mmrel import corruptions as c

FOLDER = Path(__file__).resolve().parents[1] / "docs/corruptions"
SAMPLE_RATE = 8000
INK, MUTED = "#24292f", "#8a8f98"
SENTENCES = (
    "a small dog runs along the beach",
    "two people ride their bikes to work",
    "the old clock has stopped at seven",
)

SOUNDS = {
    "clean": None,
    "WaveformNoise.from_snr(20)": c.WaveformNoise.from_snr(20),
    "WaveformNoise.from_snr(5)": c.WaveformNoise.from_snr(5),
    "WaveformClipping(0.1)": c.WaveformClipping(0.1),
    "WaveformClipping(0.6)": c.WaveformClipping(0.6),
    "DroppedSegments(0.4, segments=4)": c.DroppedSegments(0.4, segments=4),
}
IMAGES = {
    "clean": None,
    "Blur(1)": c.Blur(1.0),
    "Blur(3)": c.Blur(3.0),
    "Occlusion(0.1)": c.Occlusion(0.1),
    "Occlusion(0.4)": c.Occlusion(0.4),
    "JPEGCompression.\nfrom_quality(30)": c.JPEGCompression.from_quality(30),
    "JPEGCompression.\nfrom_quality(5)": c.JPEGCompression.from_quality(5),
    "Brightness(0.4,\n'brighter')": c.Brightness(0.4, direction="brighter"),
    "Brightness(0.4,\n'darker')": c.Brightness(0.4, direction="darker"),
}
VIDEOS = {
    "clean": None,
    "FrozenFrames(0.5)": c.FrozenFrames(0.5),
    "DroppedFrames(0.4)": c.DroppedFrames(0.4),
}
TEXTS = {
    "clean": None,
    "TypingErrors(0.05)": c.TypingErrors(0.05),
    "TypingErrors(0.2)": c.TypingErrors(0.2),
    "DroppedWords(0.3)": c.DroppedWords(0.3),
    "SwappedWords(0.4)": c.SwappedWords(0.4),
}


def syllables():
    """A second of four syllables that a voice might say, `(1, time)`."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    wave = np.zeros_like(time)
    for begin, pitch in ((0.08, 110), (0.30, 140), (0.52, 120), (0.74, 95)):
        loudness = np.exp(-0.5 * ((time - begin - 0.08) / 0.04) ** 2)
        wave += loudness * sum(
            np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 9)
        )
    wave *= (time > 0.05) & (time < 0.95)
    return 0.8 * wave[None] / np.abs(wave).max()


def scene(sun=0.3, height=96, width=128):
    """A house under the sun, `(height, width, 3)` in [0, 1]."""
    y, x = np.mgrid[:height, :width] / height
    image = np.stack([0.45 + 0.4 * y, 0.65 + 0.3 * y, 0.95 - 0.1 * y], -1)
    image[(x - 0.15 - sun) ** 2 + (y - 0.2) ** 2 < 0.012] = (1.0, 0.85, 0.2)
    hill = y > 0.62 + 0.08 * np.sin(4 * x) + 0.015 * np.sin(40 * x)
    image[hill] = (0.25, 0.55, 0.25)
    wall = (abs(x - 0.85) < 0.25) & (abs(y - 0.67) < 0.17)
    image[wall] = (0.8, 0.35, 0.3)
    joints = wall & (np.arange(height)[:, None] % 5 == 0)
    image[joints] = (0.9, 0.8, 0.75)
    image[(abs(x - 0.85) < 0.32 - 1.5 * (0.5 - y)) & (abs(y - 0.4) < 0.1)] = (
        0.35,
        0.2,
        0.2,
    )
    for left in (0.68, 0.9):
        window = (abs(x - left - 0.06) < 0.055) & (abs(y - 0.64) < 0.07)
        image[window] = (0.95, 0.95, 0.7)
    return image


def corrupted(corruption, values, seed):
    if corruption is None:
        return values[0]
    return corruption({"medium": values}, seed=seed)["medium"][0]


def draw_sound():
    figure, axes = plt.subplots(
        3, 2, figsize=(8, 4.2), sharex=True, sharey=True, layout="constrained"
    )
    wave = syllables()
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for axis, (name, corruption) in zip(axes.flat, SOUNDS.items(), strict=True):
        axis.plot(time, corrupted(corruption, wave, 1), color=INK, lw=0.3)
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_yticks([-1, 0, 1])
        axis.tick_params(labelsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("seconds", fontsize=8)
    return figure


def draw_images():
    figure, axes = plt.subplots(3, 3, figsize=(7, 6.3), layout="constrained")
    image = scene()[None]
    for axis, (name, corruption) in zip(axes.flat, IMAGES.items(), strict=True):
        axis.imshow(corrupted(corruption, image, 4).clip(0, 1))
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    return figure


def draw_video():
    clip = np.stack([scene(sun) for sun in np.linspace(0, 0.9, 8)])[None]
    figure, axes = plt.subplots(
        len(VIDEOS), 8, figsize=(8, 2.8), layout="constrained"
    )
    for line, (name, corruption) in zip(axes, VIDEOS.items(), strict=True):
        frames = corrupted(corruption, clip, 2)
        line[0].set_title(name, fontsize=9, loc="left")
        for axis, frame in zip(line, frames, strict=True):
            axis.imshow(frame.clip(0, 1))
            axis.set_axis_off()
    return figure


def draw_texts():
    figure = plt.figure(figsize=(8, 2.9))
    texts = np.array(SENTENCES, object)
    place = 0.93
    for name, corruption in TEXTS.items():
        shown = texts
        if corruption is not None:
            shown = corruption({"medium": texts}, seed=5)["medium"]
        figure.text(0.02, place, name, fontsize=9, color=MUTED, va="top")
        figure.text(
            0.3,
            place,
            "\n".join(shown),
            fontsize=9,
            color=INK,
            va="top",
            family="monospace",
        )
        place -= 0.19
    return figure


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in (
        ("sound", draw_sound),
        ("images", draw_images),
        ("video", draw_video),
        ("text", draw_texts),
    ):
        figure = draw()
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=90, facecolor="white")
        plt.close(figure)
        file = folder / f"{name}.png"
        # No palette: its steps would look like marks of a corruption.
        Image.open(drawn).convert("RGB").save(file, optimize=True)
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
