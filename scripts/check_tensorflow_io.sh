#!/usr/bin/env bash
# Compare tensorflow-io's reading of sound with soundfile's, and of video with
# PyAV's:
#
#     scripts/check_tensorflow_io.sh           # with TensorFlow 2.17.1
#     scripts/check_tensorflow_io.sh 2.16.2
#
# The newest tensorflow-io loads into TensorFlow 2.16 and 2.17 alone, which
# need NumPy 1 and Python below 3.13: so it gets an environment of its own, in
# a folder that is removed. It reads video by libraries of FFmpeg 4, which are
# taken from an old wheel of OpenCV where the machine has none.
# Takes a minute or two, most of it for the download.
# Where there is no such Python, or its wheels cannot be had, it says so and
# ends without an error. PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version="${1:-2.17.1}"
supported='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'

python=""
for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
    if "$candidate" -c "$supported" >/dev/null 2>&1; then
        python="$candidate"
        break
    fi
done
if [ -z "$python" ]; then
    echo "tensorflow-io was not checked: it needs Python 3.11 or 3.12."
    exit 0
fi

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
# The CPU build has the same operations, and half the size.
if ! "$folder/venv/bin/python" -m pip install -qq --no-compile \
    --disable-pip-version-check "tensorflow-cpu==$version" \
    "tensorflow-io==0.37.1" "keras==3.15.1" soundfile av pandas Pillow \
    >"$folder/log" 2>&1; then
    tail -n 1 "$folder/log"
    echo "tensorflow-io was not checked: its wheels could not be had."
    exit 0
fi

libraries=""
if ! ldconfig -p 2>/dev/null | grep -q "libavformat\.so\.58" &&
    "$folder/venv/bin/python" -m pip download -qq --no-deps \
        --disable-pip-version-check --only-binary=:all: -d "$folder" \
        "opencv-python-headless==4.5.5.64" >>"$folder/log" 2>&1; then
    "$folder/venv/bin/python" -m zipfile -e "$folder"/opencv*.whl "$folder/cv"
    libraries="$folder/cv/opencv_python_headless.libs"
    # They know each other by the names in the wheel.
    ln -s "$libraries"/libavformat-*.so.58.* "$libraries/libavformat.so.58"
    ln -s "$libraries"/libswscale-*.so.5.* "$libraries/libswscale.so.5"
fi

LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
    KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH="$PWD" \
    "$folder/venv/bin/python" scripts/check_tensorflow_io.py
