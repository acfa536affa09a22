# `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help run dist test torture fuzz bench screenshots check fmt

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

run: ## a demo server on throw-away data
	cargo run --release -- demo

dist: ## build target/keyhouse, compiled for what calls do most (half an hour; Debian and rustup)
	benches/dist.sh

test: ## install what tests need (Debian), then run them all
	tests/setup.sh
	tests/run.sh

torture: ## kill servers, stop databases, race edits, at full length (half an hour)
	KEYHOUSE_TORTURE_CYCLES=200 tests/run.sh cargo test --locked --test torture -- --nocapture --test-threads=1

fuzz: ## feed strange bytes to the parsers, a minute each (installs cargo-fuzz)
	cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	for target in sse headers key; do RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=60 || exit 1; done

bench: ## measure what a call costs, and write docs/performance.md (an hour, and `make dist`; PART=json for one part)
	[ -n "$$KEYHOUSE_BIN" ] || benches/dist.sh
	benches/setup.sh
	KEYHOUSE_BIN=$${KEYHOUSE_BIN:-target/keyhouse} cargo bench --locked --bench gateway -- $(PART)

screenshots: ## a picture of every page, light and dark, wide and narrow, into target/screenshots
	tests/setup.sh
	cargo test --locked --test screenshots

check: ## formatting, lints, documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

fmt: ## format the code
	cargo fmt
