#!/bin/sh
# `infra/deploy-package.sh PACKAGE`: deploys it to the app, and to that of the second region where there is one.
set -eu
for app in "$APP_NAME" ${SECOND_APP_NAME:+"$SECOND_APP_NAME"}; do
  echo "Deploying $1 to $app ..."
  # Azure installs what requirements.txt pins.
  az functionapp deployment source config-zip --resource-group "$AZURE_RESOURCE_GROUP" --name "$app" --src "$1" \
    --build-remote true --timeout 900 --output none
done
