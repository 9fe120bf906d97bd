#!/bin/sh
# Runs tests with the Python of a later Debian release, for versions that this one does not have. Called by hand:
#
#   scripts/debian_python.sh forky 3.14 tests/unit/actors      pytest with these arguments
#
# The packages are unpacked into .tools/debian-RELEASE and run there by chroot, with a copy of the last commit; nothing is
# installed on the machine. Needs root, apt-get and the machine's own way to Debian's packages. What needs a compiler,
# a browser or a mail server is skipped there.
set -eu
cd "$(dirname "$0")/.."
say() { printf 'debian_python: %s\n' "$*" >&2; }
[ "$#" -ge 3 ] || { say "give a release, a version and what pytest is to run: forky 3.14 tests/unit"; exit 2; }
release=$1 version=$2
shift 2
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || { say "this needs root and apt-get"; exit 1; }

here=$PWD/.tools/debian-$release
root=$here/root
checkout=/srv/huahuo
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root PYTHONHASHSEED=0 sh -c "cd $checkout && $*"; }

if ! [ -f "$here/.unpacked-$version" ]; then
    mkdir -p "$here/lists/partial" "$here/cache/archives/partial" "$here/sources" "$root"
    : >"$here/status"
    uri=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -oE 'https?://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ')
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$uri" "$release" /usr/share/keyrings/debian-archive-keyring.pgp >"$here/sources/later.sources"
    apt() {
        apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$here/sources" \
            -o Dir::State::lists="$here/lists" -o Dir::Cache="$here/cache" -o Dir::State::status="$here/status" "$@" >&2
    }
    apt update
    apt install -y --no-install-recommends --download-only \
        "python$version" "python$version-venv" ca-certificates bash coreutils dash git grep sed
    for package in "$here"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    [ -e "$root/bin/sh" ] || ln -s dash "$root/usr/bin/sh"
    mkdir -p "$root/tmp" "$root/root" "$root/proc" "$root/dev" "$root/srv" "$root/etc/ssl"
    chmod 1777 "$root/tmp"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    cp /etc/resolv.conf /etc/hosts "$root/etc/"
    cp -rL /etc/ssl/certs "$root/etc/ssl/"
    [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
    touch "$here/.unpacked-$version"
fi

mkdir -p "$root$checkout"
git archive HEAD | tar -x -C "$root$checkout"
trap 'umount "$root/proc" || true; umount -R "$root/dev" || true' EXIT
trap 'exit 130' INT # a shell that a signal ends runs no trap of EXIT
trap 'exit 143' TERM HUP
mount --bind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
venv=.venv-$version
in_root "[ -x $venv/bin/pytest ] || { python$version -m venv $venv && $venv/bin/python -m pip install -q 'pip>=25.1' &&
    $venv/bin/python -m pip install -q -c constraints.txt --group dev -e '.[demo,flask,postgres,nats]'; }"
in_root "$venv/bin/python -m pytest -q $*"
