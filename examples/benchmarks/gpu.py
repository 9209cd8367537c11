"""Speed of audio-visual training on a GPU, against plain PyTorch.

    python examples/benchmarks/gpu.py --backends torch jax
    python examples/benchmarks/gpu.py --backends torch --small

Two ResNet-18 without their last layer, one for pictures of 224 x 224 and one
for spectrograms of 257 x 188, are trained jointly and by the methods of the
library, in float32 and in mixed bfloat16. A sample is one picture and one
clip. The loop that they are compared with is written by hand in PyTorch, of
the same networks, loss, optimizer and batches, which lie in the host's memory
for all. Each framework has its default precision of products and convolutions.
A model is warmed up by a training of its own, so what a method does after a
warm-up is on. Rows that do not fit into `--minutes` are left out, and named.
`--small` is a try on a CPU: its figures say nothing of a GPU.
"""

import argparse
import contextlib
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from _harness import markdown
from _harness import milliseconds_a_step
from _harness import parser
from _harness import report
from _harness import run_worker
from _harness import write

# Reports are there; other benchmarks keep theirs beside them.
DOCS = Path(__file__).resolve().parents[2] / "docs/results"

CLASSES = 31
POLICIES = ("float32", "mixed_bfloat16")
PLAIN = "PyTorch by hand"
METHODS = ("joint", "OGM", "AIM", "CAL", "QADM-Net", "MICINet")
SHAPES = {"image": (224, 224, 3), "audio": (257, 188, 1)}
SMALL = {"image": (32, 32, 3), "audio": (33, 24, 1)}
WIDTH, SMALL_WIDTH = 64, 8
RATE, MOMENTUM = 1e-3, 0.9


