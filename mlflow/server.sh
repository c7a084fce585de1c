#!/bin/sh
# Start MLflow's tracking server. By default it listens on loopback and serves the store that stages write without a server.
# Settings are MLflow's environment variables; compose.yaml sets them for PostgreSQL and an S3 store.
set -eu
cd "$(dirname "$0")/.."
export MLFLOW_HOST="${MLFLOW_HOST:-127.0.0.1}" MLFLOW_PORT="${MLFLOW_PORT:-5000}" MLFLOW_WORKERS="${MLFLOW_WORKERS:-1}"
export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
if [ -z "${MLFLOW_BACKEND_STORE_URI:-}" ]; then
  mkdir -p var
  # Clients write artifacts to this folder themselves, so stages with and without a server find each other's.
  export MLFLOW_BACKEND_STORE_URI="sqlite:///$PWD/var/mlflow.db"
  export MLFLOW_DEFAULT_ARTIFACT_ROOT="$PWD/var/mlartifacts"
  export MLFLOW_SERVE_ARTIFACTS=false
fi
exec mlflow server
