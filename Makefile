# Everything from nothing, with only Python >= 3.11, git and make. `make help` lists what there is.
SHELL := /bin/sh
UV_VERSION := 0.13.9
WORKERS ?= auto

# The first Python on PATH that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	command -v $$python >/dev/null 2>&1 || continue; \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; \
	done)

.PHONY: help install demo test check web clean

help:  ## What there is
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: .venv/installed  ## The environment: afterwards .venv/bin/stockshift works

demo: install  ## A shop to try everything on, served on 127.0.0.1:8000
	@.venv/bin/stockshift demo

test: install  ## The whole suite, on a real PostgreSQL
	@.venv/bin/pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: install  ## Format, lint, types, import contracts, dead code, Dockerfile
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/vulture

web:  ## GraphiQL's files, which need Node.js
	npm ci --prefix web
	npm run --prefix web build

clean:  ## Forget the environment and what was built; the demo's shop is kept
	rm -rf .venv web/node_modules web/dist

# uv keeps the lock file and is itself installed into the environment that it fills; it never fetches a Python.
.venv/installed: pyproject.toml uv.lock Makefile
	@test -n "$(PYTHON)" || { echo "stockshift needs Python 3.11 or later on PATH" >&2; exit 1; }
	@.venv/bin/python -c '' 2>/dev/null || { rm -rf .venv && "$(PYTHON)" -m venv .venv; } || { \
		echo "$(PYTHON) cannot make environments; on Debian or Ubuntu install python3-venv" >&2; exit 1; }
	@.venv/bin/uv --version 2>/dev/null | grep -q '^uv $(UV_VERSION)' || \
		.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV= .venv/bin/uv sync --quiet --locked --inexact --no-python-downloads --python .venv/bin/python
	@touch $@
