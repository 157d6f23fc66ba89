#!/usr/bin/env bash
# Builds the extension of Azure DevOps: the task, with programs of a release in it.
#
#   integrations/azure/package.sh FOLDER [PLATFORM=PROGRAM...]
#
# Writes a .vsix into FOLDER. PLATFORM is linux-x64, linux-arm64, darwin-x64, darwin-arm64 or win32-x64, as Node.js names them.
# Without a program, the task uses one in the agent's tool cache or on PATH. TFX is the command of tfx-cli [default: tfx].
set -euo pipefail
folder=$(realpath -m "$1")
shift
cd "$(dirname "$0")"

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r EcrPush images overview.md vss-extension.json ../../LICENSE "$stage"
for program in "$@"; do
  platform=${program%%=*}
  case $platform in
    win32-*) file=ecr-push.exe ;;
    *) file=ecr-push ;;
  esac
  install -D -m 755 "${program#*=}" "$stage/EcrPush/bin/$platform/$file"
done
mkdir -p "$folder"
# tfx-cli takes the name of a folder with a period for that of a file.
cd "$folder"
# shellcheck disable=SC2086 # TFX may have arguments.
${TFX:-tfx} extension create --root "$stage" --manifest-globs vss-extension.json --no-prompt --no-color
