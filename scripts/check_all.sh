#!/bin/sh
# The suite on every Python from 3.12 on that this machine has, each in an environment of its own (.venv-3.12, …), and each slow
# proof in full on one of them, because they prove the same on each. Interpreters that are absent are named. The parts run as
# scripts/check_all.py says. Called by make check-all.
set -eu
cd "$(dirname "$0")/.."
say() { printf 'check-all: %s\n' "$*" >&2; }

find_python() { # find_python 3.12: the path of a CPython of that version with venv
    for path in "python$1" "/usr/bin/python$1" "/usr/local/bin/python$1" "/opt/homebrew/bin/python$1" \
        "${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}"/versions/"$1".*/bin/python \
        "${HOME:-/nonexistent}"/.local/bin/"python$1"; do
        path=$(command -v "$path" 2>/dev/null) || continue
        if "$path" -c 'import ssl, sqlite3, venv, ensurepip' >/dev/null 2>&1; then
            printf '%s\n' "$path"
            return 0
        fi
    done
    return 1
}

install() { # install python3.12 .venv-3.12: everything into the environment, unless it is there already
    stamp=$2/.ready
    if [ -f "$stamp" ] && "$2/bin/python" -c '' 2>/dev/null &&
        [ ! pyproject.toml -nt "$stamp" ] && [ ! constraints.txt -nt "$stamp" ]; then
        return 0
    fi
    say "installing for $("$1" --version) ($1)"
    "$1" -m venv --clear "$2" &&
        "$2/bin/python" -m pip install -q --disable-pip-version-check 'pip>=25.1' &&
        "$2/bin/python" -m pip install -q --disable-pip-version-check -c constraints.txt \
            --group dev -e '.[demo,flask,postgres,nats]' &&
        touch "$stamp"
}

absent='' broken='' pythons=''
for version in 3.12 3.13 3.14; do
    if ! python=$(find_python "$version"); then
        absent="$absent $version"
    elif install "$python" ".venv-$version"; then
        pythons="$pythons $version=.venv-$version"
    else
        say "could not install for Python $version"
        broken="$broken $version"
    fi
done
full=
for version in 3.13 3.12 3.14; do
    case "$pythons " in *" $version="*) full=$version && break ;; esac
done
failed=
if [ -n "$full" ]; then
    say "$(echo $pythons), with each proof in full on $full"
    # shellcheck disable=SC2086  a list
    ".venv-$full/bin/python" -m scripts.check_all --full "$full" $pythons "$@" || failed=1
fi
for version in $absent; do
    say "Python $version is not here: PyPI and npm bring none; \`pyenv install $version\` or \`uv python install $version\` do, and"
    say "  scripts/debian_python.sh runs tests with that of a later Debian (3.14: \`scripts/debian_python.sh forky 3.14 tests/unit\`)"
done
say "ran on:${full:+$(printf ' %s' $pythons | sed 's/=[^ ]*//g')}; not installed for:${broken:- none}; absent here:${absent:- none}"
[ -z "$failed$broken" ] && [ -n "$full" ]
