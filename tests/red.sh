#!/usr/bin/env bash
# Shows that the tests listed in tests/red-on-0.1.0.txt fail against version 0.1.0, so each of them tests what it fixed.
#
# Builds that version beside this one, unless ECR_PUSH_PROGRAM names a binary of it. The sandbox is always that of the
# tests. Exits with 1 if a listed test passes or does not exist.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=bde3d74
list=tests/red-on-0.1.0.txt
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

if [ -z "${ECR_PUSH_PROGRAM:-}" ]; then
  old=$target/red-on-0.1.0
  mkdir -p "$old/source"
  git archive "$commit" | tar -x -C "$old/source"
  CARGO_TARGET_DIR=$old/target cargo build --locked --manifest-path "$old/source/Cargo.toml"
  ECR_PUSH_PROGRAM=$old/target/debug/ecr-push
fi
ECR_PUSH_PROGRAM=$(realpath "$ECR_PUSH_PROGRAM")
export ECR_PUSH_PROGRAM

mapfile -t names < <(grep -v '^ *\(#\|$\)' "$list" | sort)
results=$target/red-on-0.1.0.log
cargo test --locked --test suite -- --exact "${names[@]}" >"$results" 2>&1 || true
red=0
wrong=0
for name in "${names[@]}"; do
  if grep -qxF "test $name ... FAILED" "$results"; then
    red=$((red + 1))
  else
    wrong=$((wrong + 1))
    echo "not red: $name ($(grep -m1 -F "test $name ..." "$results" || echo 'no such test'))"
  fi
done
echo "$red of ${#names[@]} tests fail against 0.1.0"
[ "$wrong" = 0 ] || { echo "See $results"; exit 1; }
