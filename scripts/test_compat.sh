#!/usr/bin/env bash
# Run the tests that touch LiteLLM on the oldest LiteLLM supported, the one of constraints.txt, and the newest there is, so
# that a release which changes something under us is met here before a user meets it. LITELLM="X Y" runs those instead.
#
# The one of constraints.txt runs on the oldest Python supported, where that is installed: `make test` has all tests on
# this one. (LiteLLM 1.99 and 1.100 do not import on Python 3.10.)
set -euo pipefail
cd "$(dirname "$0")/.."

# What a change in LiteLLM can break. A new test of that kind is added here.
tests=(
    tests/test_imports.py
    tests/test_attach.py
    tests/test_proxy_routes.py
    tests/test_proxy_failures.py
    tests/test_planted_signal.py
    tests/test_litellm_routes.py
    tests/test_proxy_followed.py
    tests/test_proxy_attacks.py
    tests/test_proxy_metrics.py
    tests/test_proxy_explained.py
    tests/test_staying.py
    tests/test_modes.py
    tests/test_effort.py
    tests/test_proxy_effort.py
)
oldest=1.99.4
pinned=$(sed -n 's/^litellm==//p' constraints.txt)
python=${PYTHON:-python3}
oldest_python=${PYTHON_OLDEST:-python3.10}

newest() {
    .venv/bin/python -m pip install --disable-pip-version-check --dry-run --no-deps --ignore-installed "litellm!=1.107.*" \
        2>/dev/null | sed -n 's/^Would install litellm-//p'
}

litellm_in() { "$1/bin/python" -c 'from importlib.metadata import version; print(version("litellm"))'; }

test_in() {
    echo "LiteLLM $(litellm_in "$1"), $("$1/bin/python" --version)"
    "$1/bin/python" -m pytest "${tests[@]}"
}

run() {
    if [ "$(litellm_in .venv)" = "$1" ]; then
        test_in .venv
    else
        PYTHON=$python scripts/setup_litellm.sh "$1"
        test_in ".venv-litellm-$1"
    fi
}

run_pinned() {
    if ! "$oldest_python" -c "" 2>/dev/null; then
        run "$pinned"
        return
    fi
    local venv=.venv-litellm-$pinned-oldest-python
    PYTHON=$oldest_python scripts/setup_litellm.sh "$pinned" "$venv"
    test_in "$venv"
}

if [ -n "${LITELLM:-}" ]; then
    for version in $LITELLM; do run "$version"; done
    exit
fi
latest=$(newest)
: "${latest:?the package index did not say which LiteLLM is the newest; see pip install --dry-run litellm}"
run "$oldest"
run_pinned
[ "$latest" = "$pinned" ] || run "$latest"
