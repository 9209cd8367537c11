"""Every example runs, on the backend of the tests, with tiny settings."""

import dataclasses
import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_mmrel.benchmark import Comparison
from keras_mmrel.benchmark.method import KNOWN

ROOT = Path(__file__).resolve().parents[1]
# For rows of a YAML file beside them, not scripts.
PARTS = (
    "av_encoders.py", "coexisting_noise.py", "equal_weights.py",
    "linear_encoders.py",
    "fixed_rates.py", "fusions.py", "noise_view.py", "random_depth.py",
)  # fmt: skip
EXAMPLES = sorted(
    file
    for file in (ROOT / "examples").rglob("*.py")
    if not file.name.startswith("_") and file.name not in PARTS
)
COMPARISONS = sorted((ROOT / "examples").glob("*.yaml"))
DATA = Path(os.environ.get("KERAS_MMREL_DATA", "none"))
EMOJI = DATA / "emoji/emoji.zip"
VIEWS = ("pixels", "profile", "fourier")
PNG = b"\x89PNG\r\n\x1a\n"


def run(script, *arguments, cwd=ROOT):
    """Run a script in a process of its own and return what it prints."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=cwd,
        env={
            **os.environ,
            "KERAS_BACKEND": keras.config.backend(),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def table_rows(text):
    """Cells of the rows, without header and rule, of a file's first table."""
    first = text[text.index("\n|") + 1 :].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in first.strip().splitlines()[2:]
    ]


# Every script in one process, which imports the framework once.
HELP = """
import runpy, sys
from pathlib import Path
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    sys.path.insert(0, str(Path(script).parent))
    print("==", script)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print("== exit", end.code)
    del sys.path[0]
"""


@pytest.mark.one_backend
def test_every_example_answers_help(tmp_path):
    script = tmp_path / "help.py"
    script.write_text(HELP)
    answers = run(script, *EXAMPLES).split("== exit 0\n")
    assert answers.pop() == ""
    for file, answer in zip(EXAMPLES, answers, strict=True):
        assert answer.startswith(f"== {file}\nusage: {file.name}")


@pytest.mark.one_backend
@pytest.mark.parametrize("file", COMPARISONS, ids=lambda p: p.name)
def test_rows_of_an_example_are_right_and_have_the_range_control(file):
    comparison = Comparison.from_yaml(file)
    assert comparison.baseline in comparison.methods
    assert any("test data" in note for note in comparison.notes)
    if file.name.startswith("known_numbers"):
        # Somebody else's protocol: it says who is who, not who is better.
        return
    defended = [m for m in comparison.methods.values() if m.quality]
    assert defended, "no row has a range control"
    inside = [
        protocol
        for protocol in comparison.evaluation.protocols
        if protocol.corruption.in_range
    ]
    assert len(inside) >= 4


@pytest.mark.one_backend
def test_the_full_comparison_has_every_model():
    comparison = Comparison.from_yaml(ROOT / "examples/comparison.yaml")
    assert len(comparison.datasets) == 7
    models = {m.model.__name__ for m in comparison.methods.values()}
    assert models == set(KNOWN)


def some_rows(name, rows, **changes):
    """A comparison of some rows of an example, and other settings."""
    whole = Comparison.from_yaml(ROOT / "examples" / name)
    settings = {
        "datasets": whole.datasets,
        "methods": {row: whole.methods[row] for row in rows},
        "training": whole.training,
        "evaluation": whole.evaluation,
    }
    return Comparison(**{**settings, **changes})


@pytest.mark.slow_on("jax", "tensorflow")
def test_the_balance_comparison_writes_its_page_and_figures(tmp_path):
    rows = ["late fusion, probabilities, range control", "CAL"]
    comparison = some_rows("noise_view.yaml", rows, seeds=1)
    assert set(comparison.datasets) == {f"noise for {v}" for v in VIEWS}
    name = "noise for profile"
    comparison.datasets = {name: comparison.datasets[name]}
    comparison.training = dataclasses.replace(comparison.training, epochs=1)
    comparison.run(tmp_path, verbose=0)
    comparison.report(tmp_path)
    page = (tmp_path / "report.md").read_text()
    for row in rows:
        assert page.count(f"| {row} | 1 |") >= 4
    assert f"## {name}, clean training" in page
    figure = tmp_path / "noise_for_profile_clean_accuracy.png"
    assert figure.read_bytes().startswith(PNG)
    assert "Corruptions inside the range" in page
    assert "Corruptions outside the range" in page


@pytest.mark.one_backend
def test_the_rows_of_av_digits_take_its_images_and_sounds():
    comparison = Comparison.from_yaml(ROOT / "examples/av_digits.yaml")
    shapes = {"audio": (32, 32), "image": (12, 12, 1)}
    x = {n: np.zeros((4, *shape), "float32") for n, shape in shapes.items()}
    for name, method in comparison.methods.items():
        chosen = method.modalities or list(shapes)
        inputs = {n: x[n] for n in chosen}
        model = method.make(inputs, 10, {}, seed=0)
        assert model.predict(inputs, verbose=0)["logits"].shape == (4, 10), name


@pytest.mark.one_backend
@pytest.mark.parametrize("which", ["small", "pretrained"])
def test_the_rows_of_emoji_take_pictures_and_words(tmp_path, which):
    module = runpy.run_path(str(ROOT / "examples/emoji.py"))
    comparison = module["comparison"](tmp_path, 1, 1, which)
    if which == "small":
        shapes = {"image": (module["SIDE"],) * 2 + (3,)}
        text = np.ones((4, module["LENGTH"]), "int32")
    else:
        shapes, text = {"image": (1280,)}, np.ones((4, 256), "float32")
    x = {n: np.zeros((4, *s), "float32") for n, s in shapes.items()}
    x["text"] = text
    for name, method in comparison.methods.items():
        inputs = {n: x[n] for n in method.modalities or x}
        model = method.make(inputs, 9, {}, seed=0)
        assert model.predict(inputs, verbose=0)["logits"].shape == (4, 9), name
    assert any(m.quality for m in comparison.methods.values())
    protocols = comparison.evaluation.protocols
    assert sum(protocol.corruption.in_range for protocol in protocols) >= 4


