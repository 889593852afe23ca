#!/bin/sh
# `make test`: everything but the slow and the browser tests. Arguments go to pytest.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
"$root/deploy/bootstrap.sh" dev
exec "$root/deploy/run" python -m pytest -m "not slow and not browser" "$@"
