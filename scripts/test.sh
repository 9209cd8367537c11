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
# Two backends run at a time, each in one process: so it compiles nothing twice,
# and two cores are never idle. What is printed begins with the backend's name.
#
# Needs Python 3.11 to 3.13. KERAS_MMREL_DATA may name a folder with data sets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
export MPLBACKEND="${MPLBACKEND:-Agg}"
# Two processes share the cores: one thread each.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

bash scripts/install.sh jax,tensorflow,torch,dev

# Tests compile hundreds of programs and run each a few times: let XLA, which
# JAX compiles with, not spend its time on making them fast.
# What is compiled is kept in .pytest_cache/jax (tests/conftest.py): the second
# run is much shorter than the first.
quick="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
quick="$quick --xla_cpu_use_fusion_emitters=false"
quick="$quick --xla_cpu_parallel_codegen_split_count=1"

results="$(mktemp -d)"
trap 'rm -rf "$results"' EXIT

# test_backend NAME ARGUMENTS
test_backend() {
    local backend="$1" flags="${XLA_FLAGS:-}"
    shift
    if [ "$backend" = jax ]; then flags="$flags $quick"; fi
    echo "== tests on $backend"
    XLA_FLAGS="$flags" KERAS_BACKEND="$backend" PYTHONUNBUFFERED=1 \
        "${VENV:-.venv}/bin/python" -m pytest -q "$@" 2>&1 |
        tee "$results/$backend.log" |
        while IFS= read -r line; do printf '%s: %s\n' "$backend" "$line"; done
    echo "${PIPESTATUS[0]}" >"$results/$backend"
}

read -ra backends <<<"${BACKENDS:-tensorflow jax torch}"
last=$((${#backends[@]} - 1))
for index in "${!backends[@]}"; do
    # The last one takes what cores there are: a process that is done takes
    # over tests of the other (`worksteal`).
    workers=()
    if [ "$index" = "$last" ]; then workers=(-n 2 --dist worksteal); fi
    while [ "$(jobs -rp | wc -l)" -ge 2 ]; do sleep 1; done
    test_backend "${backends[$index]}" ${workers[@]+"${workers[@]}"} "$@" &
done
wait

failed=()
for backend in "${backends[@]}"; do
    if [ "$(cat "$results/$backend")" != 0 ]; then failed+=("$backend"); fi
    echo "== $backend"
    tail -n 1 "$results/$backend.log"
done

if [ "${#failed[@]}" -gt 0 ]; then
    echo "Failed on: ${failed[*]}" >&2
    exit 1
fi
