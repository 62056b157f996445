#!/bin/sh
# `infra/smoke-test.sh URL KEYS OPTION...`: ends with 0 once three validations in a row came back signed by a key of the file KEYS.
# Allowed or denied is the same here. Three, since a deployment replaces instances one after the other. The options are those of
# `python -m licensing validate`: which publisher, serial number and product.
set -u
url=$1 keys=$2
shift 2
PYTHON="${PYTHON:-.venv/bin/python}"
WAIT_SECONDS="${WAIT_SECONDS:-10}"
TRIES="${TRIES:-30}"

good=0 tries=0
while [ "$tries" -lt "$TRIES" ]; do
  tries=$((tries + 1))
  claims=$("$PYTHON" -m licensing validate --url "$url" --keys "$keys" --json "$@")
  code=$?
  # 0, 1, 2: verified, and then there are claims. A Python that cannot even begin ends with 1 too.
  if [ "$code" -le 2 ] && [ -n "$claims" ]; then good=$((good + 1)); else good=0; fi
  if [ "$good" -eq 3 ]; then
    echo "Verified three times in a row, after $tries tries."
    exit 0
  fi
  sleep "$WAIT_SECONDS"
done
echo "No three verified replies in a row, in $tries tries." >&2
exit 1
