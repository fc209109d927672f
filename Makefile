# pagelab: everything that people type. `make` alone prints what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

HOST ?= localhost
CONFIG ?= runner/configs/quickstart.yml
RESULTS ?= results
RUN ?=
RESUME ?=
FORCE ?=
YES ?=
EXTRA ?=

VENV := .venv
BIN := $(VENV)/bin
INVENTORY := inventories/$(HOST)
PAGELAB_DIR := $(or $(PAGELAB_DIR),/var/lib/pagelab)
LAUNCHER := $(PAGELAB_DIR)/bin/pagelab

# Under sudo everything still runs as, and belongs to, who typed it; Ansible becomes root where it must.
AS_OWNER := $(if $(filter-out root,$(SUDO_USER)),sudo -u $(SUDO_USER) -H --)

# The virtual environment is keyed by what it is made from and by where it is (its scripts name their own path): a changed
# lock file or a moved checkout makes a new one.
key = $(shell { printf '%s\n' '$(CURDIR)'; cat $(1); } | sha256sum | cut -c1-16)
VENV_STAMP := $(VENV)/.packages-$(call key,requirements.lock)
PACKAGE_STAMP := $(VENV)/.pagelab-$(call key,requirements.lock pyproject.toml)

# Root needs no password and neither does a sudo that asks for none; anyone else is asked once.
BECOME = $(if $(filter 0,$(shell $(AS_OWNER) id -u)),,$(shell $(AS_OWNER) sudo -n true 2>/dev/null || echo --ask-become-pass))
PLAYBOOK = $(AS_OWNER) $(BIN)/ansible-playbook -i $(INVENTORY) $(BECOME) -e pagelab_dir=$(PAGELAB_DIR) $(EXTRA)

.PHONY: help
help: ## print this help
	@echo "Usage: make TARGET [HOST=localhost] [CONFIG=runner/configs/quickstart.yml] [RESULTS=results]"
	@echo
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r target words; do \
		printf '  %-11s %s\n' "$$target" "$$words"; done

.PHONY: experiment
experiment: provision ## set up what is missing, then run CONFIG (RESUME=1 goes on with the last run, FORCE=1 overrides the preflight)
	@$(LAUNCHER) run $(CONFIG) --results $(RESULTS) $(if $(RESUME),--resume) $(if $(FORCE),--force)

.PHONY: provision
provision: $(PACKAGE_STAMP) inventory ## set up HOST: swap file, container engine, images, llama.cpp, model (about 10 minutes, then seconds)
	@$(PLAYBOOK) ansible/provision.yml -e experiment_config=$(abspath $(CONFIG))

.PHONY: plan
plan: provision ## list the trials that CONFIG would run, with time and disk; runs nothing
	@$(LAUNCHER) plan $(CONFIG)

.PHONY: preflight
preflight: provision ## check whether the host can run CONFIG, and say what to do where it cannot
	@$(LAUNCHER) preflight $(CONFIG)

.PHONY: report
report: ## write the report of RUN again (default: the newest run under RESULTS)
	@run='$(RUN)'; \
	if [ -z "$$run" ]; then \
		run=$$(find '$(RESULTS)' -mindepth 4 -maxdepth 4 -name run.json -printf '%T@ %h\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2-); fi; \
	if [ -z "$$run" ]; then echo "make report: no run under $(RESULTS)/; type: make experiment" >&2; exit 2; fi; \
	$(LAUNCHER) report "$$run"

.PHONY: shell
shell: ## open a shell in the runner container
	@$(LAUNCHER) shell

.PHONY: restore
restore: ## put back every kernel setting that a killed run left changed
	@$(LAUNCHER) restore

.PHONY: test
test: provision ## set up what is missing, then run the tests (TESTS= names some)
	@$(BIN)/pytest $(or $(TESTS),tests)

.PHONY: lint
lint: $(PACKAGE_STAMP) ## ruff, mypy, ansible-lint, yamllint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline
	$(BIN)/yamllint --strict .

.PHONY: lock
lock: $(PACKAGE_STAMP) ## resolve both lock files anew from pyproject.toml
	$(BIN)/pip-compile -q --upgrade --extra controller --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links \
		--strip-extras --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras \
		--constraint requirements.lock --output-file runner/requirements.lock pyproject.toml

.PHONY: teardown
teardown: $(PACKAGE_STAMP) inventory ## take away everything that provision put on HOST; keeps results (YES=1 does not ask)
	@$(PLAYBOOK) ansible/teardown.yml $(if $(YES),-e pagelab_confirm=yes)

.PHONY: inventory
inventory:
	@[ -e '$(INVENTORY)/hosts.yml' ] || { echo "make: HOST=$(HOST) has no inventory; write $(INVENTORY)/hosts.yml" >&2; exit 2; }

.PHONY: venv
venv: $(PACKAGE_STAMP)

$(VENV_STAMP):
	@echo "Making $(VENV) with the packages of requirements.lock (about a minute)"
	@$(AS_OWNER) tools/make-venv $(VENV)
	@$(AS_OWNER) $(BIN)/python -m pip install -qq --require-hashes --cache-dir .cache/pip --requirement requirements.lock
	@$(AS_OWNER) touch $@

$(PACKAGE_STAMP): | $(VENV_STAMP)
	@$(AS_OWNER) $(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@$(AS_OWNER) touch $@
