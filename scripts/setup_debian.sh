#!/bin/sh
# Programs that tests start and PyPI does not have: `scripts/setup_debian.sh chromium redis-server …`.
# What is on the PATH already is left alone, so that this does nothing where they were installed in another way.
set -eu
missing=
for package in "$@"; do
    # Packages whose program has another name, or that have none.
    case $package in
    chromium-driver) set -- command -v chromedriver ;;
    python3-venv) set -- /usr/bin/python3 -c 'import ensurepip' ;;
    *) set -- command -v "$package" ;;
    esac
    "$@" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "error: not found:$missing. Install them with your system's package manager and run this again." >&2
    exit 1
fi
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
# Installing a server's package must not start the server.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
$as_root apt-get -qq -o Acquire::Retries=3 update
# shellcheck disable=SC2086
$as_root apt-get -qq -y -o Acquire::Retries=3 install --no-install-recommends $missing >/dev/null
