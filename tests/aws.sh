#!/usr/bin/env bash
# The live check: pushes to a real Amazon ECR, asks it what no document says, and prints the answers as a table.
#
#   tests/aws.sh ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY
#
# The repository has to be there, mutable, and one that is not needed: what is put there stays, under tags that begin with
# `live-`. Credentials come from AWS_ACCESS_KEY_ID and its like, or else from the AWS CLI. Needs bash, curl 7.75 or later and
# cargo (or the program itself, in ECR_PUSH). Nothing is asked that could throttle the account: about 60 requests are made.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: tests/aws.sh ACCOUNT.dkr.ecr.REGION.amazonaws.com/REPOSITORY}
host=${target%%/*} name=${target#*/}
[[ $host =~ ^([0-9]{12})\.dkr\.ecr\.([a-z0-9-]+)\.(amazonaws\.(com|com\.cn|eu))$ ]] || {
  echo "$host is no registry of Amazon ECR under its classic name" >&2
  exit 2
}
account=${BASH_REMATCH[1]} region=${BASH_REMATCH[2]} suffix=${BASH_REMATCH[3]}
if [ -z "${AWS_ACCESS_KEY_ID:-}" ] && command -v aws >/dev/null; then
  eval "$(aws configure export-credentials --format env)"
fi
: "${AWS_ACCESS_KEY_ID:?set it, or install the AWS CLI}" "${AWS_SECRET_ACCESS_KEY:?set it}"
if [ -z "${ECR_PUSH:-}" ]; then
  cargo build --release --locked --quiet
  ECR_PUSH=$PWD/target/release/ecr-push
fi
# Where a stand-in plays AWS, as in our own tests, both are it.
registry=${ECR_PUSH_REGISTRY_ENDPOINT:-https://$host}
ecr=${AWS_ENDPOINT_URL_ECR:-https://api.ecr.$region.$suffix}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 077
run=live-$(date +%s)-$$

# Secrets reach curl in files, never as arguments.
{
  printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
  [ -z "${AWS_SESSION_TOKEN:-}" ] || printf 'header = "x-amz-security-token: %s"\n' "$AWS_SESSION_TOKEN"
} >"$work/keys"

# api OPERATION JSON: the answer is in $work/answer, its status on stdout.
api() {
  curl -sS -K "$work/keys" --aws-sigv4 "aws:amz:$region:ecr" -o "$work/answer" -w '%{http_code}' \
    -H 'content-type: application/x-amz-json-1.1' \
    -H "x-amz-target: AmazonEC2ContainerRegistry_V20150921.$1" --data-binary "$2" "$ecr/" || echo "no answer"
}

# ask METHOD PATH-OR-URL [curl's options]: the body is in $work/body, the head in $work/head, the status on stdout.
ask() {
  local method=$1 url=$2
  shift 2
  case $url in http*) ;; *) url=$registry/v2/$name/$url ;; esac
  : >"$work/body"
  : >"$work/head"
  curl -sS -K "$work/login" -X "$method" -D "$work/head" -o "$work/body" -w '%{http_code}' "$@" "$url" 2>"$work/error" ||
    printf ' (%s)' "$(tail -c 120 "$work/error" | tr '\n|' '  ')"
}

# ask HEAD would wait for a body.
look() { ask HEAD "$1" --head "${@:2}"; }

header() { sed -n "s/^$1: *//Ip" "$work/head" | tr -d '\r' | tail -n 1; }
said() { tr -d '\r\n' <"$work/body" | sed 's/|/\\|/g' | cut -c 1-160; }
digest_of() { printf 'sha256:%s' "$(sha256sum "$1" | cut -d ' ' -f 1)"; }
size_of() { wc -c <"$1" | tr -d ' '; }
session() {
  ask POST "${1:-$registry/v2/$name}/blobs/uploads/" >"$work/status" -H 'content-length: 0'
  local at
  at=$(header location)
  case $at in http*) echo "$at" ;; /*) echo "$registry$at" ;; *) echo "$registry/v2/$name/blobs/uploads/$at" ;; esac
}
with() { case $1 in *\?*) echo "$1&$2" ;; *) echo "$1?$2" ;; esac; }
# upload FILE: a blob in one PUT.
upload() { ask PUT "$(with "$(session)" "digest=$(digest_of "$1")")" --data-binary "@$1" -H 'content-type: application/octet-stream'; }
# manifest REFERENCE FILE TYPE
manifest() { ask PUT "manifests/$1" --data-binary "@$2" -H "content-type: $3"; }

row() { printf '| %s | %s |\n' "$1" "$2"; }

echo "# push with the program" >&2
"$ECR_PUSH" testdata/docker-20.10-save.tar "$target:$run" --progress none >"$work/pushed" || {
  echo "The push failed, so nothing is asked." >&2
  exit 1
}
status=$(api GetAuthorizationToken '{}')
token=$(sed -n 's/.*"authorizationToken" *: *"\([^"]*\)".*/\1/p' "$work/answer")
[ -n "$token" ] || { echo "no login: HTTP $status" >&2; exit 3; }
printf 'header = "authorization: Basic %s"\n' "$token" >"$work/login"
: >"$work/ignored"

