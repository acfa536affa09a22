# `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help run test check fmt

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

run: ## a demo server on throw-away data
	cargo run --release -- demo

test: ## install what tests need (Debian), then run them all
	tests/setup.sh
	tests/run.sh

check: ## formatting, lints, documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

fmt: ## format the code
	cargo fmt
