# Everything from nothing, with only Python >= 3.11, git and make. `make help` lists what there is.
SHELL := /bin/sh
UV_VERSION := 0.13.9
# One more than there are processors: a test waits for PostgreSQL half of the time.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

# The first Python on PATH that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	command -v $$python >/dev/null 2>&1 || continue; \
	$$python -E -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; \
	done)

.PHONY: help install demo test check web bench clean

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
	.venv/bin/hadolint Dockerfile

web:  ## GraphiQL's files, which need Node.js
	npm ci --prefix web
	npm run --prefix web build

bench: install  ## How fast it is, beside floors and peers; needs wrk
	@.venv/bin/python -m bench $(ARGS)

clean:  ## Forget the environment and what was built; the demo's shop is kept
	rm -rf .venv web/node_modules web/dist

# The marker of a complete environment says where it was made. Without it, after an interrupted install, in a copied
# folder or when its Python is gone, the environment is made anew. uv keeps the lock file and is itself installed into
# the environment that it fills; it never fetches a Python.
ifneq ($(shell cat .venv/installed 2>/dev/null && .venv/bin/python -E -c 'print("runs")' 2>/dev/null),$(shell pwd -P && echo runs))
$(shell rm -f .venv/installed)
endif

# What another project's environment may have set, and would change this one, or have Python compile it every time.
unexport CONDA_PREFIX PIP_PREFIX PIP_TARGET PIP_USER PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH UV_FROZEN UV_LOCKED \
	UV_MANAGED_PYTHON UV_NO_DEV UV_NO_SYNC UV_ONLY_DEV UV_PROJECT UV_PROJECT_ENVIRONMENT UV_PYTHON UV_SYSTEM_PYTHON UV_WORKING_DIRECTORY \
	VIRTUAL_ENV

.venv/installed: pyproject.toml uv.lock Makefile
	@test -n "$(PYTHON)" && "$(PYTHON)" -E -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "stockshift needs Python 3.11 or later on PATH, or make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -f $@ || { rm -rf .venv && "$(PYTHON)" -m venv .venv; } || { \
		rm -rf .venv; echo "$(PYTHON) cannot make environments; on Debian or Ubuntu install python3-venv" >&2; exit 1; }
	@.venv/bin/uv --version 2>/dev/null | grep -q '^uv $(UV_VERSION)' || \
		.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@test -w "$${HOME:-/}" || export UV_NO_CACHE=1; \
		.venv/bin/uv sync --quiet --locked --inexact --no-python-downloads --python .venv/bin/python
	@pwd -P > $@
