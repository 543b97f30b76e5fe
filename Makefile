# What people and CI type. Each target gets what it needs by setup/setup and says at the end where the time went.
#   make demo          set up, build, run an image in a microVM
#   make test          everything that CI runs: test-unit, check, test-system
#   make test-unit     tests of the crates
#   make test-system   whole-system tests: a real registry, images of other tools, real guests
#   make check         format, lints, xtask tidy, licences and advisories
#   make fuzz          looks for inputs that break the parsers: FUZZ_SECONDS (1200) for each target, FUZZ_TARGETS, FUZZ_JOBS
#   make fuzz-merge    adds what it found worth keeping to fuzz/corpus, which the unit tests replay
#   make bench         ratios against the best peers, growth with size, and 200 boots in a row (BENCH_ONLY: parts)
#   make kernel        build the tuned guest kernel and make it the default
#   make build         mvmctl, in target/release
#   make clean         what was built; .cache stays (rm -r .cache takes that too)
MAKEFLAGS += --no-builtin-rules
CARGO := cargo
JOBS := $(shell nproc)
TARGET := $(or $(CARGO_TARGET_DIR),target)
export MVMCTL ?= $(abspath $(TARGET))/release/mvmctl
STEPS := MAKE='$(MAKE)' setup/steps

.PHONY: demo test test-unit test-system check bench kernel build fuzz fuzz-merge clean
demo: ; @$(STEPS) $@ do-setup-demo do-build do-demo
test: ; @$(STEPS) $@ do-setup-test do-unit do-format do-clippy do-tidy do-deny do-build do-system
test-unit: ; @$(STEPS) $@ do-setup-test do-unit
test-system: ; @$(STEPS) $@ do-setup-test do-build do-system
check: ; @$(STEPS) $@ do-setup-build do-format do-clippy do-tidy do-deny
bench: ; @$(STEPS) $@ do-setup-bench do-build do-bench
kernel: ; @$(STEPS) $@ do-setup-kernel do-build do-kernel
build: ; @$(STEPS) $@ do-setup-build do-build

fuzz: ; @$(STEPS) $@ do-setup-fuzz do-fuzz
fuzz-merge: ; @$(STEPS) $@ do-setup-fuzz do-fuzz-merge

clean:
	$(CARGO) clean

.PHONY: do-setup-demo do-setup-test do-setup-bench do-setup-kernel do-setup-build do-setup-fuzz
do-setup-demo: ; @setup/setup build run demo
do-setup-test: ; @setup/setup build run demo test
do-setup-bench: ; @setup/setup build run demo test bench
do-setup-kernel: ; @setup/setup build kernel
do-setup-build: ; @setup/setup build
do-setup-fuzz: ; @setup/setup build fuzz

.PHONY: do-build do-demo do-unit do-system do-format do-clippy do-tidy do-deny do-bench do-kernel do-fuzz do-fuzz-merge
do-build:
	$(CARGO) build --release --locked -p mvmctl

do-demo:
	@examples/demo

do-unit:
	$(CARGO) test --workspace --exclude mvm-tests --locked --quiet

# One package and profile with the unit tests, so that dependencies are compiled once; mvmctl itself is the release one.
do-system:
	$(CARGO) test -p mvm-tests --locked

do-format:
	$(CARGO) fmt --all --check

do-clippy:
	$(CARGO) clippy --workspace --all-targets --locked --quiet -- -D warnings

do-tidy:
	$(CARGO) xtask tidy

do-deny:
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --all-features check; \
	else echo 'SKIP cargo deny: not installed (cargo install --locked cargo-deny)'; fi

do-bench:
	@bench/run

do-kernel:
	$(MVMCTL) kernel build --source .cache/packages/linux-source-6.1/usr/src/linux-source-6.1.tar.xz \
	    --directory .cache/kernel --jobs $(JOBS)

do-fuzz:
	@fuzz/run

do-fuzz-merge:
	@fuzz/run merge
