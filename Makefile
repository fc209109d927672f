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
SET ?=
ONLY ?=
RESUME ?=
FORCE ?=
YES ?=
ASK_PASSWORD ?=
BUNDLE ?=
EXTRA ?=
N ?= 2

# HOST is this machine, or a host, a group or several (with commas between them) of the inventory.
INVENTORY ?= inventories/lab

# What is typed is taken as it stands, and recipes have it from the environment, in quotes: neither make nor a shell reads
# what is in it. SET, ONLY, EXTRA and TESTS are words, which may have quotes of their own.
TYPED := HOST CONFIG RESULTS RUN SET ONLY RESUME FORCE YES ASK_PASSWORD BUNDLE EXTRA N INVENTORY PAGELAB_DIR TESTS SUDO_USER
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
export $(TYPED)

VENV := .venv
BIN := $(VENV)/bin
REMOTE := $(filter-out localhost,$(HOST))
export LAUNCHER := $(or $(PAGELAB_DIR),/var/lib/pagelab)/bin/pagelab

# Under sudo everything still runs as, and belongs to, who typed it; Ansible becomes root where it must.
AS_OWNER := $(if $(filter-out root,$(SUDO_USER)),sudo -u "$$SUDO_USER" -H --)
PLAYBOOK := $(BIN)/python tools/playbook

# The virtual environment is keyed by what it is made from and by where it is (its scripts name their own path): a changed
# lock file or a moved checkout makes a new one.
key = $(shell { pwd -P; cat $(1); } | sha256sum | cut -c1-16)
VENV_STAMP := $(VENV)/.packages-$(call key,requirements.lock)
PACKAGE_STAMP := $(VENV)/.pagelab-$(call key,requirements.lock pyproject.toml)

# What is set and chosen of CONFIG, as options of the launcher.
OPTIONS = mapfile -td '' options < <(xargs -r printf -- '--set=%s\0' <<<"$$SET"; xargs -r printf -- '--only=%s\0' <<<"$$ONLY")

# Unit tests alone need nothing of the host, and run beside an experiment.
TESTS_ON_HOST = $(filter tests tests/integration% tests/vm%,$(or $(TESTS),tests))

VIRTUAL_LAB = PYTHONPATH=tools $(BIN)/python -m virtual_lab

.PHONY: help
help: ## print this help
	@echo "Usage: make TARGET [HOST=localhost] [INVENTORY=inventories/lab] [CONFIG=runner/configs/quickstart.yml] [RESULTS=results]"
	@echo
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r target words; do \
		printf '  %-11s %s\n' "$$target" "$$words"; done

.PHONY: experiment
experiment: $(if $(REMOTE),inventory,provision) ## set up what is missing, then run CONFIG (SET="repetitions=3" and ONLY="resident=0.5" change it, RESUME=1 goes on with the last run, FORCE=1 overrides the preflight)
ifeq ($(REMOTE),)
	@$(OPTIONS); \
	"$$LAUNCHER" run --results="$$RESULTS" "$${options[@]}" $(if $(RESUME),--resume) $(if $(FORCE),--force) -- "$$CONFIG"
else
	@$(PLAYBOOK) ansible/experiment.yml experiment_hosts $(if $(RESUME),-e experiment_resume=true) $(if $(FORCE),-e experiment_force=true)
endif

.PHONY: provision
provision: inventory ## set up HOST: swap file, container engine, images, llama.cpp, model (about 10 minutes, then seconds)
	@$(PLAYBOOK) ansible/provision.yml pagelab_hosts

.PHONY: check
check: inventory ## say what provision would change on HOST, and change nothing
	@$(PLAYBOOK) ansible/provision.yml pagelab_hosts --check --diff

.PHONY: collect
collect: inventory ## bring results that are still on HOST here
	@$(PLAYBOOK) ansible/collect.yml pagelab_hosts

.PHONY: stop
stop: inventory ## end the experiment that runs on HOST, in order
	@$(PLAYBOOK) ansible/stop.yml pagelab_hosts

.PHONY: bundle
bundle: $(PACKAGE_STAMP) ## write pagelab-bundle.tar: all that hosts without a network need for CONFIG (then BUNDLE=pagelab-bundle.tar)
	@$(PLAYBOOK) ansible/bundle.yml

.PHONY: plan
plan: provision ## list the trials that CONFIG would run, with time and disk; runs nothing
	@$(OPTIONS); "$$LAUNCHER" plan --results="$$RESULTS" "$${options[@]}" -- "$$CONFIG"

.PHONY: preflight
preflight: provision ## check whether the host can run CONFIG, and say what to do where it cannot
	@$(OPTIONS); "$$LAUNCHER" preflight --results="$$RESULTS" "$${options[@]}" -- "$$CONFIG"

