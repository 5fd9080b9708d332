# Two commands do everything on a fresh machine with Python 3.11-3.13 and make: `make train` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A file of jobs/ is a job: `make train`, and any flag through ARGS=, as in make transfer ARGS="--backbone vgg16".
JOBS := $(basename $(notdir $(wildcard jobs/*.py)))

.DEFAULT_GOAL := help
.PHONY: help install $(JOBS) test test-all fuzz e2e lint format docs pictures lock bench bench-gpu dist release image clean

help:  ## list the targets
	@for job in $(JOBS); do printf 'make %-9s run fmnist %s; any flag through ARGS=\n' $$job $$job; done
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.runtime  ## create .venv with the locked dependencies and the command fmnist

$(JOBS): $(VENV)/.runtime
	$(BIN)/fmnist $@ $(ARGS)

train: ARGS += $(if $(EPOCHS),--epochs $(EPOCHS))

# Files side by side, each process with a Ray head of its own; those that take long come first in tests/.
TEST = $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: $(VENV)/.dev  ## run the tests but the slow ones; some of them through ARGS=
	$(TEST) -m "not kubernetes and not slow" $(ARGS)

test-all: $(VENV)/.dev  ## run the slow tests, too: what repeats a promise for other sizes, jobs and settings
	$(TEST) -m "not kubernetes" $(ARGS)

fuzz: $(VENV)/.dev  ## run the property tests with new seeds and a hundred times the examples; some of them through ARGS=
	$(BIN)/python -m pytest -m hypothesis --hypothesis-profile fuzz --timeout 0 -n auto $(ARGS)

e2e: $(VENV)/.dev  ## run the jobs on the Kubernetes cluster that KUBECONFIG names; E2E_IMAGE= names the image, E2E_KILLS=5 kills more
	@test -n "$$KUBECONFIG" || { echo "KUBECONFIG: not set, expected the file of a cluster with the KubeRay operator" >&2; exit 2; }
	$(BIN)/python -m pytest tests/cluster $(ARGS)

lint: $(VENV)/.dev  ## check style, types, who imports whom, and the Dockerfile
	$(BIN)/hadolint Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## build the documentation into site/, warnings are errors; ARGS="--dirty" and the like through ARGS=
	$(BIN)/mkdocs build --strict $(ARGS)

pictures: $(VENV)/.dev  ## draw the architecture picture of README and docs again
	$(BIN)/python docs/tools/architecture_picture.py docs/architecture.svg

bench: $(VENV)/.dev  ## measure training against its peers, on an otherwise idle machine
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python benchmarks/exchange.py
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/tune.py
	$(BIN)/python benchmarks/crossval.py
	$(BIN)/python benchmarks/transfer.py
	$(BIN)/python benchmarks/time_to_accuracy.py

# Without .venv the Python of the machine, which may have another way to TensorFlow with CUDA and to the peers.
bench-gpu:  ## measure one GPU beside JAX and PyTorch, in eight minutes at most; --only, --rehearse and others through ARGS=
	$(firstword $(wildcard $(BIN)/python) $(PYTHON)) benchmarks/gpu.py $(ARGS)

lock: $(VENV)/.dev  ## resolve the dependencies of pyproject.toml again and write them down with their hashes
	$(BIN)/uv pip compile $(LOCK) --extra build pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile $(LOCK) --extra build --extra dev --extra onnx --extra litert --extra mlflow pyproject.toml -o requirements-dev.txt
	$(BIN)/uv pip compile $(LOCK) --extra build --extra gpu pyproject.toml -o requirements-gpu.txt
	$(BIN)/uv pip compile $(LOCK) --group pyproject.toml:sbom -o requirements-sbom.txt

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

dist: $(VENV)/.runtime  ## build wheel and sdist into dist/, the same bytes from the same commit
	rm -rf dist
	SOURCE_DATE_EPOCH=$(COMMITTED) $(BIN)/python -m hatchling build --directory dist

release:  ## tag the version that CHANGELOG.md has a date for, and build wheel, sdist and image of it
	@test -z "$$(git status --porcelain)" || { echo "git: found changes, expected none" >&2; exit 2; }
	@grep -q "^## $(VERSION) (20" CHANGELOG.md || { echo "CHANGELOG.md: expected ## $(VERSION) (YYYY-MM-DD)" >&2; exit 2; }
	git tag --annotate --message "fmnist $(VERSION)" v$(VERSION)
	$(MAKE) dist image

image: $(VENV)/.sbom  ## build fmnist:VERSION-rayVERSION with docker or buildah; VARIANT=gpu for one with CUDA, its tag ends in -gpu; its SBOM goes to build/; any flag through ARGS=
	mkdir -p build
	SOURCE_DATE_EPOCH=$(COMMITTED) $(VENV)/sbom/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml -o $(SBOM) $(LOCKED)
	$(BUILDER) --build-arg VARIANT=$(VARIANT) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
		--build-arg CREATED=$(CREATED) --build-arg SBOM_SHA256=$$(sha256sum $(SBOM) | cut -d ' ' -f 1) --tag $(IMAGE) $(ARGS) .

# Ray's version is in the tag, since all of a cluster and who submits to it must have the same.
IMAGE ?= fmnist:$(VERSION)-ray$(RAY)$(if $(filter gpu,$(VARIANT)),-gpu)
VARIANT ?= cpu
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' fmnist/__init__.py)
RAY = $(shell sed -n 's/^ray==\([0-9.]*\).*/\1/p' requirements.txt)
REVISION = $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null)
# Of the commit, so that builds of it are equal.
COMMITTED = $(or $(shell git log -1 --format=%ct 2>/dev/null),1580601600)
CREATED = $(shell date --utc --date=@$(COMMITTED) +%Y-%m-%dT%H:%M:%SZ)
# What the image has of others, in CycloneDX; the label org.fmnist.sbom.sha256 of the image names this file.
LOCKED = requirements$(if $(filter gpu,$(VARIANT)),-gpu).txt
SBOM = build/fmnist-$(VERSION)$(if $(filter gpu,$(VARIANT)),-gpu).cdx.json
# Without --layers, buildah installs all dependencies again when a line of ours has changed.
BUILDER ?= $(shell docker info >/dev/null 2>&1 && echo docker build || echo buildah build --layers)

clean:  ## remove the environment and all caches, but no artifacts
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.runtime: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(PIP) install --quiet --require-hashes -r requirements-dev.txt
	touch $@

$(VENV)/.sbom: requirements-sbom.txt $(VENV)/.runtime
	$(BIN)/python -m venv $(VENV)/sbom
	$(VENV)/sbom/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements-sbom.txt
	touch $@
