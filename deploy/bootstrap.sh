#!/bin/sh
# Make .venv with everything that is pinned: deploy/bootstrap.sh [dev]
# Does nothing, in a fraction of a second, while the lock files are unchanged. Uses uv if it is there, else venv + pip.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
venv=$root/.venv
python=$venv/bin/python
log=$root/.local/logs/bootstrap.log
if [ "${1:-}" = dev ]; then with_dev=yes; else with_dev=no; fi

fail() {
    echo "error: $*" >&2
    exit 1
}

fits() { # a Python that this project runs on, able to make environments
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# One stamp per list of packages: what was installed, by which Python, in which folder.
wanted() {
    { cat requirements.txt; [ "$1" = base ] || cat requirements-dev.txt; echo "$root"; "$python" -V; } | cksum
}
stamped() {
    [ -x "$python" ] && [ -f "$venv/.installed-$1" ] && [ "$(cat "$venv/.installed-$1")" = "$(wanted "$1")" ]
}

done_already() {
    if [ "$with_dev" = yes ]; then stamped dev; else stamped base || stamped dev; fi
}

find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 && fits "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

make_venv() {
    rm -rf "$venv"
    if found=$(find_python); then
        echo "Making .venv with $("$found" -V 2>&1)"
        if "$found" -c 'import ensurepip' 2>/dev/null && "$found" -m venv "$venv" >>"$log" 2>&1; then
            return 0
        fi
        rm -rf "$venv"
        if [ -n "$uv" ] && "$uv" venv --quiet --seed --python "$found" "$venv" >>"$log" 2>&1; then
            return 0
        fi
        fail "$found cannot make a virtual environment. Install its venv module (Debian: apt install python3-venv) or uv."
    fi
    if [ -n "$uv" ]; then
        echo "Making .venv with a Python that uv brings"
        "$uv" venv --quiet --seed --python 3.13 "$venv" >>"$log" 2>&1 && return 0
        rm -rf "$venv"
    fi
    have=$(python3 -V 2>/dev/null || echo "no python3")
    fail "Python 3.11, 3.12 or 3.13 is needed and not found ($have). Install one (Debian: apt install python3 python3-venv) or uv."
}

# pip's lines become a counter; the whole of it is in the log.
count_packages() {
    awk -v total="$1" -v log_file="$log" '
        { print >> log_file }
        /^Collecting / { n++; if (n % 10 == 0) { printf "  %d of %d packages found\n", n, total; fflush() } }
        /^Installing collected/ { print "  all found; unpacking them takes a minute or two"; fflush() }
    '
}

install() {
    files="-r requirements.txt"
    [ "$1" = base ] || files="$files -r requirements-dev.txt"
    if [ "$1" = base ]; then lists=requirements.txt; else lists='requirements.txt requirements-dev.txt'; fi
    # shellcheck disable=SC2086 # several words on purpose
    total=$(cat $lists | grep -c '^[A-Za-z0-9].*==' || true)
    echo "Installing the pinned packages (about 700 MB on disk; log: .local/logs/bootstrap.log)"
    if [ -n "$uv" ]; then
        if [ -t 2 ]; then uv_says=/dev/stderr; else uv_says=$log; fi
        # shellcheck disable=SC2086 # several words on purpose
        if "$uv" pip install --python "$python" --no-deps --require-hashes --compile-bytecode --only-binary :all: $files \
            2>>"$uv_says"; then return 0; fi
        echo "  uv could not (see the log); going on with pip"
    fi
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >>"$log" 2>&1 || true
    status_file=$venv/.pip-status
    # shellcheck disable=SC2086
    { "$python" -m pip install --disable-pip-version-check --progress-bar off --no-input --no-deps \
        --require-hashes --only-binary :all: $files 2>&1 && echo 0 >"$status_file" || echo 1 >"$status_file"; } | count_packages "$total"
    if [ "$(cat "$status_file")" != 0 ]; then
        grep -i '^error' "$log" | tail -n 2 >&2
        fail "pip could not install the packages. Read .local/logs/bootstrap.log (no network? disk full?) and run make again."
    fi
}

# A plain `airflow ...` after `. .venv/bin/activate` shall find everything by itself, and lose it on deactivate.
hook_activate() {
    activate=$venv/bin/activate
    grep -q 'deploy/env.sh' "$activate" && return 0
    awk '
        { print }
        /^deactivate *\(\) *{/ {
            print "    if [ -n \"${NATIVE_ENVIRONMENT:-}\" ] ; then"
            print "        for native_item in $(echo \"$NATIVE_ENVIRONMENT\") ; do unset \"${native_item%=*}\" ; done"
            print "        unset native_item NATIVE_ENVIRONMENT"
            print "    fi"
        }
        END { print "\n# This project'\''s environment: AIRFLOW_HOME, PYTHONPATH, .env, the database."
              print ". \"$VIRTUAL_ENV/../deploy/env.sh\"" }
    ' "$activate" >"$activate.new"
    mv "$activate.new" "$activate"
}

if done_already; then exit 0; fi

[ -d "$root/.local" ] || (umask 077; mkdir "$root/.local") 2>/dev/null || :
mkdir -p "$root/.local/logs" 2>/dev/null || fail "$root/.local cannot be written: it belongs to another user."
if [ -z "${BOOTSTRAP_LOCKED:-}" ] && command -v flock >/dev/null 2>&1; then
    BOOTSTRAP_LOCKED=1 exec flock "$root/.local/bootstrap.lock" "$root/deploy/bootstrap.sh" "$@"
fi
: >"$log"
uv=$(command -v uv || true)
if [ -x "$python" ] && fits "$python" && grep -qF "$venv" "$venv/bin/activate" 2>/dev/null; then
    : # keep it: only the lists changed
else
    make_venv
fi
if [ "$with_dev" = yes ] || [ -f "$venv/.installed-dev" ]; then list=dev; else list=base; fi
install "$list"
hook_activate
rm -f "$venv"/.installed-*
wanted "$list" >"$venv/.installed-$list"
echo "Packages are installed."
