# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
ARGS ?=
VENV := $(CURDIR)/.venv
PIP := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# A second lab beside the first one: FOG_LAB_NAME and FOG_LAB_DIR in the environment, which the tests read, too.
LAB = ansible-playbook lab.yml $(if $(FOG_LAB_NAME),-e lab_name=$(FOG_LAB_NAME))
# Where a checkout finds itself as ansible_collections.fog.migration.
COLLECTIONS := playbooks/collections
SELF := $(COLLECTIONS)/ansible_collections/fog/migration

export PATH := $(VENV)/bin:$(PATH)
ifndef STARTED
export STARTED := $(shell date +%s)
endif
say = printf '==> [%4d s] %s\n' "$$(($$(date +%s) - STARTED))" $(1)

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo 'ARGS="..." goes to the tool behind demo, lab, lab-down, unit, security, fuzz, fuzz-long, integration, test-programs, sanity, molecule, bench-downtime, bench-command, bench-programs and bench-memory.'

##@ Run it

.PHONY: demo lab lab-down
demo: lab ## two fog servers on this machine, and a counter that moves between them while it counts
	@$(call say,'A container counts on the first server and is moved to the second')
	@cd playbooks && ansible-playbook demo.yml $(ARGS)
	@$(call say,'Done. The lab is still up: "make lab-down" removes it')

lab: setup ## bring the lab up, or up to date: fog servers and a client as containers of this machine
	@$(call say,'Lab: fog servers and a client as containers of this machine')
	@cd playbooks && $(LAB) $(if $(filter lab,$(MAKECMDGOALS)),$(ARGS))

lab-down: setup ## remove the lab
	@$(call say,'Removing the lab')
	@cd playbooks && $(LAB) -e lab_state=down $(ARGS)

##@ Test it

.PHONY: check test test-all test-programs bench bench-provision bench-downtime bench-command bench-programs bench-memory lint lint-python lint-types lint-imports lint-vermin lint-shell lint-yaml lint-changelog lint-ansible sanity unit security fuzz fuzz-long integration molecule molecule-vagrant fault-test pi-kernel-boot
check: setup-dev ## lint, types, unit tests and attacks: minutes, no lab
	@$(MAKE) lint
	@$(call say,'Unit tests')
	@pytest tests/unit tests/security --numprocesses=2 --dist=loadfile $(ARGS)

test: setup-dev ## lint and sanity beside the unit and integration tests, which have two labs side by side; what CI runs
	@$(call say,'Unit and integration tests with lint and sanity beside them')
	@mkdir -p .cache; { $(MAKE) lint && $(MAKE) sanity; } >.cache/check.log 2>&1 & check=$$!; \
	    tests=0; pytest --numprocesses=2 --dist=loadfile --junitxml=.cache/tests.xml || tests=$$?; \
	    checked=0; wait $$check || checked=$$?; cat .cache/check.log; \
	    python tools/summary.py .cache/tests.xml; exit $$((tests + checked))

# What "make test" has no time for: CONTRIBUTING.md has the list.
test-all: setup-dev ## everything: "make test", the slow tests, an hour of fuzzing, the real programs, Molecule with and without Vagrant, the Pi's kernels in QEMU, 200 faults (a day)
	@$(MAKE) test
	@$(call say,'Slow integration tests')
	@pytest tests/security tests/integration -m slow
	@$(MAKE) fuzz-long
	@$(MAKE) test-programs
	@$(MAKE) molecule
	@$(MAKE) molecule-vagrant
	@$(MAKE) pi-kernel-boot
	@$(MAKE) fault-test

unit: setup-dev ## unit tests, which need no lab
	@pytest tests/unit $(ARGS)

security: setup-dev ## attacks on the programs of a destination, which need no lab (two minutes): make security ARGS="-k stops"
	@pytest tests/security $(ARGS)

fuzz: setup-dev ## try the parsers with far more of what is made up than "make test" does (5 minutes)
	@pytest tests/unit/fuzz --hypothesis-profile=fuzz $(ARGS)

# Each round makes other things up. The limit of memory holds for all that is started.
FUZZ_SECONDS ?= 3600
fuzz-long: setup-dev ## the same again and again for an hour, in 8 GiB of addresses: make fuzz-long FUZZ_SECONDS=7200 ARGS="-k archive"
	@$(call say,'Parsers of what others say')
	@ulimit -v 8388608; until [ $$SECONDS -ge $(FUZZ_SECONDS) ]; do pytest tests/unit/fuzz --hypothesis-profile=fuzz -x -q $(ARGS); done