oci=application/vnd.oci.image.manifest.v1+json
index=application/vnd.oci.image.index.v1+json
printf '{}' >"$work/config"
printf 'layer of %s' "$run" >"$work/layer"
head -c 1048576 /dev/urandom >"$work/small"
head -c 5242880 /dev/urandom >"$work/part"
head -c 10485760 /dev/urandom >"$work/large"
cat "$work/part" "$work/small" >"$work/whole"

# image [CONFIG-EXTRA [MEMBERS [LAYERS]]]: a manifest of the two small blobs, with something more.
image() {
  local layer
  layer='{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"'$(digest_of "$work/layer")'","size":'$(size_of "$work/layer")'}'
  printf '{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%s%s},"layers":[%s]%s,"annotations":{"run":"%s"}}' \
    "$oci" "$(digest_of "$work/config")" "$(size_of "$work/config")" "${1:-}" "${3:-$layer}" "${2:-}" "$run" >"$work/manifest"
}

echo "| question | answer of $(date -u +%Y-%m-%d), $region |"
echo "|---|---|"
row "pushed by the program" "\`$(cut -c 1-120 "$work/pushed")\`"
row "the API's login: status" "$status"

status=$(curl -sS -D "$work/head" -o "$work/body" -w '%{http_code}' "$registry/v2/") || true
row "no login: status, challenge, body" "$status, \`$(header www-authenticate)\`, \`$(said)\`"
version=$(curl -sS -o "$work/ignored" -w '%{http_version}' --http2 -K "$work/login" "$registry/v2/") || true
row "HTTP version that is agreed on" "$version"

at=$(session)
row "POST for a session: status, Location, OCI-Chunk-Min-Length" "$(cat "$work/status"), \`$(header location | sed "s#[0-9a-f-]\{36\}#ID#; s#?.*#?...#")\`, $(header oci-chunk-min-length)"
row "GET on a fresh session" "$(ask GET "$at") \`$(said)\`"
row "a part of 5 MiB: status, Range" "$(ask PATCH "$at" --data-binary "@$work/part" -H 'content-range: 0-5242879' -H 'content-type: application/octet-stream'), $(header range)"
row "GET on a session with a part: status, Range" "$(ask GET "$at"), $(header range)"
row "a part at a wrong offset" "$(ask PATCH "$at" --data-binary "@$work/small" -H 'content-range: 0-1048575' -H 'content-type: application/octet-stream') \`$(said)\`"
row "the right part after that" "$(ask PATCH "$at" --data-binary "@$work/small" -H 'content-range: 5242880-6291455' -H 'content-type: application/octet-stream') \`$(said)\`"
row "closing PUT of both parts" "$(ask PUT "$(with "$at" "digest=$(digest_of "$work/whole")")" -H 'content-length: 0') \`$(said)\`"
row "closing PUT once more" "$(ask PUT "$(with "$at" "digest=$(digest_of "$work/whole")")" -H 'content-length: 0') \`$(said)\`"

at=$(session)
status=$(ask PATCH "$at" --data-binary "@$work/small" -H 'content-range: 0-1048575' -H 'content-type: application/octet-stream')
row "a part of 1 MiB that is not the last: itself, one more, PUT" "$status, $(ask PATCH "$at" --data-binary "@$work/part" -H 'content-range: 1048576-6291455' -H 'content-type: application/octet-stream'), $(ask PUT "$(with "$at" "digest=$(digest_of "$work/whole")")" -H 'content-length: 0') \`$(said)\`"
row "DELETE of that session, GET after it" "$(ask DELETE "$at"), $(ask GET "$at")"

at=$(session)
# A body that is announced and breaks off after about half.
curl -sS -K "$work/login" -X PATCH --limit-rate 2M --max-time 2 -o "$work/ignored" -H 'content-range: 0-10485759' \
  -H 'content-type: application/octet-stream' --data-binary "@$work/large" "$at" 2>"$work/error" || true
row "after a part that was cut: GET on the session" "$(ask GET "$at") $(header range) \`$(said)\`"
row "the same part again" "$(ask PATCH "$at" --data-binary "@$work/large" -H 'content-range: 0-10485759' -H 'content-type: application/octet-stream') \`$(said)\`"
ask DELETE "$at" >"$work/ignored"

: >"$work/empty"
row "a blob of no bytes" "$(upload "$work/empty") \`$(said)\`"
row "a blob in one POST (\`?digest=\`)" "$(ask POST "$(with "blobs/uploads/" "digest=$(digest_of "$work/small")")" --data-binary "@$work/small" -H 'content-type: application/octet-stream') \`$(said)\`"
at=$(session)
row "a sha512 digest" "$(ask PUT "$(with "$at" "digest=sha512:$(sha512sum "$work/small" | cut -d ' ' -f 1)")" --data-binary "@$work/small" -H 'content-type: application/octet-stream') \`$(said)\`"
ask DELETE "$at" >"$work/ignored"
row "a blob with another digest than it has" "$(ask PUT "$(with "$(session)" "digest=$(digest_of "$work/part")")" --data-binary "@$work/layer" -H 'content-type: application/octet-stream') \`$(said)\`"

