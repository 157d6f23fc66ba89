"""The same calls to the sandbox and to moto: the same exceptions in the same words, and the same members."""

import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

os.environ["MOTO_ACCOUNT_ID"] = "000000000000"
from moto import mock_aws  # noqa: E402, which reads the account when it is imported

ARN = "arn:aws:ecr:us-east-1:000000000000:repository/"
name, absent = {"repositoryName": "same/app"}, {"repositoryName": "same/absent"}
policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage"}]}'
selection = '"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14'
rule = '{"rulePriority": 1, "description": "expire", "selection": {%s}, "action": {"type": "expire"}}' % selection
lifecycle = '{"rules": [%s]}' % rule
image, missing = {"imageId": {"imageTag": "1"}}, {"imageDigest": "sha256:" + "0" * 64}
calls = [
    ("create_repository", {**name, "tags": [{"Key": "a", "Value": "1"}]}),
    ("create_repository", name),
    ("describe_repositories", {"repositoryNames": ["same/app"]}),
    ("describe_repositories", {"repositoryNames": ["same/absent"]}),
    ("list_images", name),
    ("list_images", absent),
    ("describe_images", {**name, "imageIds": [{"imageTag": "1"}]}),
    ("describe_images", {**name, "imageIds": [missing]}),
    ("batch_delete_image", {**name, "imageIds": [{"imageTag": "1"}]}),
    ("batch_get_image", {**name, "imageIds": [{"imageTag": "1"}]}),
    ("get_repository_policy", name),
    ("set_repository_policy", {**name, "policyText": "{"}),
    ("set_repository_policy", {**name, "policyText": policy}),
    ("get_repository_policy", name),
    ("delete_repository_policy", name),
    ("delete_repository_policy", name),
    ("get_lifecycle_policy", name),
    ("put_lifecycle_policy", {**name, "lifecyclePolicyText": lifecycle}),
    ("put_lifecycle_policy", {**name, "lifecyclePolicyText": lifecycle.replace("rules", "rule")}),
    ("put_lifecycle_policy", {**name, "lifecyclePolicyText": lifecycle.replace("rulePriority", "priority")}),
    ("put_lifecycle_policy", {**name, "lifecyclePolicyText": " " * 100}),
    ("get_lifecycle_policy", name),
    ("delete_lifecycle_policy", name),
    ("delete_lifecycle_policy", name),
    ("list_tags_for_resource", {"resourceArn": "invalid"}),
    ("list_tags_for_resource", {"resourceArn": ARN + "same/absent"}),
    ("tag_resource", {"resourceArn": ARN + "same/app", "tags": [{"Key": "b", "Value": "2"}]}),
    ("untag_resource", {"resourceArn": ARN + "same/app", "tagKeys": ["a"]}),
    ("list_tags_for_resource", {"resourceArn": ARN + "same/app"}),
    ("put_image_tag_mutability", {**name, "imageTagMutability": "IMMUTABLE"}),
    ("put_image_tag_mutability", {**name, "imageTagMutability": "SOMETIMES"}),
    ("put_image_scanning_configuration", {**name, "imageScanningConfiguration": {"scanOnPush": True}}),
    ("start_image_scan", {**name, **image}),
    ("describe_image_scan_findings", {**name, **image}),
    ("get_registry_policy", {}),
    ("put_registry_policy", {"policyText": "{"}),
    ("get_registry_policy", {}),
    ("delete_registry_policy", {}),
    ("describe_registry", {}),
    ("get_registry_scanning_configuration", {}),
    ("delete_repository", name),
    ("delete_repository", name),
]


def sorted_set(message):
    """A message in which the values of an enumeration are sorted: AWS has them in no order."""
    start, bracket, rest = message.partition("enum value set: [")
    values, end, after = rest.partition("]")
    return start + bracket + ", ".join(sorted(values.split(", "))) + end + after if bracket else message


def outcomes(client):
    """What each call answers: the exception and its message, or the members of the response."""
    found = []
    for operation, arguments in calls:
        try:
            answer = getattr(client, operation)(**arguments)
            found.append((operation, "", sorted(key for key in answer if key != "ResponseMetadata")))
        except ClientError as error:
            found.append((operation, error.response["Error"]["Code"], sorted_set(error.response["Error"]["Message"])))
    return found


sandbox = outcomes(boto3.client("ecr", config=Config(retries={"total_max_attempts": 1})))
for variable in [variable for variable in os.environ if variable.startswith("AWS_ENDPOINT_URL")]:
    del os.environ[variable]
with mock_aws():
    moto = outcomes(boto3.client("ecr"))
different = [f"{one}\n  moto: {other}" for one, other in zip(sandbox, moto) if one != other]
assert not different, "\n".join(different)