@pytest.mark.one_backend
@pytest.mark.slow
@pytest.mark.skipif(not EMOJI.is_file(), reason=f"no {EMOJI.name}")
def test_the_features_of_emoji_tell_their_groups():
    pytest.importorskip("wordllama")
    module = runpy.run_path(str(ROOT / "examples/emoji.py"))
    (x, y), (x_test, y_test) = module["load_features"](EMOJI.parent)
    assert {n: v.shape[1:] for n, v in x.items()} == {
        "image": (1280,),
        "text": (256,),
    }
    # Of nine groups; the largest has a quarter.
    nearest = [
        np.argmin(np.square(x["text"] - row).sum(1)) for row in x_test["text"]
    ]
    assert (y[nearest] == y_test).mean() > 0.5


@pytest.mark.one_backend
@pytest.mark.slow
def test_gpu_benchmark_is_tried_on_any_machine(tmp_path):
    out, backend = tmp_path / "gpu.md", keras.config.backend()
    script = ROOT / "examples/benchmarks/gpu.py"
    run(script, f"--backends={backend}", "--small", f"--out={out}")
    rows = table_rows(out.read_text())
    assert [row[0] for row in rows] == ["-"] * 2 + [backend] * 12
    assert all(float(row[3]) > 0 and float(row[5]) > 0 for row in rows)
    assert f"{backend} on " in out.read_text()


@pytest.mark.one_backend
@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="no KERAS_MMREL_DATA")
def test_input_scaling_benchmark_warns_of_raw_values_alone(tmp_path):
    out = tmp_path / "scaling.md"
    run(
        ROOT / "examples/benchmarks/input_scaling.py",
        f"--backends={keras.config.backend()}",
        f"--data={DATA}",
        *("--seeds=1", "--epochs=1", "--clips=1"),
        f"--out={out}",
    )
    warned = {tuple(row[1:3]) for row in table_rows(out.read_text())
              if row[5] == "yes"}  # fmt: skip
    assert warned == {
        ("emoji", "floats up to 255"),
        ("FSDD", "decibels"),
        ("FSDD, new speakers", "decibels"),
    }


@pytest.mark.slow
def test_class_count_benchmark_measures_time_and_memory(tmp_path):
    out = tmp_path / "classes.md"
    backend = keras.config.backend()
    run(
        ROOT / "examples/benchmarks/class_count.py",
        f"--backends={backend}",
        "--steps=2",
        "--repetitions=2",
        f"--out={out}",
    )
    rows = table_rows(out.read_text())
    assert [row[:2] for row in rows] == [
        [backend, classes] for classes in ("10", "200", "1000")
    ]
    assert all(float(row[2]) > 0 and float(row[4]) > 0 for row in rows)


@pytest.mark.slow
def test_quickstart_prints_a_table_and_draws_a_figure(tmp_path):
    text = run(
        ROOT / "examples/quickstart.py",
        "--epochs=2",
        f"--out={tmp_path / 'new'}",
        "--seed=1",
    )
    assert (tmp_path / "new/quickstart.png").read_bytes().startswith(PNG)
    for model in ("ConcatFusion", "QADMNet"):
        assert f"{model:<13} [{'#' * 20}] epoch   2/2" in text
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if set(line) == {"-"})
    rows = lines[start + 1 : lines.index("", start)]
    assert len(rows) == 6
    for row in rows:
        accuracies = [float(cell) for cell in row.split()[-4:-2]]
        # Better than chance after two epochs, whatever is corrupted.
        assert all(20 < accuracy <= 100 for accuracy in accuracies), row
    # The model runs no block on what is announced as missing.
    assert rows[-1].split()[-2] == "0.00"


@pytest.mark.slow
def test_train_step_benchmark_writes_a_row_for_every_model(tmp_path):
    out = tmp_path / "new/train_step.md"
    backend = keras.config.backend()
    run(
        ROOT / "examples/benchmarks/train_step.py",
        f"--backends={backend}",
        "--steps=2",
        "--repetitions=2",
        "--batch-size=8",
        "--memory-batch-size=64",
        "--remark=The settings are tiny.",
        f"--out={out}",
    )
    text = out.read_text()
    rows = table_rows(text)
    assert [row[0] for row in rows] == [backend] * 5
    assert all(float(row[2]) > 0 and float(row[3]) > 0 for row in rows)
    judged = [row[-1] for row in rows if row[-1] != "-"]
    assert len(judged) == 3
    assert all(verdict.startswith(("met", "MISSED")) for verdict in judged)
    assert "* The settings are tiny." in text
    assert f"keras {keras.__version__}" in text


@pytest.mark.slow
def test_depth_benchmark_finds_equal_outputs_at_every_depth(tmp_path):
    out = tmp_path / "new/depth.md"
    run(
        ROOT / "examples/benchmarks/depth_inference.py",
        f"--backends={keras.config.backend()}",
        "--widths=16",
        "--repetitions=2",
        "--batch-size=64",
        f"--out={out}",
    )
    rows = table_rows(out.read_text())
    assert [row[1] for row in rows] == ["whole", "graded"]
    assert all(row[-2] == "equal" for row in rows)
    assert all(float(ratio) > 0 for row in rows for ratio in row[4:10])
