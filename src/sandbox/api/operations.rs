//! The operations that the sandbox implements.

use super::call::Handler;
use super::exception::Exception;
use super::{account, images, layers, model, policies, public, repositories, scans, templates};

/// Those of Amazon ECR, sorted.
pub(super) const PRIVATE: &[(&str, Handler)] = &[
    ("BatchCheckLayerAvailability", layers::check),
    ("BatchDeleteImage", images::batch_delete),
    ("BatchGetImage", images::batch_get),
    ("CompleteLayerUpload", layers::complete),
    ("CreateRepository", repositories::create),
    ("CreateRepositoryCreationTemplate", templates::create),
    ("DeleteLifecyclePolicy", |call| policies::LIFECYCLE.delete(call)),
    ("DeleteRegistryPolicy", account::delete_policy),
    ("DeleteRepository", repositories::delete),
    ("DeleteRepositoryCreationTemplate", templates::delete),
    ("DeleteRepositoryPolicy", |call| policies::REPOSITORY.delete(call)),
    ("DescribeImageScanFindings", scans::findings),
    ("DescribeImages", images::describe),
    ("DescribeRegistry", account::describe),
    ("DescribeRepositories", repositories::describe),
    ("DescribeRepositoryCreationTemplates", templates::describe),
    ("GetAccountSetting", account::get_setting),
    ("GetAuthorizationToken", account::get_authorization_token),
    ("GetDownloadUrlForLayer", layers::download_url),
    ("GetLifecyclePolicy", |call| policies::LIFECYCLE.get(call)),
    ("GetRegistryPolicy", account::get_policy),
    ("GetRegistryScanningConfiguration", scans::registry),
    ("GetRepositoryPolicy", |call| policies::REPOSITORY.get(call)),
    ("InitiateLayerUpload", layers::initiate),
    ("ListImageReferrers", images::referrers),
    ("ListImages", images::list),
    ("ListTagsForResource", repositories::list_tags),
    ("PutAccountSetting", account::put_setting),
    ("PutImage", images::put),
    ("PutImageScanningConfiguration", scans::configure),
    ("PutImageTagMutability", repositories::put_mutability),
    ("PutLifecyclePolicy", |call| policies::LIFECYCLE.put(call)),
    ("PutRegistryPolicy", account::put_policy),
    ("SetRepositoryPolicy", |call| policies::REPOSITORY.put(call)),
    ("StartImageScan", scans::start),
    ("TagResource", repositories::tag),
    ("UntagResource", repositories::untag),
    ("UpdateImageStorageClass", images::update_storage_class),
    ("UpdateRepositoryCreationTemplate", templates::update),
    ("UploadLayerPart", layers::upload),
];

/// Those of ECR Public, sorted.
pub(super) const PUBLIC: &[(&str, Handler)] = &[
    ("BatchDeleteImage", public::batch_delete),
    ("CreateRepository", public::create),
    ("DeleteRepository", public::delete),
    ("DescribeImages", public::describe_images),
    ("DescribeRegistries", public::describe_registries),
    ("DescribeRepositories", public::describe_repositories),
    ("GetAuthorizationToken", public::get_authorization_token),
];

/// Returns the handler of an operation.
pub(super) fn handler(service: &str, name: &str) -> Result<Handler, Exception> {
    let table = if service == "ecr" { PRIVATE } else { PUBLIC };
    let found = table.iter().find(|(known, _)| *known == name);
    found.map(|(_, handler)| *handler).ok_or_else(|| {
        let message = if model::service(service).operations.contains_key(name) {
            format!("the sandbox does not implement {name}; it implements: docs/sandbox.md")
        } else {
            format!("{name} is not an operation of {service}")
        };
        Exception::new("UnknownOperationException", message)
    })
}
