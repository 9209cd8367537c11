"""`python -m keras_mmrel.diagnose TABLE_OR_NPZ --out FOLDER`."""

import argparse
import sys
import warnings

from keras_mmrel import diagnose
from keras_mmrel.diagnose._read import as_patterns
from keras_mmrel.diagnose._rows import CANDIDATES


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m keras_mmrel.diagnose",
        description="What is wrong with multimodal data, and which method "
        "to take.",
    )
    parser.add_argument(
        "source",
        help="a .npz file, a .csv or .tsv table, a .yaml file with a data "
        "set of the benchmark, or the name of a loader",
    )
    parser.add_argument("--out", required=True, help="folder of the results")
    parser.add_argument(
        "--labels", metavar="NAME", help="array or column of labels; y"
    )
    parser.add_argument(
        "--modalities",
        nargs="+",
        metavar="NAME=PATTERN",
        help="which arrays or columns (audio=a_*) are whose",
    )
    for name, text in (
        ("groups", "rows of one value are never parted"),
        ("split", "'train' and 'test', or 0 and 1"),
        ("ids", "names of the samples"),
    ):
        parser.add_argument(f"--{name}", metavar="NAME", help=text)
    parser.add_argument("--data", help="folder with built-in data sets")
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=f"choose among these only: {', '.join(CANDIDATES)}",
    )
    parser.add_argument("--folds", type=int, help="instead of 4 or 3")
    parser.add_argument("--epochs", type=int, help="instead of about 160 steps")
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = make_parser().parse_args(arguments)
    warnings.simplefilter("once", UserWarning)
    try:
        found = diagnose.run(
            args.source,
            args.out,
            labels=args.labels,
            modalities=as_patterns(args.modalities),
            groups=args.groups,
            split=args.split,
            ids=args.ids,
            data=args.data,
            methods=args.methods,
            folds=args.folds,
            epochs=args.epochs,
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    print()
    for sentence in found.summary:
        print(f"- {sentence}")
    print(found.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
