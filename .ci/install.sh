#!/bin/sh
# Installs ecr-push @VERSION@ for this machine, if the binary has the checksum that stands here.
#
#   sh install.sh [--to FOLDER] [--from PLACE]
#
# FOLDER is ~/.local/bin by default. PLACE is a URL or a folder with the files of the release:
# @URL@ by default.
set -eu

sums='@SUMS@'

fail() {
  echo "error: $1" >&2
  exit 1
}

checksum() {
  if command -v sha256sum >/dev/null; then sha256sum "$1"
  elif command -v shasum >/dev/null; then shasum -a 256 "$1"
  else openssl dgst -sha256 -r "$1"
  fi | cut -d ' ' -f 1
}

fetch() {
  case $1 in
    http://* | https://*)
      if command -v curl >/dev/null; then curl --fail --silent --show-error --location --output "$2" "$1"
      elif command -v wget >/dev/null; then wget -q -O "$2" "$1"
      else fail "cannot download $1: there is neither curl nor wget"
      fi
      ;;
    *) cp "${1#file://}" "$2" ;;
  esac
}

# One function, so that a download that breaks off runs nothing.
main() {
  to=${HOME:+$HOME/.local/bin}
  from='@URL@'
  while [ $# -gt 0 ]; do
    case $1 in
      --to) to=${2:?--to needs a folder} ;;
      --from) from=${2:?--from needs a URL or a folder} ;;
      *) fail "unknown argument $1: use --to FOLDER or --from PLACE" ;;
    esac
    shift 2
  done
  [ -n "$to" ] || fail "HOME is not set: use --to FOLDER"
  from=${from%/}
  cpu=$(uname -m)
  [ "$cpu" != arm64 ] || cpu=aarch64
  case $(uname -s) in
    Linux) target=$cpu-unknown-linux-gnu ;;
    Darwin) target=$cpu-apple-darwin ;;
    *) fail "install.sh is for Linux and macOS, not for $(uname -s)" ;;
  esac
  file=ecr-push-@VERSION@-$target
  expected=$(printf '%s\n' "$sums" | sed -n "s/^\([0-9a-f]*\)  $file\$/\1/p")
  [ -n "$expected" ] || fail "this release has no binary for $target"

  new=$(mkdir -p "$to" && mktemp "$to/ecr-push.XXXXXX") || fail "cannot write to $to"
  trap 'rm -f "$new"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  fetch "$from/$file" "$new" || fail "cannot fetch $from/$file"
  found=$(checksum "$new")
  [ "$found" = "$expected" ] || fail "$from/$file has the checksum $found, but $expected is expected"
  chmod 755 "$new"
  name=$("$new" --version) || fail "$file does not run on this machine"
  mv "$new" "$to/ecr-push"
  echo "Installed $name as $to/ecr-push"
  case :$PATH: in
    *":$to:"*) ;;
    *) echo "Add $to to the PATH." ;;
  esac
}

main "$@"
