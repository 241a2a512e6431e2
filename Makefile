# One command each. Every target sets up what it needs; nothing outside this folder is changed, except that
# root's `apt-get install` brings the Debian packages that scripts/system-packages lists.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD ?= build/native
# The folder of the vendor's cftpkie.h; ours, written from the public documents, when empty.
CFTPKIE_INC ?=
CMAKE_FLAGS ?=
PYTEST_ARGS ?=
# The tests start hundreds of processes: each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# What the product and its native part need; the demo needs no more.
# Every package by version and hash (scripts/lock writes the lock files).
$(VENV)/.run: pyproject.toml requirements.lock requirements-build.lock
	scripts/make-venv $(PYTHON) $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock -r requirements-build.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.ready: $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,check]'
	touch $@

.PHONY: setup
setup: $(VENV)/.ready ## the virtual environment with everything that development needs

.PHONY: native
native: $(VENV)/.run ## libcftpkie.so, libcftpki_board.so, libcftpki_ssl.so and cft-hostsim (CFTPKIE_INC=DIR: against the vendor's header)
	scripts/system-packages build
	$(BIN)/cmake -S native -B $(BUILD) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
	  $(if $(CFTPKIE_INC),-DCFTPKIE_INC=$(abspath $(CFTPKIE_INC)),-UCFTPKIE_INC) $(CMAKE_FLAGS) >/dev/null
	$(BIN)/cmake --build $(BUILD)

.PHONY: demo
demo: native ## real handshakes with a small PKI: one partner accepted, one refused 44, one 45, and why (PICTURE=FILE.svg: as a picture)
	scripts/system-packages demo
	$(BIN)/python scripts/demo --build $(BUILD) $(if $(PICTURE),--picture $(PICTURE))

.PHONY: test
test: native $(VENV)/.ready ## every test, against real servers and real TLS peers
	scripts/system-packages test
	scripts/go-tools
	scripts/get-estserver
	scripts/get-openssl
	scripts/get-shared-servers
	PATH="$(CURDIR)/.tools/bin:$$PATH" $(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

.PHONY: check
check: $(VENV)/.ready native ## ruff, mypy, import-linter over product, tests and figures; C warnings as errors, clang-format; links in documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	git ls-files 'native/*.c' 'native/*.h' 'examples/*.c' 'examples/*.h' 'examples/*.cpp' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/python -m cftpki_ext.protocol.codec | diff - native/include/cftpki_wire.h
	$(BIN)/python scripts/check-links

$(VENV)/.docs: $(VENV)/.run
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

.PHONY: docs
docs: $(VENV)/.docs ## the documents as a site with search, in build/site: warnings are errors, nothing from other hosts
	$(BIN)/python scripts/site build/site

.PHONY: bench
bench: native $(VENV)/.ready ## figures, as ratios against a named peer or the same run without us
	$(BIN)/python -m bench.run --build $(BUILD)

.PHONY: deb
deb: package-tools ## a Debian package for this release and its python3, in dist/ (CFTPKIE_INC=DIR: with the exit for Transfer CFT)
	CFTPKIE_INC=$(CFTPKIE_INC) scripts/package deb

.PHONY: rpm
rpm: package-tools ## the same as an RPM package
	CFTPKIE_INC=$(CFTPKIE_INC) scripts/package rpm

.PHONY: package-tools
package-tools: $(VENV)/.run
	scripts/system-packages package
	scripts/go-tools packages

.PHONY: fuzz
fuzz: $(VENV)/.ready ## every parser for FUZZ_SECONDS each (default 60)
	scripts/fuzz $(or $(FUZZ_SECONDS),60)

.PHONY: clean
clean: ## what was built here
	rm -rf build dist $(VENV) .tools .pytest_cache .mypy_cache .ruff_cache .hypothesis
