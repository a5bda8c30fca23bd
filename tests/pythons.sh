#!/usr/bin/env bash
# The wheel on every Python there is, from 3.11 to 3.14, and on the first of them with the lowest
# versions of all libraries that setup.cfg allows. Usage: tests/pythons.sh WHEEL [FOLDER]
# A Python that is not on this machine is skipped, and said to be.
set -euo pipefail

wheel=$(realpath "$1")
work=${2:-$(mktemp -d)}
mkdir -p "$work"
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK=1
tried=0

# a Python of a version that starts: on the PATH, or one of pyenv's
find_python() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$candidate" -c pass 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

# the wheel in an environment of its own: a Python, the environment, what warnings are, options for pip
try_wheel() {
    local python=$1 fresh=$2 warnings=$3
    shift 3
    "$python" -m venv "$fresh"
    if ! "$fresh/bin/pip" install -q --only-binary :all: "$@" "$wheel"; then
        echo "FAILED: the wheel cannot be installed: $python $*"
        exit 1
    fi
    (
        cd "$work"
        export NUMBA_CACHE_DIR=$fresh/cache MPLCONFIGDIR=$fresh/matplotlib
        "$fresh/bin/nanorepro" --version
        "$fresh/bin/nanorepro" run --quiet --model double --log2-examples 8 --pairs 2 --json \
            --out "$fresh/runs" >"$fresh/numba.json"
        "$fresh/bin/python" -W "$warnings" -m nanorepro.run --quiet --model double --log2-examples 8 \
            --pairs 2 --backend reference --json --out "$fresh/reference" >"$fresh/reference.json"
        "$fresh/bin/python" - "$fresh" <<'CHECK'
import json, pathlib, sys
from importlib.metadata import version
from nanorepro.results import store
folder = pathlib.Path(sys.argv[1])
fast, slow = (json.loads((folder / f"{n}.json").read_text()) for n in ("numba", "reference"))
assert fast["fingerprint"] == slow["fingerprint"], (fast["fingerprint"], slow["fingerprint"])
assert store.load(fast["stored"]).fingerprint == fast["fingerprint"]
assert pathlib.Path(fast["picture"]).stat().st_size > 10_000
used = ", ".join(f"{n} {version(n)}" for n in ("numpy", "numba", "h5py", "scipy", "matplotlib"))
print(f"Python {sys.version.split()[0]}, {used}: {fast['fingerprint']}")
CHECK
    )
}

for version in 3.11 3.12 3.13 3.14; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "SKIPPED: Python $version is not on this machine"
        continue
    fi
    try_wheel "$python" "$work/python$version" error
    if [ "$tried" = 0 ]; then
        sed -n '/^install_requires/,/^$/s/^ *\([A-Za-z0-9-]*\)>=\(.*\)$/\1==\2/p' \
            "$(dirname "$0")/../setup.cfg" >"$work/lowest.txt"
        test "$(wc -l <"$work/lowest.txt")" -gt 4
        # old libraries warn of what newer ones beside them have renamed
        try_wheel "$python" "$work/lowest" default --constraint "$work/lowest.txt"
    fi
    tried=$((tried + 1))
done
echo "the wheel was tried on $tried of 4 versions of Python, and with the lowest libraries"
test "$tried" -gt 0
