#!/bin/sh
# After `azd provision`: makes the signing keys, if the vault has none, and puts them there. Nothing else ever sees them.
set -eu
: "${VAULT_NAME:?azd sets it: the name of the vault}"
PYTHON="${PYTHON:-.venv/bin/python}"
WAIT_SECONDS="${WAIT_SECONDS:-15}"

# A role takes some minutes to count: until then the vault refuses.
tries=0
until names=$(az keyvault secret list --vault-name "$VAULT_NAME" --query '[].name' --output tsv); do
  tries=$((tries + 1))
  if [ "$tries" -ge 20 ]; then
    echo "The vault $VAULT_NAME cannot be read: it needs the role Key Vault Secrets Officer, a network it lets in, and \`az login\`." >&2
    exit 1
  fi
  echo "The vault does not let you in yet; try $tries of 20 ..." >&2
  sleep "$WAIT_SECONDS"
done
if printf '%s\n' "$names" | grep -qx signing-keys; then
  echo "The vault has signing keys: they stay as they are."
  exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM
# The environment of a shell may hold other keys: this makes new ones.
env -u LICENSING_SIGNING_KEYS -u LICENSING_SIGNING_KEYS_FOLDER \
  "$PYTHON" -m licensing keys create --output "$folder/keys.json" --apply
az keyvault secret set --vault-name "$VAULT_NAME" --name signing-keys --file "$folder/keys.json" --output none
# An app that looked for the keys before they were there does not look again at once.
for app in ${APP_NAME:-} ${SECOND_APP_NAME:-}; do
  az functionapp restart --name "$app" --resource-group "$AZURE_RESOURCE_GROUP" ||
    echo "Restart $app yourself: it may have looked for the keys before they were there." >&2
done
echo "The signing keys are in the vault $VAULT_NAME. Pin their public halves in your clients: docs/operations.md."