image
row "a manifest whose layers are missing" "$(manifest "$run-missing" "$work/manifest" "$oci") \`$(said)\`"
printf '{"schemaVersion":2,"mediaType":"%s","manifests":[{"mediaType":"%s","digest":"%s","size":%s}]}' "$index" "$oci" "$(digest_of "$work/manifest")" "$(size_of "$work/manifest")" >"$work/index"
row "an index whose image is missing" "$(manifest "$run-missing" "$work/index" "$index") \`$(said)\`"
upload "$work/config" >"$work/ignored"
upload "$work/layer" >"$work/ignored"
row "a blob that no manifest has yet: HEAD" "$(look "blobs/$(digest_of "$work/layer")")"
row "the same blob once more" "$(upload "$work/layer") \`$(said)\`"
row "a manifest: PUT status, Location, Docker-Content-Digest" "$(manifest "$run-plain" "$work/manifest" "$oci"), \`$(header location)\`, \`$(header docker-content-digest | cut -c 1-19)\`"
row "the same manifest under the same tag" "$(manifest "$run-plain" "$work/manifest" "$oci") \`$(said)\`"
row "HEAD by tag: Docker-Content-Digest" "$(look "manifests/$run-plain" -H "accept: $oci"), \`$(header docker-content-digest | cut -c 1-19)\`"
row "GET by tag: Docker-Content-Digest" "$(ask GET "manifests/$run-plain" -H "accept: $oci"), \`$(header docker-content-digest | cut -c 1-19)\`"
row "GET of a layer: status" "$(ask GET "blobs/$(digest_of "$work/layer")")"
row "a tag with +" "$(manifest "$run%2B1" "$work/manifest" "$oci") \`$(said)\`"
row "referrers: status" "$(ask GET "referrers/$(digest_of "$work/manifest")")"
cp "$work/manifest" "$work/plain"

subject='{"mediaType":"'$oci'","digest":"'$(digest_of "$work/plain")'","size":'$(size_of "$work/plain")
image ',"platform":{"os":"linux","architecture":"amd64"}'
row "\`platform\` in the config's descriptor" "$(manifest "$run-a" "$work/manifest" "$oci") \`$(said)\`"
image ',"annotations":{"a":"b"}'
row "\`annotations\` in the config's descriptor" "$(manifest "$run-b" "$work/manifest" "$oci") \`$(said)\`"
image ',"data":"e30="'
row "\`data\` in the config's descriptor" "$(manifest "$run-c" "$work/manifest" "$oci") \`$(said)\`"
image '' ",\"subject\":$subject}"
row "\`subject\`" "$(manifest "$run-d" "$work/manifest" "$oci") OCI-Subject: \`$(header oci-subject | cut -c 1-19)\` \`$(said)\`"
image '' ",\"subject\":$subject,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}"
row "\`platform\` in \`subject\`" "$(manifest "$run-e" "$work/manifest" "$oci") \`$(said)\`"
image '' ',"unknown":1'
row "an unknown member" "$(manifest "$run-f" "$work/manifest" "$oci") \`$(said)\`"
printf '{"schemaVersion":2,"mediaType":"%s","manifests":[{"mediaType":"%s","digest":"%s","size":%s,"platform":{"os":"linux","architecture":"amd64","features":["sse4"]}}]}' "$index" "$oci" "$(digest_of "$work/plain")" "$(size_of "$work/plain")" >"$work/index"
row "\`platform.features\` in an index" "$(manifest "$run-g" "$work/index" "$index") \`$(said)\`"
image
row "a media type with parameters" "$(manifest "$run-h" "$work/manifest" "$oci; charset=utf-8") \`$(said)\`"
one='{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"'$(digest_of "$work/layer")'","size":'$(size_of "$work/layer")'}'
image '' '' "$(printf "$one,%.0s" {1..127})$one"
row "128 layers" "$(manifest "$run-i" "$work/manifest" "$oci") \`$(said)\`"

absent=$registry/v2/$name-that-is-not-there
row "POST for a session in a repository that is not there" "$(ask POST "$absent/blobs/uploads/" -H 'content-length: 0') \`$(said)\`"
row "HEAD of a blob there, GET of a manifest there" "$(look "$absent/blobs/$(digest_of "$work/layer")"), $(ask GET "$absent/manifests/1") \`$(said)\`"
row "BatchCheckLayerAvailability of a layer that is there" "$(api BatchCheckLayerAvailability "{\"registryId\":\"$account\",\"repositoryName\":\"$name\",\"layerDigests\":[\"$(digest_of "$work/layer")\"]}") \`$(grep -o '"layerAvailability":"[A-Z]*"' "$work/answer" || true)\`"

cat <<END

Not asked, since it takes days, another account or harm: how long an idle session and a blob without a manifest live,
Retry-After on 429, what create-on-push asks of the pusher, layers that are ARCHIVED.

To clean up, look for the tags that begin with $run:
  aws ecr list-images --registry-id $account --region $region --repository-name $name --query "imageIds[?starts_with(imageTag||'', '$run')]"
END
