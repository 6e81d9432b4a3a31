#!/usr/bin/env bash
# compiled_test.sh PYTHON: builds the wheel with compiled modules as a user would, lays it into a folder of its own, and
# runs the tests of the folders that it compiles against it, but for the slow ones, from a folder that holds no source.
set -euo pipefail
unset PYTHONDONTWRITEBYTECODE # hundreds of processes import the same
python=$(realpath --no-symlinks "${1:?usage: compiled_test.sh PYTHON}")
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
tidy() { rm -rf "$work" "$root"/build/{compiled,lib.*,temp.*,bdist.*}; }
trap tidy EXIT

cd "$root"
CELLGATE_COMPILE=1 PIP_BUILD_CONSTRAINT="$root/constraints.txt" \
    "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work/dist" .
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --target "$work/site" "$work"/dist/*.whl
[ ! -e "$work/site/cellgate/setup.py" ]

mkdir "$work/away"
cp -r tests examples docs README.md pyproject.toml Makefile "$work/away/"
cd "$work/away"
export PYTHONPATH="$work/site" # goes before an editable installation
version=$("$python" -P -m cellgate --version)
[[ $version == *", compiled" ]] || { echo "expected compiled modules, found $version" >&2; exit 1; }
echo "testing $version"
OMP_NUM_THREADS=1 "$python" -m pytest -p no:cacheprovider -m 'not tree and not no_cover and not slow' -q \
    tests/serve/test_compiled.py tests/serve/engine tests/serve/infer tests/serve/observe tests/serve/processes \
    tests/serve/connection --numprocesses auto --dist loadfile --no-loadscope-reorder
