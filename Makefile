# Every target sets itself up: a virtual environment in .venv with the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# Two to four processes, each with servers of its own; a file's tests stay together, since they share what they start.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo-live demo reproduce test test-compat test-vllm test-vllm-ray check deploy-check fix bench servers clean

demo: .venv/.demo  ## route held-out prompts through a real proxy and print what it served
	$(BIN)/python -m demo

reproduce: .venv/.dev  ## every table and figure on all three example data sets, into build/reproduce
	$(BIN)/python -m bench.reproduce

demo-live: .venv/.dev  ## real models in a real vLLM, from sampling to a routing proxy, and one more while it serves
	PYTHON=$(PYTHON) $(BIN)/python -m demo.live

test: .venv/.dev servers  ## all tests, real proxy, Redis and browser processes included
	$(BIN)/python -m pytest $(PARALLEL)

test-compat: .venv/.dev servers  ## the LiteLLM tests on the oldest supported and the newest LiteLLM, and the oldest Python, or on LITELLM="X Y"
	PYTHON=$(PYTHON) LITELLM="$(LITELLM)" PARALLEL="$(PARALLEL)" scripts/test_compat.sh

test-vllm: .venv/.dev  ## sampling from a real vLLM, in an environment of its own
	PYTHON=$(PYTHON) scripts/setup_vllm.sh
	.venv-vllm/bin/vllm-python scripts/small_models.py smollm2
	$(BIN)/python -m pytest -m vllm tests/live

test-vllm-ray: .venv/.dev  ## the same on a Ray cluster of this machine; not in CI, ten minutes on two cores
	PYTHON=$(PYTHON) scripts/setup_vllm.sh
	scripts/setup_ray.sh
	.venv-vllm/bin/vllm-python scripts/small_models.py smollm2
	$(BIN)/python -m pytest -m ray tests/live/test_ray.py

check: .venv/.dev  ## lint, format, types, and which way imports point
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/structure.py --check litellm_erp trainer/erp_trainer

deploy-check: .venv/.dev .venv-deploy/.tools  ## deploy/ against linters and schemas, and the image's steps without an engine
	scripts/setup_debian.sh prometheus python3-venv rclone redis-server
	PATH="$(CURDIR)/.venv-deploy/bin:$$PATH" $(BIN)/python -m scripts.deploy_check

fix: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.dev  ## what a decision costs; five minutes
	$(BIN)/python -m bench

servers:
	scripts/setup_debian.sh chromium chromium-driver haproxy prometheus redis-server

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/pip pyproject.toml constraints.txt
	$(PIP) --editable ".[demo]"
	touch $@

.venv/.dev: .venv/bin/pip pyproject.toml constraints.txt
	$(PIP) --editable ".[dev]"
	touch .venv/.demo $@

.venv-deploy/.tools: deploy/tools.txt
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/pip install --quiet --disable-pip-version-check --requirement deploy/tools.txt
	touch $@

clean:
	rm -rf .venv .venv-* build
