#!/usr/bin/env bash
# A 64-bit ARM Python with NumPy and Numba on an x86-64 Debian or Ubuntu, by
# QEMU's user-mode emulation, to take fingerprints on another architecture.
#
#   tests/aarch64.sh setup               make it, about a minute; no root needed
#   tests/aarch64.sh python ARGUMENT...  run it, making it first if need be
#
#   AARCH64_HOME  folder that holds it    (~/.cache/nanorepro-aarch64)
#   PYTHON        a native Python with pip, NumPy and Numba       (python3)
#
# The packages come from the machine's own apt sources through an apt state of
# this folder's own; NumPy, Numba and llvmlite are of the versions that $PYTHON
# has, so that only the processor differs.
set -euo pipefail

home=${AARCH64_HOME:-$HOME/.cache/nanorepro-aarch64}
python=${PYTHON:-python3}
core=neoverse-n1

fail() {
    echo "tests/aarch64.sh: $*" >&2
    exit 1
}

debian_packages() { # folder, package...: fetch with all that they need
    local state=$1/apt
    shift
    mkdir -p "$state/lists/partial" "$state/archives/partial"
    touch "$state/status"
    local options=(
        -qq -o APT::Architecture="$(dpkg --print-architecture)" -o APT::Architectures::=arm64
        -o APT::Install-Recommends=false -o APT::Sandbox::User="$(id -un)"
        -o Dir::State="$state" -o Dir::State::lists="$state/lists"
        -o Dir::State::status="$state/status" -o Dir::Cache="$state"
        -o Dir::Cache::archives="$state/archives"
    )
    apt-get "${options[@]}" update
    apt-get "${options[@]}" --download-only --yes install "$@"
}

setup() {
    local tool
    for tool in apt-get dpkg dpkg-deb tar; do
        command -v "$tool" >/dev/null || fail "no $tool here: Debian or Ubuntu is needed"
    done
    local pins
    pins=$("$python" -m pip freeze | grep -E '^(numpy|numba|llvmlite)==') ||
        fail "$python has no pip, NumPy or Numba; set PYTHON to one that has"

    local file
    new=$home.new.$$ # not local: the trap outlives this function
    trap 'rm -rf "$new"' EXIT
    mkdir -p "$new/root"
    debian_packages "$new" qemu-user-static python3:arm64 libstdc++6:arm64
    for file in "$new"/apt/archives/*.deb; do
        case ${file##*/} in
        qemu-user-static_*)
            dpkg-deb --fsys-tarfile "$file" | tar -x -C "$new" --wildcards \
                --transform 's|.*/||' '*/qemu-aarch64-static'
            ;;
        *_arm64.deb | *_all.deb) dpkg-deb -x "$file" "$new/root" ;;
        esac
    done
    rm -rf "$new/apt"

    local interpreter version glibc platforms=()
    interpreter=$(find "$new/root" -type f -path '*/bin/*' | grep -E '/python3\.[0-9]+$')
    version=${interpreter##*/python}
    for glibc in 17 24 26 27 28 31 34 35; do
        platforms+=(--platform "manylinux_2_${glibc}_aarch64")
    done
    # shellcheck disable=SC2086  # one requirement a word
    "$python" -m pip install --quiet --no-input --no-deps --only-binary=:all: \
        --target "$new/packages" --platform manylinux2014_aarch64 "${platforms[@]}" \
        --implementation cp --python-version "$version" $pins

    # Numba would read its target from the x86-64 machine's /proc/cpuinfo
    cat >"$new/python" <<RUN
#!/bin/sh
here=\$(cd "\$(dirname "\$0")" && pwd)
export QEMU_CPU="\${QEMU_CPU:-$core}"
export NUMBA_CPU_NAME="\${NUMBA_CPU_NAME:-$core}" NUMBA_CPU_FEATURES="\${NUMBA_CPU_FEATURES-}"
export NUMBA_CACHE_DIR="\${NUMBA_CACHE_DIR:-\$here/cache}"
export PYTHONPATH="\$here/packages\${PYTHONPATH:+:\$PYTHONPATH}"
exec "\$here/qemu-aarch64-static" -L "\$here/root" "\$here${interpreter#"$new"}" "\$@"
RUN
    chmod +x "$new/python"
    "$new/python" -c 'import platform, numba; assert platform.machine() == "aarch64"'
    rm -rf "$home"
    mv "$new" "$home"
}

case ${1-} in
setup) setup ;;
python)
    shift
    [[ -x $home/python ]] || setup
    exec "$home/python" "$@"
    ;;
*) fail "give setup, or python and its arguments" ;;
esac
