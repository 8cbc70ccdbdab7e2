#!/usr/bin/env bash
# Sets up .venv and runs the tests; --slow adds those that take more than about ten seconds each.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/_setup.sh
set_up "[test,lint,train,report,cluster,sign]"
select="not slow"
if [ "${1:-}" = "--slow" ]; then
    select=""
    shift
fi
# Two workers: the tests wait for child processes about as long as they compute.
exec python -m pytest -n "${RNN_EXPORT_TEST_WORKERS:-2}" -m "$select" "$@"
