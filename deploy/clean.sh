#!/bin/sh
# `make clean`: back to a fresh clone. .env stays.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
if [ -t 0 ]; then
    printf 'This stops the stack and deletes .venv and .local with the embedded database and all its books. Go on? [y/N] '
    read -r answer
    [ "$answer" = y ] || { echo "Nothing was deleted."; exit 1; }
fi
if [ -x .venv/bin/python ] && [ -d .local ]; then
    deploy/run --no-database python deploy/stack.py down || echo "going on: there was nothing to stop"
    PYTHONPATH=include .venv/bin/python -m tradecore.storage.embedded remove || true
    [ ! -d .local/timescaledb ] || .venv/bin/python tests/timescaledb_server.py stop || true
fi
rm -rf .local .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
find . -name __pycache__ -type d -prune -exec rm -rf {} +
echo "Clean."
