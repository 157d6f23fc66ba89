"""A repository's whole life: boto3, ecr-push and skopeo against the sandbox. Arguments: ecr-push, an archive, skopeo or ''."""

import base64
import os
import subprocess
import sys
import tempfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError

program, archive, skopeo = sys.argv[1:]
url, retries = os.environ["AWS_ENDPOINT_URL_ECR"], {"total_max_attempts": 1}
ecr = boto3.client("ecr", config=Config(retries=retries))
name = {"repositoryName": "life/app"}


def code(call, **arguments):
    """The name of the exception that a call raises."""
    try:
        call(**arguments)
    except ClientError as error:
        assert error.response["Error"]["Message"], error
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call.__name__} did not fail")


created = ecr.create_repository(**name, tags=[{"Key": "team", "Value": "x"}])["repository"]
assert code(ecr.create_repository, **name) == "RepositoryAlreadyExistsException"
assert created["createdAt"].year > 2020
for tag in ("1", "2"):
    subprocess.run([program, archive, f"life/app:{tag}", "--region", os.environ["AWS_DEFAULT_REGION"]], check=True)

pages = ecr.get_paginator("list_images").paginate(**name, PaginationConfig={"PageSize": 1})
images = [image for page in pages for image in page["imageIds"]]
assert [image["imageTag"] for image in images] == ["1", "2"], images
details = ecr.describe_images(**name, filter={"tagStatus": "TAGGED"})["imageDetails"]
assert len(details) == 1 and details[0]["imageTags"] == ["1", "2"] and details[0]["imageSizeInBytes"] > 0, details
digest = details[0]["imageDigest"]

# An additional tag, as everybody puts it.
image = ecr.batch_get_image(**name, imageIds=[{"imageTag": "1"}])["images"][0]
ecr.put_image(**name, imageManifest=image["imageManifest"], imageTag="stable")
assert code(ecr.put_image, **name, imageManifest=image["imageManifest"], imageTag="stable") == "ImageAlreadyExistsException"
arn = created["repositoryArn"]
ecr.tag_resource(resourceArn=arn, tags=[{"Key": "cost", "Value": "1"}])
ecr.untag_resource(resourceArn=arn, tagKeys=["team"])
assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "cost", "Value": "1"}]

ecr.start_image_scan(**name, imageId={"imageTag": "stable"})
waiter = ecr.get_waiter("image_scan_complete")
waiter.wait(**name, imageId={"imageTag": "stable"}, WaiterConfig={"Delay": 1, "MaxAttempts": 1})
assert ecr.describe_image_scan_findings(**name, imageId={"imageDigest": digest})["imageScanFindings"]["findings"] == []

layer = ecr.batch_check_layer_availability(**name, layerDigests=["sha256:" + "0" * 64])["layers"][0]
assert layer["layerAvailability"] == "UNAVAILABLE", layer
part = ecr.initiate_layer_upload(**name)
ecr.upload_layer_part(**name, uploadId=part["uploadId"], partFirstByte=0, partLastByte=3, layerPartBlob=b"test")
tested = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
assert ecr.complete_layer_upload(**name, uploadId=part["uploadId"], layerDigests=[tested])["layerDigest"] == tested
assert code(ecr.get_download_url_for_layer, **name, layerDigest=tested) == "LayerInaccessibleException"

token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
if skopeo:
    with tempfile.TemporaryDirectory() as folder:
        source = f"docker://{url.split('://')[1]}/life/app:stable"
        login = base64.b64decode(token).decode()
        options = ["--src-tls-verify=false", "--src-creds", login]
        subprocess.run([skopeo, "copy", "--insecure-policy", *options, source, f"dir:{folder}/image"], check=True)
assert ecr.describe_images(**name, imageIds=[{"imageTag": "1"}])["imageDetails"][0]["lastRecordedPullTime"].year > 2020

policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage"}]}'
ecr.set_repository_policy(**name, policyText=policy)
assert ecr.get_repository_policy(**name)["policyText"] == policy
ecr.delete_repository_policy(**name)
assert code(ecr.get_repository_policy, **name) == "RepositoryPolicyNotFoundException"
ecr.put_image_tag_mutability(**name, imageTagMutability="IMMUTABLE")
assert ecr.describe_repositories(repositoryNames=["life/app"])["repositories"][0]["imageTagMutability"] == "IMMUTABLE"
assert ecr.get_account_setting(name="BLOB_MOUNTING")["value"] == "DISABLED"
assert ecr.describe_registry()["replicationConfiguration"] == {"rules": []}

# What botocore refuses by its model, the sandbox refuses by the same.
lax = boto3.client("ecr", config=Config(parameter_validation=False, retries=retries))
for operation, arguments, expected in [
    ("create_repository", {}, "InvalidParameterException"),
    ("create_repository", {"repositoryName": "a"}, "InvalidParameterException"),
    ("create_repository", {**name, "tags": [{"Value": "x"}]}, "InvalidParameterException"),
    ("describe_images", {**name, "maxResults": 0}, "InvalidParameterException"),
    ("batch_delete_image", {**name, "imageIds": []}, "InvalidParameterException"),
    ("put_lifecycle_policy", {**name, "lifecyclePolicyText": "{}"}, "InvalidParameterException"),
]:
    assert code(getattr(lax, operation), **arguments) == expected, operation
    try:
        getattr(ecr, operation)(**arguments)
    except ParamValidationError:
        continue
    raise AssertionError(f"botocore takes {operation} {arguments}")
message = ""
try:
    ecr.start_lifecycle_policy_preview(**name)
except ClientError as error:
    message = str(error)
assert "UnknownOperationException" in message and "docs/sandbox.md" in message, message

assert code(ecr.delete_repository, **name) == "RepositoryNotEmptyException"
deleted = ecr.batch_delete_image(**name, imageIds=[{"imageTag": "1"}, {"imageTag": "3"}])
assert [image["imageTag"] for image in deleted["imageIds"]] == ["1"], deleted
assert deleted["failures"][0]["failureCode"] == "ImageNotFound", deleted
ecr.batch_delete_image(**name, imageIds=[{"imageDigest": digest}])
assert ecr.list_images(**name)["imageIds"] == []
ecr.delete_repository(**name)
assert code(ecr.describe_repositories, repositoryNames=["life/app"]) == "RepositoryNotFoundException"
