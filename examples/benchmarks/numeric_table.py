"""Is there a NaN? Every model under everything that makes one.

    python examples/benchmarks/numeric_table.py

Every model trains two epochs on data that come through a pipeline, so that no
check stands in the way: in three precisions, with 1, 2 and 10 modalities, 2
and 1,000 classes, a batch of one at the end of every epoch, and data that are
ordinary, one to a thousand, constant, full of 1e20 and NaN, or all of that;
and with gradients accumulated, clipped, or a compiled step. Losses, weights
(the optimizer's too) and all outputs must be finite. A cell counts the
combinations of modalities and classes that were, and names what was not.
Each backend and model runs in a process of its own, whose result is kept in a
file beside the table until that is written: the command goes on where it was
stopped. It fails if something is not finite.
"""

import json
import sys
from pathlib import Path
from typing import Any

from _harness import markdown
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import write

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
COUNTS = (1, 2, 10)
CLASSES = (2, 1000)
DATA = ("ordinary", "1 : 1000", "constant", "1e20, NaN", "all of these")
STEPS = ("accumulated", "clipped", "jit_compile")
SAMPLES, BATCH = 1001, 500  # The third batch of an epoch holds one sample.


def models() -> list[str]:
    import keras_mmrel

    base = keras_mmrel.MultimodalModel
    found = {
        n: getattr(keras_mmrel.models, n) for n in keras_mmrel.models.__all__
    }
    return [n for n, c in found.items() if issubclass(c, base) and c != base]


def shapes_of(count: int) -> dict[str, tuple[int, ...]]:
    """Vectors, and an image among them where there are several."""
    shapes: dict[str, tuple[int, ...]] = {f"m{i}": (4,) for i in range(count)}
    if count > 1:
        shapes["m1"] = (5, 5, 1)
    return shapes


