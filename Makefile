# Flaghoist: every target sets up what it needs.

PYTEST = .venv/bin/python -m pytest

.PHONY: help setup demo chaos test test-all kills boot lab lint format clean

help:
	@printf '%s\n' \
	  'make demo           a hub and five devices: a good release reaches all, a bad one stops itself' \
	  'make demo KEEP=1    the same, left running; make demo STOP=FOLDER ends it' \
	  'make chaos          a game day: one thing after another is broken, and what was noticed, how fast' \
	  'make test           the tests, under five minutes' \
	  'make test-all       the tests and the heavy part' \
	  'make kills          the agent killed at every system call, and every call failing in every way' \
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
