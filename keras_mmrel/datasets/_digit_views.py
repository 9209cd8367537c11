"""Views of grey images, each `(n, 8, 8) -> (n, features)`."""

import numpy as np


def pixels(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def profile(images: np.ndarray) -> np.ndarray:
    """Ink of each row, then of each column."""
    return np.concatenate([images.sum(axis=2), images.sum(axis=1)], axis=1)


def fourier(images: np.ndarray) -> np.ndarray:
    """Log magnitude of the spectrum, the same for any cyclic shift."""
    return pixels(np.log1p(np.abs(np.fft.fft2(images))))


def gradient(images: np.ndarray) -> np.ndarray:
    """Histogram of edge orientations in each of 3 x 3 cells, by strength."""
    cells, bins = 3, 6
    down, right = np.gradient(images, axis=(1, 2))
    angle = np.arctan2(down, right) % np.pi
    index = np.minimum((angle * bins / np.pi).astype(int), bins - 1)
    votes = np.hypot(down, right)[..., None] * np.eye(bins)[index]
    size = images.shape[1]
    member = np.eye(cells)[np.arange(size) * cells // size]
    return pixels(np.einsum("nijb,ic,jd->ncdb", votes, member, member))


def moments(images: np.ndarray) -> np.ndarray:
    """Ink, its centre, and scale-free central moments of order 2 and 3."""
    position = np.arange(images.shape[1])
    mass = images.sum(axis=(1, 2))
    row = np.einsum("nij,i->n", images, position) / mass
    column = np.einsum("nij,j->n", images, position) / mass
    down = position - row[:, None]
    right = position - column[:, None]
    orders = [(p, total - p) for total in (2, 3) for p in range(total + 1)]
    central = [
        np.einsum("nij,ni,nj->n", images, down**p, right**q)
        / mass ** (1 + (p + q) / 2)
        for p, q in orders
    ]
    return np.stack([mass, row, column, *central], axis=1)


VIEWS = {
    "pixels": pixels,
    "profile": profile,
    "fourier": fourier,
    "gradient": gradient,
    "moments": moments,
}