integration: setup-dev ## integration tests on the lab: make integration ARGS="-k naturals"
	@pytest tests/integration $(ARGS)

test-programs: setup-dev ## real programs move in every mode while clients use them: make test-programs ARGS="-k redis"
	@$(call say,'Real programs')
	@pytest tests/programs -m '' $(ARGS)

# Its scenarios take their lab down, before and after; so they get one of their own.
MOLECULE_SCENARIOS := -s default -s pi_kernel
molecule: export FOG_LAB_NAME := fog-molecule
molecule: export FOG_LAB_DIR := $(HOME)/.local/state/fog-migration/molecule
molecule: setup-dev ## molecule scenarios but that of Vagrant: make molecule ARGS="-s NAME"
	@$(call say,'Molecule')
	@MOLECULE_GLOB='molecule/*/molecule.yml' ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/$(COLLECTIONS) molecule test $(or $(ARGS),$(MOLECULE_SCENARIOS))

molecule-vagrant: setup-dev ## its scenario with two virtual machines by Vagrant (root; without KVM a quarter of an hour)
	@$(call say,'Molecule: two virtual machines by Vagrant')
	@tools/vagrant/workstation.sh tools/vagrant/molecule.sh test $(ARGS)

# The lab is its own, and stays up when something was lost. What was interrupted goes on.
fault-test: export FOG_LAB_NAME := fog-faults
fault-test: export FOG_LAB_DIR := $(HOME)/.local/state/fog-migration/faults
fault-test: export FOG_FAULTS := $(ARGS)
fault-test: setup-dev ## 200 faults in the midst of migrations, into docs/reliability.md (two hours): make fault-test ARGS="--seed 2 --count 50"
	@$(call say,'Molecule: faults')
	@MOLECULE_GLOB='molecule/*/molecule.yml' ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/$(COLLECTIONS) molecule test --destroy=never -s faults
	@MOLECULE_GLOB='molecule/*/molecule.yml' ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/$(COLLECTIONS) molecule destroy -s faults

pi-kernel-boot: setup ## build the Pi's kernels and try CRIU on them in QEMU (root; an hour on two cores, later minutes): make pi-kernel-boot ARGS=arm64
	@$(call say,"The Pi's kernels in QEMU")
	@tools/pi_kernel/boot.sh $(ARGS)

bench: bench-provision bench-downtime bench-command bench-programs bench-memory ## all benchmarks, whose figures are in benchmarks/

# On a lab of its own: its nodes have to be bare.
bench-provision: export FOG_LAB_NAME := fog-bench
bench-provision: export FOG_LAB_DIR := $(HOME)/.local/state/fog-migration/bench
bench-provision: setup-dev ## time the provisioning of 1, 2, 4 and 8 bare nodes, into benchmarks/provision.md
	@cd playbooks && $(LAB) -e lab_fog_servers=15 -e lab_clients=0 -e lab_provision=false
	@python benchmarks/provision.py
	@cd playbooks && $(LAB) -e lab_state=down

# What was interrupted goes on with ARGS=--resume; the lab is still there then.
bench-downtime: export FOG_LAB_NAME := fog-bench
bench-downtime: export FOG_LAB_DIR := $(HOME)/.local/state/fog-migration/bench
bench-downtime: setup-dev ## time moving containers, ours beside others' ways, into benchmarks/downtime.md (more than an hour)
	@cd playbooks && $(LAB) -e lab_clients=0
	@python benchmarks/downtime.py $(ARGS)
	@cd playbooks && $(LAB) -e lab_state=down

# The same holds for this one. Nothing else should run on the machine.
bench-command: export FOG_LAB_NAME := fog-bench
bench-command: export FOG_LAB_DIR := $(HOME)/.local/state/fog-migration/bench
bench-command: setup-dev ## time the whole command for 1, 4 and 20 containers beside a ping, into benchmarks/command.md: make bench-command ARGS="--only cold"
	@cd playbooks && $(LAB) -e lab_clients=0
	@python benchmarks/command.py $(ARGS)
	@cd playbooks && $(LAB) -e lab_state=down

