#!/usr/bin/env bash
# wheel_test.sh PYTHON [TORCH_INDEX_URL]: builds the wheel, installs it into an environment of its own, and runs the tests
# against it from a folder that holds no source, so that a module missing from the wheel shows. Of the two runs of the
# tests that CI makes, this one counts branch coverage.
set -euo pipefail
unset PYTHONDONTWRITEBYTECODE # hundreds of processes import the same
python=${1:?usage: wheel_test.sh PYTHON [TORCH_INDEX_URL]} index=${2:-}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$root"
rm -rf build/lib build/bdist.*
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/dist" .
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
wheel=$(echo "$work"/dist/cellgate-*.whl)
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt \
    ${index:+--extra-index-url "$index"} "$wheel[export,serve,grpc,cpu]" --group "$root/pyproject.toml:test"

mkdir "$work/away"
cp -r tests examples docs README.md pyproject.toml Makefile "$work/away/"
cd "$work/away"
# tests/deploy reads files of the source tree, all of it, and already where it is imported. Tests that only repeat what
# others cover would find no module missing that those do not.
"$work/venv/bin/python" -c 'import cellgate; print("testing", cellgate.__file__)'
OMP_NUM_THREADS=1 "$work/venv/bin/python" -m pytest -p no:cacheprovider -m 'not tree and not no_cover' -q \
    --ignore tests/deploy --numprocesses auto --dist loadfile --no-loadscope-reorder \
    --cov=cellgate --cov-report=term-missing:skip-covered --cov-fail-under=95
