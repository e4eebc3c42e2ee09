# Everything a developer does, by name. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := $(CURDIR)/.venv
export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Where Python may not keep what it compiled, each process of Ansible compiles everything again, and takes twice as long.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup images lint format unit build scenarios scenario test bench bench-releases bench-servers bench-nginx scan try-apps demo demo-hosts demo-down docs changelog clean requirements

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  S=nginx      the scenario of make scenario"
	@echo "  STEP=verify  only this step of it: create, converge, idempotence, check, verify, login, destroy"
	@echo "  KEEP=1       leave its hosts running; JOBS=3 scenarios side by side; PYTHON=python3.13 for the venv"

setup: ## Install what is missing on this machine, then the development tools into .venv
	@tools/setup

images: setup ## Build the test hosts' images from Debian's archive, when they are missing or old
	@tools/images

lint: setup ## Check the style of YAML, roles and Python, and Python's types
	@tools/lint

format: setup ## Format the Python files
	@tools/lint --fix

unit: setup ## Run the tests of plugins and templates, then those of what Ansible runs with newer releases of it
	@pytest --numprocesses auto tests/unit
	@tools/newer-ansible --unit

build: setup ## Pack the collection, as it is committed, into logs/
	@tools/build logs

scenarios: images ## Run every Molecule scenario
	@tools/suite

scenario: images ## Run one scenario (S=nginx), or one STEP of it
	@: $${S:?which one? make scenario S=nginx}
	@tools/suite --only "$(S)" --verbose $(if $(STEP),--step $(STEP)) $(if $(KEEP),--keep)

test: lint unit scenarios ## Everything CI runs

bench: images ## Measure the collection beside a plain playbook, and deploy under load (ARGS=--quick)
	@bench/run.py $(ARGS)

bench-releases: images ## Deploy under load with each ASGI server and count what visitors noticed (ARGS=--quick)
	@bench/releases.py $(ARGS)

bench-servers: images ## Measure each ASGI server through nginx and directly (ARGS=--quick)
	@bench/servers.py $(ARGS)

bench-nginx: images ## Measure nginx as the role sets it up beside a minimal configuration (ARGS=--quick)
	@bench/front.py $(ARGS)

scan: images ## Let sslyze, testssl.sh, gixy and slowhttptest look at a site (ARGS="--only gixy")
	@tools/scan $(ARGS)

try-apps: images ## Bring other people's applications live, each on a new host (APPS="wagtail fastapi")
	@tools/try-apps $(APPS)

demo-hosts: images ## Start the local server that the demo provisions
	@tools/demo up

demo: demo-hosts ## Provision a local server with the example application
	@mkdir -p logs
	@ansible-playbook site.yml -i inventories/demo | tee logs/demo.log
	@! grep -q ' changed=0 ' logs/demo.log || echo "Nothing had to change: the server is as the inventory says."
	@echo
	@ansible-playbook playbooks/status.yml -i inventories/demo -e status_file=$(CURDIR)/logs/demo-status.json >>logs/demo.log
	@tools/demo-proof vivarium-demo logs/demo-status.json

demo-down: ## Remove the demo's server
	@tools/demo down

docs: setup ## Make the site of the documentation, in logs/docs
	@tools/docs logs/docs

changelog: setup ## Bring CHANGELOG.md up to the version in galaxy.yml, from the fragments
	@uv tool run --system-certs --from antsibull-changelog==0.36.0 antsibull-changelog release --update-existing

clean: ## Remove the test hosts and what tests and tools left in this directory; .venv and images stay
	@command -v podman >/dev/null && tools/hosts down --all || true
	@rm -rf .cache .pytest_cache .ruff_cache .ansible logs changelogs/.plugin-cache.yaml

requirements: setup ## Pin the development tools anew from requirements-dev.in, and those of the site
	@for name in dev docs; do uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate --no-header requirements-$$name.in -o requirements-$$name.txt; done
