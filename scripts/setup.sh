#!/bin/sh
# Makes .venv with everything the project needs. Called by make; safe to call again.
#
#   scripts/setup.sh [run|cluster|dev]   run: what the service and the demo need; cluster: NATS servers too;
#                                        dev: tests and linters too
#
# Takes a Python from 3.12 on (3.13 first, which the tests run on), also when `python3` is older. If there
# is none it asks uv for one, and if that fails it says what to install.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-dev}
venv=.venv
stamp=$venv/.ready-$kind

if [ -f "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ] && [ ! constraints.txt -nt "$stamp" ]; then
    exit 0
fi

say() { printf 'setup: %s\n' "$*" >&2; }

fits() { "$1" -c 'import sys, ssl, sqlite3, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

find_python() {
    for name in python3.13 python3.12 python3.14 python3 python \
        /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.14 /usr/bin/python3 \
        /usr/local/bin/python3.13 /usr/local/bin/python3.12 /usr/local/bin/python3.14 /usr/local/bin/python3 \
        /opt/homebrew/bin/python3 "${HOME:-/nonexistent}"/.pyenv/versions/3.1[2-9]*/bin/python3 \
        "${HOME:-/nonexistent}"/.local/bin/python3.1[2-9]; do
        path=$(command -v "$name" 2>/dev/null) || continue
        if fits "$path"; then
            printf '%s\n' "$path"
            return 0
        fi
    done
    return 1
}

find_uv() {
    command -v uv 2>/dev/null && return 0
    [ -x .tools/bin/uv ] && echo .tools/bin/uv && return 0
    python3 -m venv .tools >/dev/null 2>&1 && .tools/bin/pip install -q uv >/dev/null 2>&1 && echo .tools/bin/uv
}

make_venv() {
    if python=$(find_python); then
        say "using $("$python" --version) at $python"
        "$python" -m venv --clear "$venv"
        return
    fi
    say "no Python 3.12 or newer with venv found; asking uv for one"
    if uv=$(find_uv) && [ -n "$uv" ] && "$uv" venv --clear --seed --python 3.13 "$venv" >&2; then
        return
    fi
    cat >&2 <<'TEXT'
setup: huahuo needs Python 3.12 or newer with the venv module, and none was found.
  Debian, Ubuntu:  sudo apt-get install python3 python3-venv     (or python3.12 python3.12-venv)
  Fedora:          sudo dnf install python3.12
  macOS:           brew install python@3.13
  anywhere:        install uv, then run make again
TEXT
    exit 1
}

if ! { [ -x "$venv/bin/python" ] && fits "$venv/bin/python"; }; then
    make_venv
fi

install() {
    if command -v uv >/dev/null 2>&1; then
        uv pip install -q --python "$venv/bin/python" "$@"
    else
        "$venv/bin/python" -m pip install -q --disable-pip-version-check 'pip>=25.1' &&
            "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@"
    fi
}

say "installing packages ($kind); the first time this takes a minute"
case $kind in
    dev) install -c constraints.txt --group dev -e '.[demo,flask,postgres,nats]' ;;
    cluster) install -c constraints.txt -e '.[cluster,postgres]' ;;
    *) install -c constraints.txt -e '.[demo,postgres,nats]' ;;
esac || {
    say "the packages could not be installed, for the reason above. They come from PyPI: where that cannot be reached, name a proxy"
    say "  in HTTPS_PROXY or an index of your own in PIP_INDEX_URL. Then run the same command again"
    exit 1
}
# Where PYTHONDONTWRITEBYTECODE is set, each start would compile a thousand modules again.
"$venv/bin/python" -m compileall -q -j 0 actors bench eventstore huahuo mailcheck replay tests transport ||
    say "some modules could not be compiled"
touch "$stamp"
say "ready: $venv/bin/huahuo --help"
