#!/bin/sh
# Builds the guides and the reference as one site into build/docs. A link that leads nowhere fails the build.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-docs
scripts/setup.sh dev
if ! { [ -f "$venv/.ready" ] && [ ! pyproject.toml -nt "$venv/.ready" ] && [ ! constraints.txt -nt "$venv/.ready" ]; }; then
    echo "docs: installing what builds the site" >&2
    .venv/bin/python -m venv --clear "$venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check 'pip>=25.1'
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt --group docs
    touch "$venv/.ready"
fi
rm -rf build/docs-sources
.venv/bin/python scripts/docs_site.py build/docs-sources
PATH=$PWD/$venv/bin:$PATH NO_MKDOCS_2_WARNING=1 "$venv/bin/mkdocs" build --quiet
echo "docs: build/docs/index.html" >&2
