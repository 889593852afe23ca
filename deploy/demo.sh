#!/bin/sh
# `make demo`: two sessions of real sample data through Airflow's DAG, one process, no stack needed.
# The first, on the eve of Thanksgiving, ends with four orders; the second, a half-day after it, fills them. Run
# again, it changes nothing: every task may be run twice.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root"
decided=2005-11-23
filled=2005-11-25

deploy/bootstrap.sh
if [ "${DEMO_ENVIRONMENT:-}" != yes ]; then
    DEMO_ENVIRONMENT=yes exec deploy/run deploy/demo.sh
fi

step() {
    printf '%s  %s\n' "$(date +%H:%M:%S)" "$1"
}

session() {
    log=.local/logs/demo-$1.log
    mkdir -p .local/logs
    step "trading_day of $1 through Airflow (10 to 40 s; log: $log)"
    if ! airflow dags test trading_day "$1" </dev/null >"$log" 2>&1; then
        tail -n 25 "$log" >&2
        echo "error: the session $1 did not end well; all of it is in $log" >&2
        exit 1
    fi
}

step "database: tables of Airflow and tradecore"
python deploy/stack.py migrate
step "sample history and the book, opened before $decided"
python -m tradecore init --before "$decided"
session "$decided"
session "$filled"
step "done"
echo
python -m tradecore summary "$decided"
echo
python -m tradecore summary "$filled"
echo
echo "Next: \`make up\` for Airflow's own pages, \`. .venv/bin/activate\` for \`airflow\` and \`python -m tradecore\`."
