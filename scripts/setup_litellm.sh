#!/usr/bin/env bash
# Make a virtual environment with a LiteLLM proxy of one version, this checkout in it (editable), and what its tests need.
#
#     scripts/setup_litellm.sh VERSION [FOLDER]      # into .venv-litellm-VERSION where no folder is named
#
# `pip install "litellm[proxy]==VERSION"` is all there is to it where that resolves. A release of LiteLLM may pin packages
# that are not published. Then LiteLLM is installed plain, and after it what the extra asks for: as it is, where that
# cannot be had in any version, and where there is none it is left out. The proxy does without what was left out so far.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:?which LiteLLM, as in scripts/setup_litellm.sh 1.108.7}
venv=${2:-.venv-litellm-$version}
[ "$venv/.ready" -nt pyproject.toml ] && exit 0

"${PYTHON:-python3}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
installs() { pip install --dry-run --no-deps --ignore-installed "$1" >"$venv/pip.log" 2>&1; }

# One line for each thing that the installed LiteLLM's extra asks for on this Python: the requirement, its package's name.
proxy_extra() {
    "$venv/bin/python" - <<END
from importlib.metadata import requires
from packaging.requirements import Requirement

for wanted in map(Requirement, requires("litellm") or []):
    if wanted.marker and wanted.marker.evaluate({"extra": "proxy"}) and not wanted.marker.evaluate({"extra": ""}):
        wanted.marker = None
        print(str(wanted).replace(" ", ""), wanted.name)
END
}

in_two_steps() {
    local wanted name found=()
    pip install "litellm==$version"
    while read -r wanted name; do
        if installs "$wanted"; then
            found+=("$wanted")
        elif installs "$name"; then
            echo "  $wanted cannot be had: $name in any version"
            found+=("$name")
        else
            echo "  $wanted cannot be had, nor any other $name: left out"
        fi
    done < <(proxy_extra)
    pip install "litellm==$version" "${found[@]}"
}

if ! pip install "litellm[proxy]==$version" 2>"$venv/pip.log"; then
    echo "litellm[proxy]==$version does not install, so in two steps. $(grep -m1 -E '^ERROR: (No matching|Cannot install)' "$venv/pip.log" || true)"
    in_two_steps
fi
pip install "litellm==$version" --editable ".[test]"
"$venv/bin/python" -c "import litellm.proxy.proxy_server"
touch "$venv/.ready"
