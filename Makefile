.POSIX:
# Two commands for everybody: `make demo` shows it, `make test` checks it. Both find out themselves what is missing.

SOURCE = /usr/share
KEEP =
ARGS =

.PHONY: help build demo test lint tests bench mutants clean
.NOTPARALLEL:

help:
	@echo 'make demo [SOURCE=DIR] [KEEP=DIR]  back up DIR (/usr/share), restore it, compare; KEEP leaves both to look at'
	@echo 'make test                          everything that CI checks: lint, demo, tests'
	@echo 'make lint, make tests              parts of it: style; the tests alone'
	@echo 'make build                         bin/lifeboat and bin/lifeboat-agent'
	@echo 'make bench [ARGS=...]              time, bytes, processor seconds and peak memory'
	@echo 'make mutants [ARGS=...]            break the code on purpose, and see the tests notice it (half an hour)'
	@echo 'make clean                         remove bin; what is compiled stays in the cache folder, see CONTRIBUTING.md'

# The programs are copied out of the cache folder. One test target is built with them: then cargo takes the features
# that tests ask for, here and in `tests` alike, and compiles nothing twice.
build:
	@packaging/build/set-up build
	@packaging/build/cargo build --release --locked --workspace --bins --test tidy
	@. packaging/build/environment && install -D -t bin "$$CARGO_TARGET_DIR/release/lifeboat" "$$CARGO_TARGET_DIR/release/lifeboat-agent"

demo: build
	@keep="$(KEEP)" && bin/lifeboat demo $${keep:+--keep "$$keep"} "$(SOURCE)"

test: lint demo tests

lint:
	@packaging/build/set-up build
	@. packaging/build/environment && cargo fmt --all --check
	@packaging/build/cargo clippy --release --locked --workspace --all-targets --quiet -- --deny warnings

tests: build
	@packaging/build/set-up test
	@packaging/build/test

bench: build
	@packaging/build/cargo bench --profile release --locked --package lifeboat-tests --bench whole -- $(ARGS)

mutants:
	@packaging/build/cargo run --release --locked --package lifeboat-tests --example mutants -- $(ARGS)

clean:
	@rm -rf bin