def pipeline(name: str, shapes: dict, classes: int, kind: str) -> Any:
    """Batches of data of a kind for a model, and all of its inputs."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    x = {
        key: rng.uniform(size=(SAMPLES, *shape)).astype("float32")
        for key, shape in shapes.items()
    }
    y = np.arange(SAMPLES) % classes
    every = kind == "all of these"
    if every or kind == "1 : 1000":
        y = (np.arange(SAMPLES) == 7).astype("int64")
    if every or kind == "constant":
        x["m0"][:] = 7.0
        for values in x.values():
            values.reshape(SAMPLES, -1)[:, 0] = 0.0
    if every or kind == "1e20, NaN":
        last = x[f"m{len(shapes) - 1}"].reshape(SAMPLES, -1)
        # Not in the first batch, which is checked; in the last of one, too.
        last[BATCH::7, 1] = 1e20
        last[BATCH + 1 :: 7] = -1e20
        last[BATCH + 2 :: 7, 0] = np.nan
        last[-1] = np.inf

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return -(-SAMPLES // BATCH)

        def __getitem__(self, index: int) -> tuple:
            part = slice(BATCH * index, BATCH * (index + 1))
            batch = {key: value[part] for key, value in x.items()}
            if name == "QMF":
                batch["sample_id"] = np.arange(SAMPLES, dtype="int32")[part]
            return batch, y[part]

    return Batches(), x


def build(name: str, policy: str, count: int, classes: int, step: str) -> Any:
    import keras

    import keras_mmrel

    keras.utils.set_random_seed(0)
    options = {"history_size": SAMPLES} if name == "QMF" else {}
    model = getattr(keras_mmrel, name)(
        shapes_of(count), classes, seed=0, dtype=policy, **options
    )
    settings: dict[str, Any] = {}
    if step == "accumulated":
        settings = {"gradient_accumulation_steps": 2}
    if step == "clipped":
        settings = {"global_clipnorm": 1.0}
    model.compile(
        keras.optimizers.AdamW(3e-3, **settings),
        jit_compile=step == "jit_compile" or "auto",
    )
    return model


def not_finite(model: Any, data: Any, x: dict) -> list[str]:
    """Train and predict; return the names of what is not finite."""
    import numpy as np
    from keras import ops

    bad = []
    try:
        history = model.fit(data, epochs=2, verbose=0).history
        bad += [name for name, values in history.items() if not finite(values)]
    except ValueError as error:
        # What a pipeline must not hold may end the training, with a sentence;
        # by then it must have done no harm.
        if "Received" not in str(error):
            raise
    for variable in [*model.variables, *model.optimizer.variables]:
        value = ops.convert_to_tensor(variable)
        if "float" in variable.dtype:
            value = ops.convert_to_numpy(ops.cast(value, "float32"))
            if not finite(value):
                bad.append(variable.path)
    # A call takes what `predict` refuses in arrays.
    part = {name: np.concatenate([v[:9], v[-9:]]) for name, v in x.items()}
    for name, value in model(part, training=False).items():
        if not finite(ops.convert_to_numpy(ops.cast(value, "float32"))):
            bad.append(name)
    return bad


def finite(values: Any) -> bool:
    import numpy as np

    return bool(np.isfinite(np.asarray(values, "float64")).all())


def measure(name: str, cover: bool) -> dict[str, dict[str, list]]:
    """Row -> column -> one list of what is not finite a combination."""
    import warnings

    import keras

    # A data set by itself warns of what is meant here.
    warnings.filterwarnings("ignore", module="keras_mmrel|keras")
    rows: dict[str, dict[str, list]] = {}
    for index, policy in enumerate(POLICIES):
        row = rows.setdefault(f"{name} {policy}", {})
        print(name, policy, file=sys.stderr, flush=True)
        for count, classes in combinations(index, cover):
            try_data(row, name, policy, count, classes)
        for step in STEPS[index : index + 1] if cover else STEPS:
            if step == "jit_compile" and keras.config.backend() == "torch":
                continue
            model = build(name, policy, 2, 2, step)
            data, x = pipeline(name, shapes_of(2), 2, DATA[-1])
            row[step] = [not_finite(model, data, x)]
        keras.utils.clear_session(free_memory=False)
    return rows


def combinations(index: int, cover: bool) -> list[tuple[int, int]]:
    """Numbers of modalities and classes; to cover is to take two a policy."""
    if not cover:
        return [(count, classes) for count in COUNTS for classes in CLASSES]
    first, second = COUNTS[index], COUNTS[(index + 1) % 3]
    return [(first, CLASSES[index % 2]), (second, CLASSES[(index + 1) % 2])]


def try_data(
    row: dict[str, list], name: str, policy: str, count: int, classes: int
) -> None:
    """Train one model on every kind of data, from the same weights."""
    import numpy as np

    model = build(name, policy, count, classes, "")
    model.optimizer.build(model.trainable_variables)
    state = [*model.variables, *model.optimizer.variables]
    start = [np.array(variable) for variable in state]
    for kind in DATA:
        data, x = pipeline(name, shapes_of(count), classes, kind)
        bad = not_finite(model, data, x)
        row.setdefault(kind, []).append(
            [f"{count} modalities, {classes} classes: {b}" for b in bad]
        )
        for variable, value in zip(state, start, strict=True):
            variable.assign(value)


def finished(path: Path) -> dict[str, dict]:
    """What an interrupted command has left; a torn last line is not counted."""
    done = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            key, rows = json.loads(line)
        except ValueError:
            continue
        done[str(key)] = rows
    return done


def table(results: dict[str, dict]) -> tuple[str, int]:
    """One row a backend, model and precision, and the number of failures."""
    rows, failures = [], 0
    for backend, by_row in results.items():
        for name, cells in by_row.items():
            texts = []
            for column in (*DATA, *STEPS):
                runs = cells.get(column)
                if runs is None:
                    texts.append("-")
                    continue
                failed = [bad[0] for bad in runs if bad]
                failures += len(failed)
                good = f"{len(runs) - len(failed)} of {len(runs)}"
                texts.append("; ".join([good, *failed]))
            rows.append([backend, *name.split(), *texts])
    header = ["backend", "model", "precision", *DATA, *STEPS]
    return markdown(header, rows), failures


def main() -> None:
    arguments = parser(__doc__, "numeric_table.md")
    arguments.add_argument(
        "--cover",
        action="store_true",
        help="two of the six numbers of modalities and classes a precision",
    )
    arguments.add_argument(
        "--models", nargs="+", default=[], help="all by default"
    )
    args = arguments.parse_args()
    if args.worker == "models":
        report(models())
        return
    if args.worker:
        report(measure(args.models[0], args.cover))
        return
    names = args.models or run_worker(
        __file__, args.backends[0], "--worker", "models"
    )
    kept = args.out.with_suffix(".jsonl")
    done = finished(kept)
    results: dict[str, dict] = {}
    for backend in args.backends:
        for name in names:
            key = [backend, name, args.cover]
            if str(key) not in done:
                options = ["--worker", "run", "--models", name]
                options += ["--cover"] * args.cover
                rows = run_worker(__file__, backend, *options)
                done[str(key)] = rows
                with kept.open("a") as file:
                    file.write("\n" + json.dumps([key, rows]))
            results.setdefault(backend, {}).update(done[str(key)])
    body, failures = table(results)
    method = __doc__.split("\n\n", 2)[2].strip()
    write(args.out, "Numbers that are not finite", method, body, args)
    kept.unlink(missing_ok=True)
    if failures:
        raise SystemExit(f"{failures} of the trainings were not finite.")


if __name__ == "__main__":
    main()
