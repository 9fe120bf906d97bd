#!/bin/sh
# What some tests need besides Python packages: a mail server, a browser, a tracer, Node, proxies, promtool, Redis,
# PostgreSQL. Called by make test.
#
#   scripts/test_needs.sh           offer to install what is missing, on a terminal and where apt-get is
#   scripts/test_needs.sh install   install it without a question, for CI
#
# Without it the tests are skipped, and named at the end of the run; in CI a skipped test fails the run.
set -eu
say() { printf 'test: %s\n' "$*" >&2; }
has() { (PATH=$PATH:${SBIN-/usr/sbin:/sbin} && command -v "$1" >/dev/null 2>&1); }

need=
has dovecot || need="$need dovecot-imapd"
has chromium || has chromium-browser || has google-chrome || [ -n "${HUAHUO_CHROMIUM-}" ] || need="$need chromium"
has strace || need="$need strace"
has nginx || need="$need nginx-light"
has caddy || need="$need caddy"
has promtool || need="$need prometheus"
has npm || need="$need nodejs npm"
has cc || need="$need gcc libc6-dev"
headers=
for path in /usr/include /usr/local/include "${HOME:-/nonexistent}"/.pyenv/versions/3.1[2-9]*/include; do
    for path in "$path"/python3.1[2-9]/Python.h; do [ ! -f "$path" ] || headers=$path; done
done
[ -n "$headers" ] || need="$need python3-dev"
# Debian keeps the server's programs outside the PATH.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || has initdb || need="$need postgresql"
[ -n "$need" ] || exit 0

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
if [ "${1-}" != install ]; then
    [ -z "${CI-}" ] && [ -t 0 ] && has apt-get || exit 0
    say "some tests need what is not here and would be skipped. This would install it:"
    say "  ${sudo:+sudo }apt-get install --no-install-recommends$need"
    printf 'test: install now? [y/N] ' >&2
    read -r answer || answer=
    case $answer in [yY]*) ;; *) exit 0 ;; esac
fi
# Tests start mail servers of their own: the package must not start one for the whole machine.
policy=${POLICY-/usr/sbin/policy-rc.d}
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
    trap '$sudo rm -f "$policy"' EXIT
fi
$sudo apt-get update -q >&2
# shellcheck disable=SC2086  one word for each package
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qy --no-install-recommends $need >&2
