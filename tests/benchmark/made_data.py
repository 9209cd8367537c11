"""Data sets of a user, as files."""

import numpy as np

from keras_mmrel.benchmark.dataset import as_dataset


def load(folder, **entry):
    """Load a data set as a config in the folder would."""
    return as_dataset("datasets.d", "d", entry).load("d", folder=folder)


def load_npz(folder, x, y, **entry):
    np.savez(folder / "d.npz", **x, y=y)
    return load(folder, source="npz", path="d.npz", **entry)


def write_csv(path, values, header):
    values = np.asarray(values)
    values = values.reshape(len(values), -1)
    rows = [",".join(str(v) for v in row) for row in values.tolist()]
    if header:
        rows.insert(0, ",".join(f"f{n}" for n in range(values.shape[1])))
    path.write_text("\n".join(rows) + "\n")


def load_csv(folder, x, y, header=True, **entry):
    for name, values in [*x.items(), ("labels", y)]:
        write_csv(folder / f"{name}.csv", values, header)
    return load(
        folder,
        source="csv",
        modalities={name: f"{name}.csv" for name in x},
        labels="labels.csv",
        header=header,
        **entry,
    )
