#!/usr/bin/env bash
# Docker's engine pulls what ecr-push pushed into the sandbox, at the address that the sandbox prints. For .ci/run-all.
#
#   tests/docker-engine.sh [PROGRAM]
#
# Needs root and Debian's docker.io, which is installed where that is possible. The engine has folders and a socket of its own,
# and no network for containers.
set -euo pipefail
cd "$(dirname "$0")/.."

not_run() {
  echo "NOT RUN: $1"
  [ "${CI:-}" != true ] || exit 1
  exit 0
}
has() { command -v "$1" >/dev/null 2>&1; }

[ "$(id -u)" = 0 ] || not_run "dockerd (needs root)"
if ! { has dockerd && has docker; } && has apt-get; then
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends docker.io docker-cli; } >target/docker.log 2>&1 || true
fi
{ has dockerd && has docker && has curl; } || not_run "dockerd (not installed; apt-get install docker.io docker-cli curl)"
if [ -n "${1:-}" ]; then
  program=$1
else
  cargo build --locked --quiet
  program=${CARGO_TARGET_DIR:-$PWD/target}/debug/ecr-push
fi

work=$(mktemp -d)
dockerd --bridge=none --iptables=false --ip6tables=false --storage-driver=vfs --data-root="$work/data" --exec-root="$work/exec" \
  --pidfile="$work/dockerd.pid" --host="unix://$work/docker.sock" >"$work/dockerd.log" 2>&1 &
engine=$!
trap 'kill "$engine" 2>/dev/null; wait "$engine" 2>/dev/null || true; rm -rf "$work"' EXIT
export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/config
for _ in $(seq 300); do
  docker version >/dev/null 2>&1 && break
  kill -0 "$engine" 2>/dev/null || { tail -n 5 "$work/dockerd.log"; not_run "dockerd (does not start here)"; }
  sleep 0.1
done

export PROGRAM=$program
"$program" sandbox --repository team/app -- bash -euo pipefail -c '
  registry=${AWS_ENDPOINT_URL_ECR#http://}
  "$PROGRAM" testdata/docker-29-overlay2-save.tar team/app:1 --region eu-west-1 --quiet
  signed="AWS4-HMAC-SHA256 Credential=sandbox/20261130/eu-west-1/ecr/aws4_request, SignedHeaders=host, Signature=0"
  token=$(curl --silent --show-error --fail "$AWS_ENDPOINT_URL_ECR/" --data "{}" --header "Authorization: $signed" \
    --header "Content-Type: application/x-amz-json-1.1" \
    --header "X-Amz-Target: AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" |
    sed "s/.*\"authorizationToken\":\"\([^\"]*\)\".*/\1/" | base64 --decode)
  docker login --username AWS --password-stdin "$registry" <<<"${token#AWS:}" 2>/dev/null
  docker pull --quiet "$registry/team/app:1"
  docker image inspect --format "{{.Id}}" "$registry/team/app:1"
' | tee "$work/out"
grep --quiet sha256:92c112f97a4b "$work/out"
