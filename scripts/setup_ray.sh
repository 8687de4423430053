#!/bin/sh
# Put Ray Data beside vLLM in .venv-vllm, for the tests of --engine ray. Not ray[llm]: that pins a vLLM of its own.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv-vllm}
"$venv/bin/python" -c "import ray.data" 2>/dev/null ||
    "$venv/bin/pip" install --quiet --disable-pip-version-check "ray[data]==2.60.0"
