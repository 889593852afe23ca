#!/bin/sh
# Compiled kernels are kept on a volume that outlives the image, in a directory named after the code, the
# packages and the CPU: only here are all of them known. The rest is Airflow's own entrypoint.
set -eu
NUMBA_CACHE_DIR=$(python -m tradecore.kernel_cache)
export NUMBA_CACHE_DIR
exec /entrypoint "$@"
