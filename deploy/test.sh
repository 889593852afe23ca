#!/bin/sh
# deploy/test.sh [ARGS]                everything but the slow and the browser tests; ARGS go to pytest
# deploy/test.sh --timescaledb [ARGS]  the tests that use a database once more, on TimescaleDB
#                                      exit code 3, and a line that says why, if it cannot be had here
# deploy/test.sh --hypertables [ARGS]  of these only the ones whose statements meet a hypertable
# Without ARGS the tests are spread over the machine's cores; with ARGS one process runs them, so that -s, --pdb and
# -x do what they always do (ARGS="-n auto" spreads them too).
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
"$root/deploy/bootstrap.sh" dev
which="not slow and not browser"
timescaledb=no
which_db="db and"
if [ "${1:-}" = --timescaledb ] || [ "${1:-}" = --hypertables ]; then
    [ "$1" = --timescaledb ] || which_db="hypertable and"
    shift
    timescaledb=yes
    "$root/.venv/bin/python" "$root/tests/timescaledb_server.py" start >/dev/null
fi
if [ $# -eq 0 ]; then
    # Kernels are compiled once, by one process, before many want them at the same time.
    # shellcheck disable=SC2016 # the variable is of the inner shell
    "$root/deploy/run" sh -c '[ -d "$NUMBA_CACHE_DIR" ] || exec python -m tradecore.warm'
    set -- -n auto --dist worksteal
fi
if [ "$timescaledb" = yes ]; then
    which="$which_db $which"
    # What these test is their own server.
    set -- --database=timescale --ignore=tests/system --ignore=tests/unit/storage/test_embedded.py "$@"
fi
exec "$root/deploy/run" python -m pytest -m "$which" "$@"
