#!/usr/bin/env bash
# Runs every test. Needs cargo, a C compiler and crates.io; nothing else.
#
# Second opinions (docker-registry, skopeo, chromium, qemu and busybox from Debian, moto, awscli and check-jsonschema from PyPI)
# are installed where that is possible. What could not be had is listed at the end as NOT RUN, and is a failure where CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target"

has() { command -v "$1" >/dev/null 2>&1; }

if ! { has docker-registry && has skopeo && has curl; } && has apt-get && [ "$(id -u)" = 0 ]; then
  echo "Installing docker-registry, skopeo and curl"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends docker-registry skopeo curl; } \
    >"$target/apt.log" 2>&1 || echo "That did not work; see $target/apt.log"
fi
if ! has chromium && has apt-get && [ "$(id -u)" = 0 ]; then
  echo "Installing chromium"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
    >"$target/chromium.log" 2>&1 || echo "That did not work; see $target/chromium.log"
fi
if [ "$(uname -m)" = x86_64 ] && ! has qemu-x86_64 && has apt-get && [ "$(id -u)" = 0 ]; then
  echo "Installing qemu-user"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends qemu-user; } \
    >"$target/qemu.log" 2>&1 || echo "That did not work; see $target/qemu.log"
fi
if [ ! -x "$target/moto/bin/moto_server" ] && has python3; then
  echo "Installing moto"
  { python3 -m venv "$target/moto" && "$target/moto/bin/pip" install --quiet 'moto[server]>=5,<6'; } \
    >"$target/moto.log" 2>&1 || echo "That did not work; see $target/moto.log"
fi
if [ ! -x "$target/awscli/bin/aws" ] && has python3; then
  echo "Installing the AWS CLI"
  { python3 -m venv "$target/awscli" && "$target/awscli/bin/pip" install --quiet 'awscli>=1.40,<2'; } \
    >"$target/awscli.log" 2>&1 || echo "That did not work; see $target/awscli.log"
fi

if [ ! -x "$target/check-jsonschema/bin/check-jsonschema" ] && has python3; then
  echo "Installing check-jsonschema"
  { python3 -m venv "$target/check-jsonschema" && "$target/check-jsonschema/bin/pip" install --quiet 'check-jsonschema>=0.39,<1'; } \
    >"$target/check-jsonschema.log" 2>&1 || echo "That did not work; see $target/check-jsonschema.log"
fi
if has apt-get && ECR_PUSH_BUSYBOX=$(.ci/busybox "$(uname -m)-unknown-linux-gnu" 2>"$target/busybox.log"); then
  export ECR_PUSH_BUSYBOX
fi

# Tests write a line here for each second opinion that they had to do without.
export ECR_PUSH_NOT_RUN="$target/not-run.txt"
: >"$ECR_PUSH_NOT_RUN"
export ECR_PUSH_CHECK_JSONSCHEMA="$target/check-jsonschema/bin/check-jsonschema"
export ECR_PUSH_MOTO="$target/moto/bin/moto_server"
export ECR_PUSH_AWS_CLI="$target/awscli/bin/aws"

# What is shipped is what gets tested, and it is the only optimised build: two would take twice the time.
first=(cargo run --release --locked --quiet --)
if [ "$(uname -s)" = Linux ]; then
  echo "Building the static binary, some six minutes of CPU"
  if static=$(.ci/static "$(uname -m)-unknown-linux-gnu" 2>"$target/static.log"); then
    ECR_PUSH_STATIC=$(realpath "$static")
    export ECR_PUSH_STATIC
    first=("$ECR_PUSH_STATIC")
  else
    echo "That did not work; see $target/static.log"
  fi
fi

cargo test --locked "$@"

echo
echo "The README's quick start:"
env -u ECR_PUSH_AWS_CLI -u ECR_PUSH_BUSYBOX -u ECR_PUSH_CHECK_JSONSCHEMA -u ECR_PUSH_MOTO -u ECR_PUSH_NOT_RUN -u ECR_PUSH_STATIC "${first[@]}" --sandbox testdata/docker-29-overlay2-save.tar demo/app:1

echo
if [ -s "$ECR_PUSH_NOT_RUN" ]; then
  sort -u "$ECR_PUSH_NOT_RUN"
  [ "${CI:-}" != true ] || { echo "With CI=true everything must run."; exit 1; }
fi
