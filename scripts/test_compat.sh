#!/usr/bin/env bash
# Run the tests that touch LiteLLM on the oldest LiteLLM supported and the newest there is, so that a release which changes
# something under us is met here before a user meets it, and some of them on the oldest Python supported, where that is
# installed, with the LiteLLM of constraints.txt: `make test` has all tests on that one. (LiteLLM 1.99 and 1.100 do not
# import on Python 3.10.) LITELLM="X Y" runs all of them on those instead.
set -euo pipefail
cd "$(dirname "$0")/.."

# What a change in LiteLLM can break. A new test of that kind is added here.
some=(
    tests/test_imports.py
    tests/test_attach.py
    tests/test_proxy_routes.py
    tests/test_planted_signal.py
    tests/test_litellm_routes.py
    tests/test_staying.py
    tests/test_modes.py
    tests/test_effort.py
)
all=(
    "${some[@]}"
    tests/test_proxy_failures.py
    tests/test_proxy_followed.py
    tests/test_proxy_attacks.py
    tests/test_proxy_metrics.py
    tests/test_proxy_explained.py
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

# test_in ENVIRONMENT TEST…
test_in() {
    local venv=$1
    shift
    echo "LiteLLM $(litellm_in "$venv"), $("$venv/bin/python" --version)"
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pytest ${PARALLEL:-} "$@"
}

run() {
    if [ "$(litellm_in .venv)" = "$1" ]; then
        test_in .venv "${all[@]}"
    else
        PYTHON=$python scripts/setup_litellm.sh "$1"
        test_in ".venv-litellm-$1" "${all[@]}"
    fi
}

run_oldest_python() {
    if ! "$oldest_python" -c "" 2>/dev/null; then
        echo "$oldest_python is not installed: not tested"
        return
    fi
    local venv=.venv-litellm-$pinned-oldest-python
    PYTHON=$oldest_python scripts/setup_litellm.sh "$pinned" "$venv"
    test_in "$venv" "${some[@]}"
}

if [ -n "${LITELLM:-}" ]; then
    for version in $LITELLM; do run "$version"; done
    exit
fi
latest=$(newest)
: "${latest:?the package index did not say which LiteLLM is the newest; see pip install --dry-run litellm}"
run "$oldest"
run_oldest_python
[ "$latest" = "$pinned" ] || run "$latest"
