#!/bin/sh
# Builds what a release consists of, into dist/: source archive, wheel, bill of materials, checksums. Nothing is uploaded.
#
#   make release          docs/releasing.md has the steps before and after
set -eu
cd "$(dirname "$0")/.."
venv=.venv-release
say() { printf 'release: %s\n' "$*" >&2; }

[ -z "$(git status --porcelain)" ] || { say "there are changes that are not committed: commit or stash them"; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
grep -q "^## $version" CHANGELOG.md || say "CHANGELOG.md has no heading \"## $version\" yet"

if ! { [ -f "$venv/.ready" ] && [ ! pyproject.toml -nt "$venv/.ready" ] && [ ! constraints.txt -nt "$venv/.ready" ]; }; then
    say "installing the tools"
    [ -x .venv/bin/python ] || scripts/setup.sh run
    .venv/bin/python -m venv --clear "$venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check 'pip>=25.1'
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt --group release
    touch "$venv/.ready"
fi

rm -rf dist
say "building $version"
# An index takes no wheel for one Linux: who wants the part in C installs from the source archive.
HUAHUO_NATIVE=0 "$venv/bin/python" -m hatchling build -d dist >/dev/null
"$venv/bin/twine" check --strict dist/* >&2
"$venv/bin/check-wheel-contents" dist/*.whl >&2

say "installing the wheel into an empty environment"
empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
"$venv/bin/python" -m venv "$empty"
"$empty/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt "$(ls dist/*.whl)"
"$empty/bin/huahuo" --version >&2
"$empty/bin/python" -m pip uninstall -qy pip
"$venv/bin/cyclonedx-py" environment --output-reproducible --pyproject pyproject.toml \
    --output-file "dist/huahuo-$version.cdx.json" "$empty/bin/python"
(cd dist && sha256sum -- * >SHA256SUMS)
say "ready:"
ls dist >&2
