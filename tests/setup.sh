#!/usr/bin/env bash
# Installs what the tests need and a Debian machine may lack; does nothing where all is there.
# PostgreSQL's server, Chromium with its driver, Python's venv, Node.js with npm, and perl and make for OpenSSL's build.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || packages+=(postgresql)
command -v chromium >/dev/null || packages+=(chromium)
command -v chromedriver >/dev/null || packages+=(chromium-driver)
command -v perl >/dev/null || packages+=(perl)
command -v make >/dev/null || packages+=(make)
command -v cc >/dev/null || packages+=(build-essential)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)

if [ ${#packages[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "Please install, by your system's names, and run again: ${packages[*]}" >&2
        exit 1
    fi
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    echo "Installing ${packages[*]} …" >&2
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

# Python packages live in target/, made anew when their list changes.
venv=target/venv
wanted=$(sha256sum tests/sdk/requirements.txt | cut -d' ' -f1)
if [ "$(cat $venv/installed 2>/dev/null)" != "$wanted" ]; then
    echo "Installing the Python packages of tests/sdk/requirements.txt …" >&2
    rm -rf $venv
    mkdir -p target
    python3 -m venv $venv || /usr/bin/python3 -m venv $venv
    $venv/bin/pip install --quiet --disable-pip-version-check -r tests/sdk/requirements.txt
    echo "$wanted" >$venv/installed
fi

# So do Node's.
node=target/node
wanted=$(sha256sum tests/sdk/node/package-lock.json | cut -d' ' -f1)
if [ "$(cat $node/installed 2>/dev/null)" != "$wanted" ]; then
    echo "Installing the Node packages of tests/sdk/node/package.json …" >&2
    rm -rf $node
    mkdir -p $node
    cp tests/sdk/node/package.json tests/sdk/node/package-lock.json $node/
    npm ci --prefix $node --silent --no-audit --no-fund
    echo "$wanted" >$node/installed
fi
