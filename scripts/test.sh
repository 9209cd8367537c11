#!/usr/bin/env bash
# One command from a fresh checkout to a tested one, on all three backends:
#
#     scripts/test.sh                            # all that is not slow
#     scripts/test.sh tests/layers -k gate       # arguments go to pytest
#     BACKENDS=torch scripts/test.sh -m slow     # one backend
#     scripts/test.sh -m slow --collect-only     # which tests are slow there
#
# Tests of what is the same on every backend run on PyTorch only, the fastest
# to start (tests/conftest.py); `-m one_backend` runs them on another.
#
# Needs Python 3.11 to 3.13. KERAS_MMREL_DATA may name a folder with data sets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
export MPLBACKEND="${MPLBACKEND:-Agg}"
# Two workers share the cores: one thread each.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

bash scripts/install.sh jax,tensorflow,torch,dev

# A worker that is done takes over tests of the other (`worksteal`), so that
# none waits for long at the end, and a module mostly builds its models once.
# Tests compile hundreds of programs and run each a few times: let XLA, which
# JAX compiles with, not spend its time on making them fast.
# What is compiled is kept in .pytest_cache/jax (tests/conftest.py): the second
# run is much shorter than the first.
quick="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
quick="$quick --xla_cpu_use_fusion_emitters=false"
quick="$quick --xla_cpu_parallel_codegen_split_count=1"

failed=()
for backend in ${BACKENDS:-jax tensorflow torch}; do
    echo "== tests on $backend"
    flags="${XLA_FLAGS:-}"
    if [ "$backend" = jax ]; then flags="$flags $quick"; fi
    XLA_FLAGS="$flags" KERAS_BACKEND="$backend" \
        "${VENV:-.venv}/bin/python" -m pytest -n 2 --dist worksteal -q "$@" ||
        failed+=("$backend")
done

if [ "${#failed[@]}" -gt 0 ]; then
    echo "Failed on: ${failed[*]}" >&2
    exit 1
fi
