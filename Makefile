# The two commands: `make boot` and `make test`. Both do all set-up; nothing is written into the tree.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/corral
HERE := $(shell pwd | cksum | cut -d ' ' -f 1)
VENV := $(CACHE)/venv-$(HERE)
ASAN := $(CACHE)/asan-$(HERE)
PYTHON ?= python3
BIN := $(VENV)/bin
SHIM := $(wildcard csrc/*.c csrc/*.h csrc/decl/*.h) csrc/build_ffi.py
export PYTHONPYCACHEPREFIX := $(CACHE)/bytecode
unexport PYTHONDONTWRITEBYTECODE
export RUFF_CACHE_DIR := $(CACHE)/ruff
export MYPY_CACHE_DIR := $(CACHE)/mypy
BASELINE := $(CACHE)/baseline
COMPARE = $(BIN)/corral compare --contenders native,corral --only start,memory-1 --runs 10
PYTEST := $(BIN)/pytest -o cache_dir=$(CACHE)/pytest --durations=8 --durations-min=5

.PHONY: help boot test lint unit guests kvm nested nested-machines nested-hosts sanitize fuzz durability bench baseline venv clean

help:  ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

boot: $(VENV)/ready  ## boot Linux to a shell (the first time: sets up, which takes a few minutes)
	@$(BIN)/corral boot $(ARGS)

# Two at a time: an emulated host keeps little more than a CPU busy. What is quick to fail comes first; of the others,
# which wait for the guests' kernels, those that take longest.
PARTS := lint unit nested-machines kvm nested-hosts durability fuzz sanitize
test:  ## everything that CI runs
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(PARTS)

venv: $(VENV)/ready  ## the Python environment with Corral in it, for work on Corral

$(VENV)/ready: pyproject.toml $(SHIM)
	@command -v gcc >/dev/null || { echo "corral: no gcc; install it: apt-get install gcc" >&2; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "corral: $(PYTHON) cannot make a venv; install it: apt-get install python3-venv" >&2; exit 3; }
	@echo "corral: setting up $(VENV)" >&2
	@echo '#include <liburing.h>' | gcc -E - >/dev/null 2>&1 || \
		{ test "$$(id -u)" = 0 && apt-get -o DPkg::Lock::Timeout=600 install -qq -y liburing-dev >/dev/null 2>&1; } || \
		echo "corral: disks will use threads; for io_uring: apt-get install liburing-dev, then make clean" >&2
	@$(BIN)/pip --quiet --disable-pip-version-check install -e '.[dev]'
	@touch $@

$(ASAN)/_corral_shim.abi3.so: $(VENV)/ready
	@$(BIN)/python csrc/build_ffi.py --into $(ASAN) --sanitize

lint: $(VENV)/ready  ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check src tests benchmarks csrc
	$(BIN)/ruff format --check src tests benchmarks csrc
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror csrc/*.[ch] guests/bare/*.[ch] tests/fuzz/*.c $(wildcard benchmarks/workloads/*.[ch])

unit: $(VENV)/ready  ## tests that need no KVM
	$(PYTEST) tests/unit

guests: $(VENV)/ready  ## the kernels that tests and benchmarks boot, made or fetched into the cache
	@for name in small small-smp stock stock-generic; do $(BIN)/corral kernel path $$name >/dev/null || exit; done

kvm: guests  ## tests on this machine's KVM
	$(PYTEST) tests/kvm

nested: guests  ## tests in an emulated host with hardware KVM
	$(PYTEST) tests/nested

# Halves that take as long as each other, for `make test`.
MACHINES := tests/nested/test_hardware_kvm.py tests/nested/test_distribution.py

nested-machines: guests
	$(PYTEST) $(MACHINES)

nested-hosts: guests
	$(PYTEST) tests/nested $(MACHINES:%=--ignore=%)

# The tests that go through the shim; those of whole Linux guests take too long with it.
sanitize: $(ASAN)/_corral_shim.abi3.so  ## the tests of the shim again, under ASan and UBSan
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$$(gcc -print-file-name=libasan.so) PYTHONPATH=$(ASAN) \
		$(PYTEST) -p no:faulthandler tests/unit/test_*.py tests/unit/blk tests/unit/virtio \
		tests/kvm/test_assist_native.py tests/kvm/test_machine.py tests/kvm/test_boot_protocols.py

# Needs clang: installed where it may be. FUZZ=600 makes it ten minutes.
FUZZ ?= 60
fuzz: $(VENV)/ready  ## fuzz what a guest's driver can do to a disk
	@command -v clang-14 >/dev/null || test "$$(id -u)" != 0 || \
		apt-get -o DPkg::Lock::Timeout=600 install -qq -y clang-14 libclang-rt-14-dev llvm-14 >/dev/null 2>&1 || true
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ)

# CORRAL_DURABILITY=10 looks ten times as hard, CORRAL_SEED repeats a run.
durability: guests  ## power cuts, kills and failing hosts: what a guest has flushed is there
	$(PYTEST) tests/durability

bench: guests  ## measure; see docs/benchmarks.md. After `make baseline`: against that, too
	$(BIN)/python -m benchmarks
	@test ! -e $(BASELINE)/samples.json || $(COMPARE) --out $(CACHE)/compared --check $(BASELINE)/samples.json

baseline: guests  ## what `make bench` compares Corral with; made in the checkout of the last release
	$(COMPARE) --out $(BASELINE)

clean:  ## remove what was built for this checkout
	rm -rf $(VENV) $(ASAN)