.PHONY: report
report: ## write the report of RUN again (default: the newest run under RESULTS)
	@run=$$RUN; \
	if [ -z "$$run" ]; then \
		case $$RESULTS in /*) place=$$RESULTS ;; *) place=./$$RESULTS ;; esac; \
		run=$$(find "$$place" -mindepth 4 -maxdepth 4 -name run.json -printf '%T@ %h\0' 2>/dev/null | \
			sort -zn | tail -zn1 | cut -zd' ' -f2- | tr -d '\0'); fi; \
	if [ -z "$$run" ]; then echo "make report: no run under $$RESULTS/; type: make experiment" >&2; exit 2; fi; \
	"$$LAUNCHER" report -- "$$run"

.PHONY: shell
shell: ## open a shell in the runner container
	@"$$LAUNCHER" shell

.PHONY: restore
restore: ## put back every kernel setting that a killed run left changed
	@"$$LAUNCHER" restore

.PHONY: test
test: $(if $(TESTS_ON_HOST),provision,$(PACKAGE_STAMP)) ## set up what is missing, then run the tests (TESTS= names some; N= virtual machines)
	@$(if $(TESTS_ON_HOST),"$$LAUNCHER" restore)
	@mapfile -t words < <(xargs -rn1 printf '%s\n' <<<"$${TESTS:-tests/integration tests/unit tests/vm}"); \
	PAGELAB_TEST_MACHINES="$$N" $(BIN)/pytest "$${words[@]}"

.PHONY: bench
bench: provision ## time what should be fast, prints ratios; then run the quick configurations in full
	@unshare --mount $(BIN)/python benchmarks/cost_of_looking.py
	@$(BIN)/python benchmarks/model_inspect.py
	@$(BIN)/python benchmarks/model_synth.py
	@$(BIN)/python benchmarks/noop_provision.py
	@unshare --mount $(BIN)/python benchmarks/trace_full_rate.py
	@$(BIN)/python benchmarks/trace_decode.py
	@$(BIN)/python benchmarks/shipped_configs.py

.PHONY: lint
lint: $(PACKAGE_STAMP) ## ruff, mypy, import-linter, ansible-lint, yamllint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PATH="$$PWD/$(BIN):$$PATH" $(BIN)/ansible-lint --offline
	$(BIN)/python tools/role-readmes --check
	$(BIN)/yamllint --strict .

.PHONY: lock
lock: $(PACKAGE_STAMP) ## resolve both lock files anew from pyproject.toml
	$(BIN)/pip-compile -q --upgrade --extra controller --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links \
		--strip-extras --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras \
		--constraint requirements.lock --output-file runner/requirements.lock pyproject.toml

.PHONY: teardown
teardown: inventory ## take away everything that provision put on HOST; keeps results (YES=1 does not ask)
	@$(PLAYBOOK) ansible/teardown.yml pagelab_hosts $(if $(YES),-e pagelab_confirm=yes)

.PHONY: vm-up
vm-up: $(PACKAGE_STAMP) ## start N virtual machines lab1 to labN to try it all on (then INVENTORY=inventories/vm HOST=lab)
	@rm -f .cache/facts/lab*
	@$(VIRTUAL_LAB) up --count "$$N"

.PHONY: vm-down
vm-down: $(PACKAGE_STAMP) ## remove the virtual machines
	@$(VIRTUAL_LAB) down

.PHONY: inventory
inventory: $(if $(BUNDLE),unpack) $(PACKAGE_STAMP)
	@[ -z '$(if $(REMOTE),yes)' ] || [ -e "$$INVENTORY/hosts.yml" ] || \
		{ echo "make: $$INVENTORY/hosts.yml is missing; copy inventories/lab and name your hosts there (INVENTORY=...)" >&2; exit 2; }

.PHONY: unpack
unpack:
	@$(AS_OWNER) tools/unpack-bundle "$$BUNDLE" .cache/bundle

.PHONY: venv
venv: $(PACKAGE_STAMP)

# Most of what pip would compile are Ansible's collections, thousands of files of which a handful is used.
$(VENV_STAMP): $(if $(BUNDLE),| unpack)
	@echo "Making $(VENV) with the packages of requirements.lock (about a minute)"
	@$(AS_OWNER) tools/make-venv $(VENV)
	@$(AS_OWNER) $(BIN)/python -m pip install -qq --no-compile --require-hashes --cache-dir .cache/pip --requirement requirements.lock \
		$(if $(BUNDLE),--no-index --find-links .cache/bundle/wheels)
	@$(AS_OWNER) $(BIN)/python -m compileall -qq -j 0 -x 'ansible_collections/(?!community/docker|ansible)' $(VENV)/lib
	@$(AS_OWNER) touch $@

$(PACKAGE_STAMP): | $(VENV_STAMP)
	@$(AS_OWNER) $(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@$(AS_OWNER) touch $@
