#!/bin/sh
# Checks the archive of the browser client as npm would publish it: what is in it, its exports (publint), and
# its types under each way of resolving modules (attw). Both tools come through npx. Called by make check-all.
set -eu
cd "$(dirname "$0")/../web/client"
[ -f dist/index.js ] || { echo "web_package: build the client first: make web" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm pack --silent --pack-destination "$folder" >/dev/null
archive=$(echo "$folder"/*.tgz)
outside=$(tar -tzf "$archive" | grep -vE '^package/(dist/|package\.json|README\.md|LICENSE)' || true)
[ -z "$outside" ] || { echo "web_package: these do not belong into the archive: $outside" >&2; exit 1; }
npx --yes publint@0.3 --strict .
npx --yes @arethetypeswrong/cli@0.18 "$archive" --profile esm-only
