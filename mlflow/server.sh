#!/bin/sh
# MLflow's tracking server. As it stands: one machine, loopback, the store that stages use without a server.
# Every setting is MLflow's own environment variable; compose.yaml sets them for PostgreSQL and an S3 store.
set -eu
cd "$(dirname "$0")/.."
export MLFLOW_HOST="${MLFLOW_HOST:-127.0.0.1}" MLFLOW_PORT="${MLFLOW_PORT:-5000}" MLFLOW_WORKERS="${MLFLOW_WORKERS:-1}"
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
if [ -z "${MLFLOW_BACKEND_STORE_URI:-}" ]; then
  mkdir -p var
  # Not served by the server: what is sent through it then lies where a stage without a server reads it, and the reverse.
  export MLFLOW_BACKEND_STORE_URI="sqlite:///$PWD/var/mlflow.db"
  export MLFLOW_DEFAULT_ARTIFACT_ROOT="$PWD/var/mlartifacts"
  export MLFLOW_SERVE_ARTIFACTS=false
fi
exec mlflow server
