#!/bin/sh
# Make a virtual environment with the plugin and a LiteLLM proxy, at the versions of constraints.txt:
#   deploy/install.sh /opt/erp [EXTRAS] [REQUIREMENT…]      PYTHON: the interpreter, python3
# The image's build stage runs it, and so does `make deploy-check`. pip goes at the end: what serves needs none.
set -eu
venv=$1
extras=${2:+[$2]}
shift; [ $# -eq 0 ] || shift
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT="$PWD/constraints.txt"

"${PYTHON:-python3}" -m venv "$venv"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
"$venv/bin/pip" wheel --quiet --no-deps --wheel-dir "$wheels" .
wheel=$(ls "$wheels"/litellm_erp-*.whl)
"$venv/bin/pip" install --quiet "$wheel$extras" "litellm[proxy]" prometheus-client "$@"
"$venv/bin/pip" check
"$venv/bin/pip" uninstall --quiet --yes pip setuptools
