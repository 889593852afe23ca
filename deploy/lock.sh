#!/bin/sh
# deploy/lock.sh lock    requirements*.in -> requirements*.txt with hashes, as the registry stood on the release's day
# deploy/lock.sh wheels  prove that every pin has a binary wheel on both machines and all three Pythons, and its hash
# deploy/lock.sh alpaca-trade-api  show why it is not used: no set of wheels holds it beside this Airflow
set -eu
cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)"
newest=2026-09-18T00:00:00Z # Airflow 3.3.2's day: the set that it was tested with
platforms="x86_64-manylinux_2_28 aarch64-manylinux_2_28"
pythons="3.11 3.12 3.13"

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    uv=.local/tools/bin/uv
    if [ ! -x "$uv" ]; then
        echo "Installing uv into .local/tools"
        .venv/bin/python -m venv .local/tools && .local/tools/bin/python -m pip install --quiet uv
    fi
fi

lock() {
    for list in requirements requirements-dev; do
        echo "Resolving $list.in"
        "$uv" pip compile --quiet --universal --python-version 3.11 --exclude-newer "$newest" --only-binary :all: \
            --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$list.in" -o "$list.txt"
    done
    if grep -n '://' requirements*.txt; then
        echo "error: the lines above name a host; a lock file holds names and versions only" >&2
        exit 1
    fi
}

# The pins are resolved once more without their hashes: what the registry offers today must be in the lock files.
wheels() {
    pins=$(mktemp) && locked=$(mktemp) && offered=$(mktemp) && trap 'rm -f "$pins" "$locked" "$offered"' EXIT
    sed -n 's/^\([A-Za-z0-9][^\\]*==[^\\]*\).*/\1/p' requirements.txt requirements-dev.txt >"$pins"
    cat requirements.txt requirements-dev.txt | hashes >"$locked"
    count=$(grep -c . "$pins")
    for platform in $platforms; do
        for python in $pythons; do
            "$uv" pip compile --quiet --no-deps --python-platform "$platform" --python-version "$python" \
                --only-binary :all: --generate-hashes "$pins" >"$offered" ||
                { echo "error: not every pin has a wheel for $platform, Python $python" >&2; exit 1; }
            if hashes <"$offered" | LC_ALL=C comm -23 - "$locked" | grep .; then
                echo "error: these files for $platform, Python $python have no hash in the lock files; run make lock" >&2
                exit 1
            fi
            echo "  $platform, Python $python: all $count pins have a binary wheel, and its hash is locked"
        done
    done
}

hashes() {
    grep -o 'sha256:[0-9a-f]*' | LC_ALL=C sort -u
}

alpaca_trade_api() {
    asked="$(grep '^apache-airflow==' requirements.in) alpaca-trade-api==3.2.0"
    if found=$(printf '%s\n' $asked | "$uv" pip compile --quiet --only-binary :all: - 2>&1); then
        echo "error: it resolves now; the README says it does not" >&2
        exit 1
    fi
    echo "$asked: no set of wheels satisfies both"
    echo "$found" | grep -o 'Because .*' | sed 's/^/  /'
}

case "${1:-}" in
lock | wheels) "$1" ;;
alpaca-trade-api) alpaca_trade_api ;;
*) sed -n '2,4p' "$0" && exit 2 ;;
esac
