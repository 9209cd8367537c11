"""Build the site: `python scripts/build_docs.py`, then build/site/index.html.

It fails on a warning, on a public name without a page, and on a link to
nothing. Nothing is downloaded. Guides are not run: a guide shows the outputs
that are in build/guide_outputs, if its code is still what made them.
`--execute` runs those that are not there, for some minutes each.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the site.")
    parser.add_argument("--out", default=str(ROOT / "build" / "site"))
    parser.add_argument(
        "--execute", action="store_true", help="run guides without outputs"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="read every page again"
    )
    args = parser.parse_args()
    # Any backend describes the library alike.
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from sphinx.cmd.build import main as build

    options = ["--fail-on-warning", "--keep-going", "--quiet"]
    if args.fresh:
        options.append("--fresh-env")
    if args.execute:
        options += ["-D", "execute_guides=1"]
    failed = build([*options, "-b", "html", str(ROOT / "docs"), args.out])
    if not failed:
        print(f"wrote {Path(args.out) / 'index.html'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
