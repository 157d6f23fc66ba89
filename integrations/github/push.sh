#!/usr/bin/env bash
# Runs the push. The environment has the inputs ARCHIVE, TARGET and ARGUMENTS, and the options as ECR_PUSH_<OPTION>.
set -euo pipefail

set --
while IFS= read -r argument; do
  [ -z "$argument" ] || set -- "$@" "$argument"
done <<<"$ARGUMENTS"
# Words of TARGET, without file names for `*`.
set -f
# shellcheck disable=SC2086
exec ecr-push "$@" -- "$ARCHIVE" $TARGET