def data(args: argparse.Namespace) -> tuple[dict, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    count = args.batch_size * args.steps
    x = {
        name: rng.uniform(size=(count, *shape)).astype("float32")
        for name, shape in (SMALL if args.small else SHAPES).items()
    }
    return x, rng.integers(0, CLASSES, count)


# -- By the library ----------------------------------------------------------


def residual(x: Any, filters: int, strides: int) -> Any:
    """Two convolutions of 3 x 3, added to their input, as in ResNet-18."""
    from keras import layers

    def convolved(x: Any, size: int, strides: int) -> Any:
        x = layers.Conv2D(
            filters, size, strides, padding="same", use_bias=False
        )(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    shortcut = x if strides == 1 else convolved(x, 1, strides)
    x = layers.ReLU()(convolved(x, 3, strides))
    return layers.ReLU()(layers.add([convolved(x, 3, 1), shortcut]))


def resnet18(shape: tuple, width: int) -> list:
    """Return the five parts of a ResNet-18, one after the other."""
    import keras
    from keras import layers

    parts = []
    for index in range(5):
        inputs = x = keras.Input(shape)
        if index == 0:
            x = layers.Conv2D(width, 7, 2, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)
            x = layers.MaxPooling2D(3, 2, padding="same")(layers.ReLU()(x))
        else:
            filters = width * 2 ** (index - 1)
            x = residual(x, filters, 1 if index == 1 else 2)
            x = residual(x, filters, 1)
        parts.append(keras.Model(inputs, x))
        shape = tuple(x.shape[1:])
    return parts


def library_model(method: str, policy: str, small: bool) -> Any:
    """Return a compiled model with an encoder of each modality."""
    import keras

    import keras_mmrel

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    names = {"QADM-Net": "QADMNet", "joint": "ConcatFusion"}
    names["OGM"] = "ConcatFusion"
    modalities = {
        name: resnet18(shape, SMALL_WIDTH if small else WIDTH)
        for name, shape in (SMALL if small else SHAPES).items()
    }
    model = getattr(keras_mmrel, names.get(method, method))(
        modalities, CLASSES, seed=0
    )
    balance = keras_mmrel.modulations.OGM() if method == "OGM" else None
    model.compile(keras.optimizers.SGD(RATE, MOMENTUM), modulation=balance)
    return model


def measure(args: argparse.Namespace) -> dict:
    """Row -> milliseconds a step, one number a round."""
    import keras

    x, y = data(args)
    found = {}
    for policy in POLICIES:
        for method in METHODS:
            if time.time() > args.until:
                return found
            model = library_model(method, policy, args.small)

            def step(model: Any = model) -> float:
                return milliseconds_a_step(model, x, y, args.batch_size)

            step()
            found[f"{policy} {method}"] = [step() for _ in range(args.rounds)]
            print(policy, method, found[f"{policy} {method}"], file=sys.stderr)
            del model
            keras.utils.clear_session()
    return found


# -- By hand -----------------------------------------------------------------


def torch_network(small: bool) -> Any:
    """Return the same two networks and their linear layer in PyTorch."""
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, taken: int, made: int, stride: int) -> None:
            super().__init__()
            self.first = nn.Sequential(
                nn.Conv2d(taken, made, 3, stride, 1, bias=False),
                nn.BatchNorm2d(made),
                nn.ReLU(),
                nn.Conv2d(made, made, 3, 1, 1, bias=False),
                nn.BatchNorm2d(made),
            )
            self.shortcut = nn.Identity()
            if stride > 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(taken, made, 1, stride, bias=False),
                    nn.BatchNorm2d(made),
                )

        def forward(self, x: Any) -> Any:
            return torch.relu(self.first(x) + self.shortcut(x))

    def encoder(channels: int, width: int) -> nn.Module:
        layers = [
            nn.Conv2d(channels, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        taken = width
        for index in range(4):
            made = width * 2**index
            layers += [
                Residual(taken, made, 2 if index else 1),
                Residual(made, made, 1),
            ]
            taken = made
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    class Joint(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.encoders = nn.ModuleDict(
                {name: encoder(s[-1], width) for name, s in SHAPES.items()}
            )
            self.head = nn.Linear(2 * 8 * width, CLASSES)

        def forward(self, x: dict) -> Any:
            features = [self.encoders[name](x[name]) for name in SHAPES]
            return self.head(torch.cat(features, dim=1))

    return Joint(SMALL_WIDTH if small else WIDTH)


def by_hand(args: argparse.Namespace) -> dict:
    """Row -> milliseconds a step of a loop in plain PyTorch."""
    import numpy as np
    import torch

    x, y = data(args)
    x = {name: np.moveaxis(values, -1, 1).copy() for name, values in x.items()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {}
    for policy in POLICIES:
        torch.manual_seed(0)
        network = torch_network(args.small).to(device).train()
        optimizer = torch.optim.SGD(network.parameters(), RATE, MOMENTUM)

        def epoch(
            policy: str = policy,
            network: Any = network,
            optimizer: Any = optimizer,
        ) -> float:
            mixed = contextlib.nullcontext()
            if policy == "mixed_bfloat16":
                mixed = torch.autocast(device, torch.bfloat16)
            start, total = time.perf_counter(), 0.0
            for first in range(0, len(y), args.batch_size):
                part = slice(first, first + args.batch_size)
                batch = {
                    name: torch.from_numpy(values[part]).to(device)
                    for name, values in x.items()
                }
                labels = torch.from_numpy(y[part]).to(device)
                with mixed:
                    loss = torch.nn.functional.cross_entropy(
                        network(batch), labels
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total = total + loss.detach()
            # A number: every step is done.
            float(total)
            return 1e3 * (time.perf_counter() - start) / args.steps

        epoch()
        found[policy] = [epoch() for _ in range(args.rounds)]
    return found


# -- The table ---------------------------------------------------------------


def device_name(backend: str) -> str:
    """Return what this backend computes on."""
    if backend == "jax":
        import jax

        return str(jax.devices()[0].device_kind)
    if backend == "tensorflow":
        import tensorflow as tf

        cards = tf.config.list_physical_devices("GPU")
        if not cards:
            return "cpu"
        details = tf.config.experimental.get_device_details(cards[0])
        return str(details.get("device_name", "GPU"))
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def table(hand: dict, results: dict, batch_size: int) -> tuple[str, list[str]]:
    """Return a row a model and precision, and the names of those left out."""
    rows, left = [], []

    def add(name: str, backend: str, policy: str, times: list) -> None:
        step = statistics.median(times)
        rows.append(
            [
                backend,
                policy,
                name,
                f"{step:.1f}",
                f"{1e3 * batch_size / step:.0f}",
                f"{step / statistics.median(hand[policy]):.2f}",
            ]
        )

    for policy in POLICIES:
        add(PLAIN, "-", policy, hand[policy])
    for backend, found in results.items():
        for policy in POLICIES:
            for method in METHODS:
                times = found.get(f"{policy} {method}")
                if times:
                    add(method, backend, policy, times)
                else:
                    left.append(f"{method} in {policy} on {backend}")
    header = [
        "backend", "precision", "model", "ms a step",
        "pictures and clips a second", "time, of by hand",
    ]  # fmt: skip
    return markdown(header, rows), left


def main() -> None:
    arguments = parser(__doc__, DOCS / "gpu.md")
    arguments.add_argument("--batch-size", type=int, default=64)
    arguments.add_argument("--steps", type=int, default=10, help="of a round")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument(
        "--minutes", type=float, default=9.0, help="for all backends"
    )
    arguments.add_argument("--small", action="store_true")
    arguments.add_argument("--until", type=float, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.worker == "device":
        report(device_name(args.backends[0]))
        return
    if args.worker:
        report(by_hand(args) if args.worker == "hand" else measure(args))
        return
    if args.small:
        args.batch_size, args.steps, args.rounds = 4, 2, 1
    end = time.time() + 60 * args.minutes
    names = ("batch-size", "steps", "rounds")
    sizes = [f"--{n}={getattr(args, n.replace('-', '_'))}" for n in names]
    sizes += ["--small"] * args.small
    hand = run_worker(__file__, "torch", "--worker=hand", *sizes)
    results, devices = {}, {}
    for index, backend in enumerate(args.backends):
        share = (end - time.time()) / (len(args.backends) - index)
        until = f"--until={time.time() + share}"
        own = ["--backends", backend]
        devices[backend] = run_worker(
            __file__, backend, "--worker=device", *own
        )
        results[backend] = run_worker(
            __file__, backend, "--worker=run", until, *sizes
        )
    body, left = table(hand, results, args.batch_size)
    if left:
        args.remark.append(f"No time was left for {', '.join(left)}.")
    method = __doc__.split("\n\n", 2)[2].strip()
    on = ", ".join(f"{name} on {card}" for name, card in devices.items())
    method += f"\n\n{on}. Batches of {args.batch_size}, {args.steps} steps a "
    method += f"round, medians of {args.rounds} rounds."
    if args.small:
        method += " Small networks, pictures and spectrograms: a try."
    write(args.out, "Audio-visual training on a GPU", method, body, args)


if __name__ == "__main__":
    main()