# And for this one.
bench-programs: export FOG_LAB_NAME := fog-bench
bench-programs: export FOG_LAB_DIR := $(HOME)/.local/state/fog-migration/bench
bench-programs: setup-dev ## time moving real programs while clients use them, into benchmarks/programs.md: make bench-programs ARGS="--programs counter,redis"
	@cd playbooks && $(LAB)
	@python benchmarks/programs.py $(ARGS)
	@cd playbooks && $(LAB) -e lab_state=down

# And for this one.
bench-memory: export FOG_LAB_NAME := fog-bench
bench-memory: export FOG_LAB_DIR := $(HOME)/.local/state/fog-migration/bench
bench-memory: setup-dev ## time moving shared memory beside private, and 4 GiB beside 1 GiB, into benchmarks/memory.md (half an hour, 18 GiB of memory)
	@cd playbooks && $(LAB) -e lab_clients=0
	@python benchmarks/memory.py $(ARGS)
	@cd playbooks && $(LAB) -e lab_state=down

lint: lint-python lint-types lint-imports lint-vermin lint-shell lint-yaml lint-changelog lint-ansible ## ruff, mypy, import-linter, vermin, shellcheck, yamllint, antsibull-changelog, ansible-lint

lint-python: setup-dev
	@$(call say,'ruff')
	@ruff check --quiet
	@ruff format --quiet --check

lint-types: setup-dev
	@$(call say,'mypy')
	@mypy $(SELF)/plugins

lint-imports: setup-dev
	@$(call say,'import-linter')
	@PYTHONPATH=$(COLLECTIONS) lint-imports --no-logo --cache-dir .cache/import-linter

# What runs on the fog servers, with the oldest Python that is supported there.
lint-vermin: setup-dev
	@$(call say,'vermin')
	@vermin --quiet --no-tips --violations --target=3.8- plugins/modules plugins/module_utils

lint-shell: setup-dev
	@$(call say,'shellcheck')
	@git ls-files -z "*.sh" .ci/run | xargs -0 shellcheck

lint-yaml: setup-dev
	@$(call say,'yamllint')
	@yamllint --strict .

lint-changelog: setup-dev
	@$(call say,'antsibull-changelog')
	@antsibull-changelog lint

lint-ansible: setup-dev
	@$(call say,'ansible-lint')
	@ANSIBLE_COLLECTIONS_PATH=$(COLLECTIONS) ansible-lint --offline --strict -q

sanity: setup-dev ## ansible-test sanity: make sanity ARGS="--test validate-modules"
	@$(call say,'ansible-test sanity')
	@tools/sanity.sh $(ARGS)

##@ Change and release it

.PHONY: setup setup-dev fmt changelog build importer pins clean
setup: $(VENV)/.setup ## install into .venv what running needs

$(VENV)/.setup: requirements.txt requirements.yml constraints.txt tools/install_collections.py
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo 'fog.migration needs Python 3.11 or newer with its venv module: on Debian and Ubuntu, "apt-get install python3-venv";' \
	         'another interpreter is chosen with "make PYTHON=/path/to/python3".' >&2; exit 1; }
	@$(call say,'Installing Ansible and its libraries into .venv')
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.txt
	@$(VENV)/bin/python tools/install_collections.py
	@touch $@

setup-dev: $(VENV)/.setup-dev ## install into .venv what developing needs as well

$(VENV)/.setup-dev: $(VENV)/.setup requirements-dev.txt
	@$(call say,'Installing the tools for development into .venv')
	@$(PIP) -r requirements-dev.txt
	@touch $@

fmt: setup-dev ## format the Python code and mend what ruff can
	@ruff check --quiet --fix
	@ruff format --quiet

changelog: setup-dev ## write the fragments into CHANGELOG.md for the version in galaxy.yml
	@antsibull-changelog release --reload-plugins --update-existing --refresh

build: setup ## build the collection's tarball into dist/
	@rm -f dist/fog-migration-*.tar.gz
	@ansible-galaxy collection build --output-path dist

importer: setup-dev build ## check the tarball as Galaxy would on import, and install it
	@$(call say,'galaxy-importer')
	@tools/check_tarball.sh

pins: ## write the newest versions that fit together into constraints.txt
	@tools/pin.sh

clean: ## remove what these commands have left behind, and the lab's snapshots, but not the lab
	@rm -rf .ansible .cache .venv dist tests/output changelogs/.plugin-cache.yaml $(HOME)/.cache/fog-migration/lab $(HOME)/.cache/fog-migration/programs
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
