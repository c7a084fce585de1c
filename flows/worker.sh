#!/bin/sh
# A worker of the process pool `bonesoup`: runs flows in this clone. Deploys prefect.yaml to a server that is new.
# PREFECT_API_URL names another machine's server; arguments go to `prefect worker start`.
set -eu
cd "$(dirname "$0")/.."
export PREFECT_HOME="${PREFECT_HOME:-$PWD/var/prefect}" PREFECT_API_URL="${PREFECT_API_URL:-http://127.0.0.1:4200/api}"
export BONESOUP_HOME="$PWD" DO_NOT_TRACK=true PREFECT_WORKER_WEBSERVER_HOST="${PREFECT_WORKER_WEBSERVER_HOST:-127.0.0.1}"
mkdir -p "$PREFECT_HOME"
# Not at every start, nor when the server is late: it would turn off the schedules that somebody has turned on.
until answer=$(prefect deployment inspect train-soup/nightly 2>&1); do
  case $answer in
    *"not found"*) flows/deploy.sh ;;
    *) echo "waiting for the Prefect server $PREFECT_API_URL: $(echo "$answer" | tail -n 1)" >&2; sleep 2 ;;
  esac
done
exec prefect worker start --pool bonesoup --type process "$@"
