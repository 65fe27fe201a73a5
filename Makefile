# README's two commands are `make demo` and `make test`; each sets up all that it needs by itself.

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python

.PHONY: demo test test-v2 client-suites soak store-kills fuzz bench check format clean escapes

# PYTHONDONTWRITEBYTECODE would have every start compile our modules anew.
export PYTHONDONTWRITEBYTECODE =

demo: $(VENV)/.demo
	$(PY) -m mdocker.demo

# Two processes with engines of their own: most real tests wait for something. A file stays in one
# of them, and the order of the files as it is, which ends with short ones.
test: $(VENV)/.test check
	sh tests/install-tools
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# As root: tests/real on a pure cgroup v2 kernel, Debian's own, in qemu without KVM.
# V2='tests/real/test_exec.py -k detached' for a part of it, V2='--kernel PACKAGE.deb' for another kernel.
test-v2: $(VENV)/.test
	sh tests/install-tools
	$(PY) -m tests.vm.suite $(V2)

# As root: the known escapes; `make test` runs them, too, but some in one of two ways of starting.
escapes: $(VENV)/.test
	sh tests/install-tools
	MDOCKER_ESCAPES=all $(PY) -m pytest tests/real/escapes tests/real/test_exec_apart.py

# As root. SOAK='--seconds 60 --seed 7' for another length, or to repeat one.
SOAK ?= --seconds 600
soak: $(VENV)/.test
	$(PY) -m tests.soak $(SOAK)

# As root. KILLS='--kills 200 --seed 7' for more, or to repeat some.
store-kills: $(VENV)/.test
	sh tests/install-tools
	$(PY) -m tests.soak.store_kills $(KILLS)

# As root: the clients' own public test suites, fetched through their package registries.
# SUITES='docker-py --record' for one of them, and to write down anew what passes.
client-suites: $(VENV)/.test
	sh tests/install-tools
	$(PY) -m tests.clients.suites $(SUITES)

# As root: what strangers can say to the engine, made up. FUZZ='--minutes 60 --only specification'.
FUZZ ?= --minutes 3
fuzz: $(VENV)/.test
	$(PY) -m pip install -q --disable-pip-version-check -e '.[test,fuzz]'
	$(PY) -m tests.fuzz $(FUZZ)

check: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/.demo
	$(PY) -m bench

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian keeps venv in a package of its own: get it where the first try fails.
$(PY):
	@command -v $(PYTHON) >/dev/null || { apt-get update -q && apt-get install -y -q python3 python3-venv; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); apt-get update -q && apt-get install -y -q python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/.demo: $(PY) pyproject.toml
	$(PY) -m pip install -q --disable-pip-version-check -e .
	$(PY) -m compileall -q mdocker supervisor runtime logs
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PY) -m pip install -q --disable-pip-version-check -e '.[test,check]'
	@touch $@
