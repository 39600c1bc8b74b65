# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := $(CURDIR)/.venv
PIP := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt

export PATH := $(VENV)/bin:$(PATH)

.PHONY: setup setup-dev

setup: $(VENV)/.setup ## install what running needs into .venv

$(VENV)/.setup: requirements.txt requirements.yml constraints.txt tools/install_collections.py
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "fog.migration needs Python 3.11 or newer with its venv module: on Debian and Ubuntu, apt-get install python3-venv;" \
	         "another interpreter is chosen with PYTHON=/path/to/python3." >&2; exit 1; }
	@echo "==> Installing Ansible and its libraries into .venv"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.txt
	@$(VENV)/bin/python tools/install_collections.py
	@touch $@

setup-dev: $(VENV)/.setup-dev ## install what developing needs as well

$(VENV)/.setup-dev: $(VENV)/.setup requirements-dev.txt
	@echo "==> Installing the developer's tools into .venv"
	@$(PIP) -r requirements-dev.txt
	@touch $@
