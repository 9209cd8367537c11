#!/usr/bin/env bash
# One command from a fresh checkout to a trained model:
#
#     scripts/quickstart.sh                        # on JAX
#     KERAS_BACKEND=torch scripts/quickstart.sh    # or tensorflow
#
# Needs Python 3.11 to 3.13. Arguments go to examples/quickstart.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export KERAS_BACKEND="${KERAS_BACKEND:-jax}"
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-3}"
export MPLBACKEND="${MPLBACKEND:-Agg}"

case "$KERAS_BACKEND" in
jax | tensorflow | torch) ;;
*)
    echo "KERAS_BACKEND must be jax, tensorflow or torch." \
        "Received: KERAS_BACKEND=$KERAS_BACKEND" >&2
    exit 2
    ;;
esac

bash scripts/install.sh "$KERAS_BACKEND,data,report"
echo "== examples/quickstart.py on $KERAS_BACKEND"
exec "${VENV:-.venv}/bin/python" examples/quickstart.py "$@"
