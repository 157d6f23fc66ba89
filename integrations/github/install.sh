#!/usr/bin/env bash
# Installs the program into the runner's tool cache, and puts it on the PATH of later steps.
#
# The environment has the inputs VERSION, CHECKSUM and DOWNLOAD_URL, and the variables of the runner. Inputs are checked
# before any of them is printed: a line of the log can be a command.
set -euo pipefail
repository=https://github.com/ecr-push/ecr-push

fail() {
  echo "::error title=ecr-push::$1"
  exit 1
}

[[ $VERSION =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "The input version must be a version such as 1.2.3."
read -r -d '' -a checksums <<<"$CHECKSUM" || true
[ "${#checksums[@]}" -gt 0 ] || fail "The input checksum is missing: set it to the SHA-256 of the binary, from SHA256SUMS of the release."
for checksum in "${checksums[@]}"; do
  [[ $checksum =~ ^[0-9a-f]{64}$ ]] || fail "The input checksum must be the SHA-256 of the binary: 64 digits of 0-9 and a-f."
done
case $RUNNER_OS-$RUNNER_ARCH in
  Linux-X64) target=x86_64-unknown-linux-gnu ;;
  Linux-ARM64) target=aarch64-unknown-linux-gnu ;;
  macOS-X64) target=x86_64-apple-darwin ;;
  macOS-ARM64) target=aarch64-apple-darwin ;;
  Windows-X64) target=x86_64-pc-windows-msvc.exe ;;
  *) fail "There is no binary for $RUNNER_OS on $RUNNER_ARCH." ;;
esac
file=ecr-push-$VERSION-$target

is_expected() {
  local found checksum
  if command -v sha256sum >/dev/null; then found=$(sha256sum "$1"); else found=$(shasum -a 256 "$1"); fi
  # A path with a backslash has a backslash before its checksum.
  found=${found#\\}
  for checksum in "${checksums[@]}"; do
    [ "${found%% *}" != "$checksum" ] || return 0
  done
  return 1
}

folder=$RUNNER_TOOL_CACHE/ecr-push/$VERSION/$RUNNER_ARCH
program=$folder/ecr-push
case $target in *.exe) program=$program.exe ;; esac
if ! { [ -f "$program" ] && is_expected "$program"; }; then
  mkdir -p "$folder"
  new=$(mktemp "$folder/download.XXXXXX")
  trap 'rm -f "$new"' EXIT
  url=${DOWNLOAD_URL:-$repository/releases/download/v$VERSION}
  curl --fail --silent --show-error --location --retry 3 --output "$new" --url "${url%/}/$file" ||
    fail "Cannot download $file."
  is_expected "$new" || fail "$file does not have the expected checksum ${checksums[*]}."
  chmod 755 "$new"
  mv -f "$new" "$program"
fi
echo "$folder" >>"$GITHUB_PATH"
"$program" --version
