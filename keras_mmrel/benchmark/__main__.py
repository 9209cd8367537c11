"""`python -m keras_mmrel.benchmark run CONFIG.yaml --out FOLDER`."""

import argparse
import sys
import warnings

from keras_mmrel import benchmark


def _shard(text: str) -> tuple[int, int]:
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"must be I/N, such as 1/2. Received: {text!r}"
        )
    return int(first), int(count)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m keras_mmrel.benchmark",
        description="Compare multimodal classifiers fairly.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", help="train and score what the folder does not hold yet"
    )
    run.add_argument("config", help="YAML file of the comparison")
    run.add_argument("--out", required=True, help="folder of the results")
    run.add_argument("--data", help="folder with built-in data sets")
    run.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="only these of the file"
    )
    run.add_argument(
        "--methods", nargs="+", metavar="NAME", help="only these of the file"
    )
    run.add_argument(
        "--regimes", nargs="+", metavar="NAME", help="only these of the file"
    )
    run.add_argument("--seeds", type=int, help="instead of the file's")
    run.add_argument(
        "--shard",
        type=_shard,
        default=(1, 1),
        metavar="I/N",
        help="do the I-th of N parts of the work",
    )
    report = commands.add_parser(
        "report", help="render tables, figures and one HTML page"
    )
    report.add_argument("folder", help="folder of the results")
    report.add_argument("--baseline", help="method of the paired tests")
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = make_parser().parse_args(arguments)

    warnings.simplefilter("once", UserWarning)
    try:
        if args.command == "run":
            benchmark.run(
                args.config,
                args.out,
                data=args.data,
                datasets=args.datasets,
                methods=args.methods,
                regimes=args.regimes,
                seeds=args.seeds,
                shard=args.shard,
            )
        else:
            pages = benchmark.report(args.folder, baseline=args.baseline)
            print("wrote", *pages, sep="\n  ")
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
