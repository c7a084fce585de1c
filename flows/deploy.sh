#!/bin/sh
# Makes the Prefect server's deployments what prefect.yaml says, their schedules on or off included, and its automations
# what flows/automations.yaml says.
set -eu
cd "$(dirname "$0")/.."
export PREFECT_HOME="${PREFECT_HOME:-$PWD/var/prefect}" PREFECT_API_URL="${PREFECT_API_URL:-http://127.0.0.1:4200/api}"
export BONESOUP_HOME="$PWD" DO_NOT_TRACK=true
mkdir -p "$PREFECT_HOME"
pool=bonesoup
if ! prefect work-pool inspect "$pool" >/dev/null 2>&1; then
  prefect --no-prompt work-pool create "$pool" --type process
fi
sed -n 's/^  - name: //p' flows/automations.yaml | while read -r name; do
  if prefect automation inspect "$name" >/dev/null 2>&1; then
    prefect --no-prompt automation delete "$name"
  fi
done
prefect --no-prompt automation create --from-file flows/automations.yaml
exec prefect --no-prompt deploy --all
