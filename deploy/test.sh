#!/bin/sh
# deploy/test.sh [ARGS]                everything but the slow and the browser tests; ARGS go to pytest
# deploy/test.sh --timescaledb [ARGS]  the tests that use a database once more, on TimescaleDB
#                                      exit code 3, and a line that says why, if it cannot be had here
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
"$root/deploy/bootstrap.sh" dev
which="not slow and not browser"
if [ "${1:-}" = --timescaledb ]; then
    shift
    "$root/.venv/bin/python" "$root/tests/timescaledb_server.py" start >/dev/null
    set -- --database=timescale "$@"
    which="db and $which"
    # What these test is their own server.
    set -- --ignore=tests/system --ignore=tests/unit/storage/test_embedded.py "$@"
fi
exec "$root/deploy/run" python -m pytest -m "$which" "$@"
