#!/usr/bin/env bash
# Runs every test, or the command given, beside a private PostgreSQL that is gone afterwards:
#   tests/run.sh
#   tests/run.sh cargo test --test ledger
set -euo pipefail
cd "$(dirname "$0")/.."

cluster=$(mktemp -d)
binaries=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
[ -n "$binaries" ] || binaries=$(dirname "$(command -v initdb)")

# The server refuses to run as root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then su postgres -s /bin/sh -c "$*"; else sh -c "$*"; fi
}

stop() {
    as_postgres "'$binaries/pg_ctl' -D '$cluster/data' -m immediate stop" >/dev/null 2>&1 || true
    rm -rf "$cluster"
}
trap stop EXIT

echo "Starting a private PostgreSQL …" >&2
[ "$(id -u)" != 0 ] || chown postgres "$cluster"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
as_postgres "'$binaries/initdb' -D '$cluster/data' -A trust -U postgres" >"$cluster/initdb.log" 2>&1 ||
    { cat "$cluster/initdb.log" >&2; exit 1; }
# fsync off: these tests kill Keyhouse, not the machine.
options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$cluster -c max_connections=300 -c fsync=off"
as_postgres "'$binaries/pg_ctl' -D '$cluster/data' -o '$options' -l '$cluster/log' -w start" >/dev/null ||
    { cat "$cluster/log" >&2; exit 1; }

export KEYHOUSE_TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres"
export KEYHOUSE_BIN="$PWD/target/debug/keyhouse"

if [ $# -gt 0 ]; then
    "$@"
else
    cargo test --locked
    target/venv/bin/pytest tests/sdk
fi
