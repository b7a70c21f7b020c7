# The project's commands. `make up` and `make test` do all set-up on a fresh Debian 12 with Rust.
SHELL := /bin/bash
ZORYA_HOME ?= $(HOME)/.zorya
BIN := target/release/zorya
SEED ?=
ROUNDS ?= 3
ENGINE ?= postgres
FAULT ?=
MINUTES ?= 10
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

QUICK ?=
.PHONY: up down deps build test check fix bench bench-redo chaos soak reference exercisers fuzz suites verify-redo verify-redo-mutants \
  verify-redo-17 verify-redo-17-mutants other-servers fresh

deps: ## installs what the build and the engines need
	scripts/install-dependencies

build: deps
	cargo build --release -p zorya

up: build ## a local region with one PostgreSQL cluster; prints how to connect
	$(BIN) up --detach --home "$(ZORYA_HOME)"

down:
	$(BIN) down --home "$(ZORYA_HOME)"

check: deps ## what CI checks before it tests: never writes
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fix:
	cargo fmt --all
	cargo clippy --workspace --all-targets --fix --allow-dirty

test: check build ## every test
	scripts/run-tests

bench: build ## the region against the stock engines, interleaved, as JSON; then redo
	scripts/install-dependencies sysbench
	$(BIN) bench --output json
	$(MAKE) bench-redo >&2

REDO_LOG := $(CURDIR)/target/redo-log/pgbench
bench-redo: deps ## decoding and redo of a real server's log, on one core
	[ -e "$(REDO_LOG)/from" ] || scripts/postgres-log pgbench "$(REDO_LOG)"
	ZORYA_REDO_LOG="$(REDO_LOG)" cargo bench -p zorya-redo --bench redo

chaos: build ## real processes under faults, with a ledger of acknowledged commits: ENGINE=postgres|mariadb SEED=… ROUNDS=… FAULT=…
	cargo build --release -p zorya-chaos
	$(SUDO) target/release/zorya-chaos --zorya $(BIN) --engine $(ENGINE) --rounds $(ROUNDS) \
		$(if $(SEED),--seed $(SEED)) $(if $(FAULT),--fault $(FAULT))

soak: ## the simulation, for hours: MINUTES=…
	cargo run --release -p zorya-sim -- --minutes $(MINUTES)

reference: deps ## the mount against a plain directory, with crashes at any record, as JSON: MINUTES=… SEED=…
	ZORYA_REFERENCE_MINUTES=$(MINUTES) $(if $(SEED),ZORYA_REFERENCE_SEED=$(SEED)) \
	  cargo test --release -p zorya-volume --test against_reference -- --ignored --nocapture --exact random_operations_for_minutes

exercisers: build ## fsx, fio, stress-ng and pjdfstest on a mounted volume
	$(SUDO) scripts/file-system-exercisers

fuzz: deps ## every decoder, and every family of redo, with random input: MINUTES=… for each
	ZORYA_FUZZ_MINUTES=$(MINUTES) cargo test --release -p zorya-wire --test decoders fuzz_ -- --ignored --nocapture
	PROPTEST_CASES=$$(($(MINUTES) * 100000)) cargo test --release -p zorya-redo -p zorya-pages --lib panic
	scripts/fuzz-redo $(MINUTES)

suites: build ## the engines' own suites on a volume and on the disk, compared; some hours: see docs/suites.md
	cargo build --release -p zorya-suites
	$(SUDO) scripts/engine-suites postgres
	$(SUDO) scripts/engine-suites mariadb
	scripts/engine-suites report

verify-redo: deps ## our redo against PostgreSQL's own images of every changed block: QUICK=1 for the short form
	cargo build --release -p zorya-verify-redo
	scripts/verify-redo $(if $(QUICK),--quick)

verify-redo-17: deps ## the same with PostgreSQL 17, in a root of Debian's next release: QUICK=1 for the short form
	cargo build --release -p zorya-verify-redo
	scripts/verify-redo --major 17 $(if $(QUICK),--quick)

verify-redo-17-mutants: deps
	cargo build --release -p zorya-verify-redo
	scripts/verify-redo --major 17 --quick --plant

verify-redo-mutants: deps ## the same with bugs planted into every handler, each of which must be noticed
	cargo build --release -p zorya-verify-redo
	scripts/verify-redo --quick --plant

other-servers: build ## PostgreSQL 17 and MariaDB 11.8, from the next Debian release, in a region
	$(SUDO) --preserve-env=PATH,HOME scripts/other-servers

fresh: ## both commands in a fresh Debian 12 root
	scripts/fresh-debian
