#!/usr/bin/env bash
# Builds target/keyhouse, what is installed where many calls come: compiled so that it counts what it does, run under the load
# of the bench, and compiled again for what the counts say (profile-guided optimisation). Half an hour on two cores, 3 GB
# of disk beside the bench's; a second time only what changed. Needs rustup, and what benches/setup.sh installs.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "$*" >&2; }
host=$(rustc -vV | sed -n 's/^host: //p')
profdata=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
if [ ! -x "$profdata" ]; then
    say "Installing rustup's llvm-tools …"
    rustup component add llvm-tools >&2 ||
        { say "Please install llvm-tools for $(rustc -V), or be content with: cargo build --profile dist"; exit 1; }
fi
benches/setup.sh

# Both times by the same profile, or functions are called differently and no count finds its own.
counts=$PWD/target/counts
counting=target/counting/$host/dist/keyhouse
say "1 of 3: compiling Keyhouse with counters …"
RUSTFLAGS="-Cprofile-generate=$counts/raw" cargo build --locked --bin keyhouse --profile dist \
    --target "$host" --target-dir target/counting

if [ ! -e "$counts/profile" ] || [ "$counting" -nt "$counts/profile" ]; then
    say "2 of 3: compiling the bench, and counting under its load …"
    rm -rf "$counts"
    KEYHOUSE_BIN=$counting cargo bench --locked --bench gateway -- train
    "$profdata" merge --output="$counts/merged" "$counts"/raw/*.profraw
    # Named by what is in it: all that it optimises is compiled again where it differs, and nothing where not.
    mv "$counts/merged" "$counts/$(sha256sum "$counts/merged" | cut -c1-16).profdata"
    touch "$counts/profile"
fi

say "3 of 3: compiling Keyhouse for what was counted …"
RUSTFLAGS="-Cprofile-use=$(echo "$counts"/*.profdata)" cargo build --locked --bin keyhouse --profile dist \
    --target "$host" --target-dir target/counted
install "target/counted/$host/dist/keyhouse" target/keyhouse
say "Built target/keyhouse. To install it: sudo install target/keyhouse /usr/local/bin/"
