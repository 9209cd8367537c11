"""A comparison so small that it takes seconds."""

import json

import numpy as np
import yaml

from keras_mmrel.benchmark import run


def arrays(samples=40, classes=2, seed=0):
    """Two modalities that tell the classes apart, and labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % classes
    x = {
        "a": y[:, None] + rng.normal(size=(samples, 4)),
        "b": 2.0 * y[:, None] + rng.normal(size=(samples, 3)),
    }
    return {k: v.astype("float32") for k, v in x.items()}, y


def settings(**changes):
    """A config: one data set, two methods, one regime, one seed."""
    return {
        "title": "Tiny",
        "datasets": {"tiny": {"source": "npz", "path": "tiny.npz"}},
        "methods": {
            "LateFusion": {},
            "votes": {
                "model": "LateFusion",
                "options": {"average": "probabilities"},
            },
        },
        "regimes": {"clean": {}},
        "seeds": 1,
        "training": {
            "epochs": 2,
            "batch_size": "full",
            "learning_rate": 0.02,
        },
        "evaluation": {
            "corruptions": ["gaussian_one", "missing"],
            "severities": {"gaussian_one": [0.5, 2.0], "missing": [1.0]},
        },
        **changes,
    }


def tuned(**changes):
    """Two methods, two regimes, two seeds and a grid of two."""
    return settings(
        **{
            "regimes": {"clean": {}, "noisy": {"noise_probability": 0.5}},
            "seeds": 2,
            "tuning": {
                "fraction": 0.3,
                "repeats": 1,
                "grid": {"learning_rate": [0.0001, 0.05]},
            },
            **changes,
        }
    )


def write(folder, config=None, data=None):
    """Write a config and its data, and return the path of the config."""
    x, y = data or arrays()
    folder.mkdir(exist_ok=True)
    np.savez(folder / "tiny.npz", **x, y=y)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config or settings(), sort_keys=False))
    return path


def write_rosmap(folder, flip):
    """Files as MOGONET publishes them, with test labels turned round or not."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    labels = {"tr": np.arange(245) % 2, "te": np.arange(106) % 2}
    for part, y in labels.items():
        for index in (1, 2, 3):
            values = rng.random((len(y), 200))
            values[:, ::2] += y[:, None]
            np.savetxt(
                folder / f"{index}_{part}.csv", values, "%.4f", delimiter=","
            )
        written = 1 - y if flip and part == "te" else y
        np.savetxt(folder / f"labels_{part}.csv", written, "%d")


def compare(folder, config=None, arrays=None, **options):
    """Run a comparison in a folder and return the folder of its results."""
    out = folder / "out"
    run(write(folder, config, arrays), out, verbose=0, **options)
    return out


def lines(out, kind=None):
    """Records of a folder, strictly parsed, without a cut line."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    found = []
    for line in (out / "runs.jsonl").read_text().splitlines():
        if line.strip():
            found.append(json.loads(line, parse_constant=refuse))
    return [r for r in found if kind in (None, r["kind"])]


def job(record):
    keys = ("seed", "dataset", "regime", "method")
    return tuple(record[key] for key in keys)


def jobs(out):
    return [job(record) for record in lines(out, "run")]


def scores(out):
    """Job -> all that a run found, without the time that it took."""
    return {
        job(record): {k: v for k, v in record.items() if k != "seconds"}
        for record in lines(out, "run")
    }


def files(folder):
    """Name -> content of every file, to see that nothing was touched."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def one_sentence(text):
    """Whether an error is one sentence and no traceback."""
    return "Traceback" not in text and len(text.strip().splitlines()) == 1
