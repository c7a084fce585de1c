#!/bin/sh
# A worker of the process pool `bonesoup`: deploys prefect.yaml, then runs flows in this clone.
# PREFECT_API_URL names another machine's server; arguments go to `prefect worker start`.
set -eu
cd "$(dirname "$0")/.."
export PREFECT_HOME="${PREFECT_HOME:-$PWD/var/prefect}" PREFECT_API_URL="${PREFECT_API_URL:-http://127.0.0.1:4200/api}"
mkdir -p "$PREFECT_HOME"
export BONESOUP_HOME="$PWD" DO_NOT_TRACK=true PREFECT_WORKER_WEBSERVER_HOST="${PREFECT_WORKER_WEBSERVER_HOST:-127.0.0.1}"
pool=bonesoup
if ! prefect work-pool inspect "$pool" >/dev/null 2>&1; then
  prefect --no-prompt work-pool create "$pool" --type process
fi
prefect --no-prompt deploy --all
exec prefect worker start --pool "$pool" --type process "$@"
