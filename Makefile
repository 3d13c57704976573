# Flaghoist: every target sets up what it needs.

PYTEST = .venv/bin/python -m pytest

.PHONY: help setup demo chaos test test-all kills fuzz audit boot lab lint format clean

help:
	@printf '%s\n' \
	  'make demo           a hub and five devices: a good release reaches all, a bad one stops itself' \
	  'make demo KEEP=1    the same, left running; make demo STOP=FOLDER ends it' \
	  'make chaos          a game day: one thing after another is broken, and what was noticed, how fast' \
	  'make test           the tests, under five minutes' \
	  'make test-all       the tests and the heavy part' \
	  'make kills          the agent killed at every system call, and every call failing in every way' \
	  'make fuzz          every reader of foreign bytes, guided by what they reach; SECONDS_EACH=60' \
	  'make audit         known vulnerabilities in what constraints.txt installs; asks an advisory service' \
	  'make boot           a Debian under systemd runs the units; root, QEMU and debootstrap' \
	  'make lab            ten power cuts in updates of such a machine; CUTS=500 SEED=7 JSON=1' \
	  'make lint           ruff, mypy and the import layers' \
	  'make format         let ruff format the code'

setup:
	@.ci/setup

demo: setup
	@.venv/bin/python -m tests.e2e.demo $(if $(KEEP),--keep) $(if $(STOP),--stop $(STOP))

chaos: setup
	@.venv/bin/python -m tests.e2e.gameday $(foreach name,$(ONLY),--only $(name))

test: setup
	$(PYTEST) -n 2 -m 'not heavy'

test-all: setup
	@.ci/setup all || true
	$(PYTEST) -n 2 -m heavy

kills: setup
	FLAGHOIST_KILLS=all $(PYTEST) -n 2 -rP tests/kills

SECONDS_EACH ?= 60

fuzz: setup
	@for target in $$(.venv/bin/python -c 'from tests.fuzz.targets import TARGETS; print(*TARGETS)'); do \
	  echo "$$target"; .venv/bin/python -m tests.fuzz $$target $(SECONDS_EACH) build/fuzz/$$target || exit 1; done

audit:
	@.ci/audit

boot: setup
	FLAGHOIST_BOOT=1 $(PYTEST) -m heavy tests/packaging/test_boot.py

lab: setup
	@.venv/bin/python -m tests.lab $(if $(CUTS),--cuts $(CUTS)) $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json)

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

format: setup
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
