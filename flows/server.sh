#!/bin/sh
# Prefect's server with its UI. As it stands: one machine, loopback, everything in var/prefect.
# Every setting is Prefect's own environment variable; compose.yaml sets those for PostgreSQL.
set -eu
cd "$(dirname "$0")/.."
export PREFECT_HOME="${PREFECT_HOME:-$PWD/var/prefect}"
mkdir -p "$PREFECT_HOME"
# Next to the database, not in the installed package: that may belong to root.
export PREFECT_SERVER_UI_STATIC_DIRECTORY="${PREFECT_SERVER_UI_STATIC_DIRECTORY:-$PREFECT_HOME/ui}"
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=true
exec prefect server start --host "${PREFECT_SERVER_API_HOST:-127.0.0.1}" --port "${PREFECT_SERVER_API_PORT:-4200}"
