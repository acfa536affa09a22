#!/usr/bin/env bash
# Installs what `make bench` needs and a Debian machine may lack: nginx, unpacked into target/nginx, where no service
# of the system begins to run, and PostgreSQL's server, as for the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

for program in taskset prlimit git; do
    command -v $program >/dev/null || { echo "Please install $program (util-linux, git)." >&2; exit 1; }
done

if [ ! -x target/nginx/usr/sbin/nginx ] && ! command -v nginx >/dev/null && [ ! -x /usr/sbin/nginx ]; then
    if ! command -v apt-get >/dev/null; then
        echo "Please install nginx, by your system's names, and run again." >&2
        exit 1
    fi
    echo "Unpacking Debian's nginx into target/nginx …" >&2
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    # Where this user may not refresh the lists, those that are there do.
    [ "$(id -u)" != 0 ] || apt-get update -qq
    (cd "$folder" && apt-get download -qq nginx)
    mkdir -p target/nginx
    dpkg-deb -x "$folder"/nginx_*.deb target/nginx
fi

if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! command -v initdb >/dev/null; then
    command -v apt-get >/dev/null || { echo "Please install PostgreSQL's server, by your system's names." >&2; exit 1; }
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    echo "Installing postgresql …" >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
fi
