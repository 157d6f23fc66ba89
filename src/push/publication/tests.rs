use super::super::fixtures::{
    digest, layer, layout_image, manifest, original, remote_image, saved_image, stated_layer, stored,
};
use super::*;
use crate::archive::{Child, Index, IndexOrigin, Provenance, Role};
use crate::registry::RemoteManifest;

/// What is put, as words.
fn words(publication: &Publication) -> Vec<String> {
    let root = publication.root.digest;
    let steps = publication.steps.iter().map(|step| match step {
        Step::Manifest(manifest, _) if manifest.digest == root => "root".to_owned(),
        Step::Manifest(..) => "manifest".to_owned(),
        Step::Referrer(tag, _) => format!("referrer {tag}"),
        Step::Tag(tag, None) => format!("tag {tag}"),
        Step::Tag(tag, Some(_)) => format!("move {tag}"),
        Step::Leave(outcome) => format!("leave {} {:?}", outcome.tag, outcome.state),
    });
    steps.collect()
}

struct Case {
    image: Image,
    images: Vec<RemoteImage>,
    tags: Vec<Tag>,
    lookup: TagLookup,
    plan: TagPlan,
}

impl Case {
    fn of(image: Image, tags: &[&str]) -> Self {
        let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        Self { image, images: Vec::new(), tags, lookup: TagLookup::default(), plan: TagPlan::default() }
    }

    fn publication(&self) -> Result<Publication> {
        let facts = Facts {
            image: &self.image,
            compression: CompressionPolicy::default(),
            images: &self.images,
            name: "registry.example/team/app",
            tags: &self.tags,
            lookup: &self.lookup,
            plan: &self.plan,
            is_verbatim: self.image.content.original().is_some(),
        };
        publication(&facts, &|id| match id {
            LayerId::Plain(it) if *it == super::super::fixtures::diff_id(99) => {
                Err(Error::new(Kind::Refused, "a layer did not arrive"))
            }
            LayerId::Stated(digest) => Ok(Stored { digest: *digest, ..stored(1, 9) }),
            _ => Ok(stored(40, 9)),
        })
    }

    fn words(&self) -> Vec<String> {
        words(&self.publication().unwrap())
    }

    fn found(mut self, tag: &str, digest: Digest) -> Self {
        let root =
            RemoteManifest { bytes: bytes::Bytes::new(), digest, media_type: String::new(), stated_digest: None };
        self.lookup.found.push((tag.parse().unwrap(), root));
        self
    }
}

fn referrer(tag: Option<&str>, n: u8) -> Referrer {
    let mut manifest = manifest(vec![stated_layer(n)], Provenance::Referrer);
    manifest.original = Some(original(&format!("{{\"schemaVersion\":2,\"referrer\":{n}}}")));
    let content = Content::Manifest(Box::new(manifest));
    Referrer { subject: digest(1), names: Vec::new(), tag: tag.map(|tag| tag.parse().unwrap()), content }
}

#[test]
fn tags_are_last_and_in_their_order() {
    assert_eq!(Case::of(saved_image(vec![layer(1)]), &["b", "a"]).words(), ["tag b", "tag a"]);
}

#[test]
fn children_come_before_their_index_and_each_once() {
    let child = |n| Child { role: Role::Image(None), content: layout_image(vec![stated_layer(n)]).content };
    let listed = [child(1), child(2), child(1)];
    let digests: Vec<_> = listed.iter().map(|child| child.content.original().unwrap().digest.to_string()).collect();
    let text = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": digests.iter().map(|digest| serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 7,
        })).collect::<Vec<_>>(),
    });
    let index = Index {
        original: original(&text.to_string()),
        origin: IndexOrigin::Stated,
        repaired: None,
        children: listed.into(),
        absent: Vec::new(),
    };
    let case = Case::of(Image::new(Vec::new(), Content::Index(Box::new(index))), &["1"]);
    assert_eq!(case.words(), ["manifest", "manifest", "tag 1"]);
}

#[test]
fn referrers_come_after_the_root_and_before_its_tags() {
    let mut image = layout_image(vec![stated_layer(1)]);
    image.referrers = vec![referrer(None, 2), referrer(Some("sha256-ab.sig"), 3)];
    assert_eq!(Case::of(image, &["1"]).words(), ["root", "manifest", "referrer sha256-ab.sig", "tag 1"]);
}

#[test]
fn a_tag_that_points_at_the_image_stays_and_one_that_points_elsewhere_moves() {
    let image = layout_image(vec![stated_layer(1)]);
    let root = image.content.original().unwrap().digest;
    let case = Case::of(image, &["new", "there", "other"]).found("there", root).found("other", digest(9));
    assert_eq!(case.words(), ["tag new", "leave there There", "move other"]);
}

#[test]
fn a_tag_that_was_decided_to_stay_stays() {
    let mut case = Case::of(saved_image(vec![layer(1)]), &["1", "2"]).found("1", digest(9));
    let unchanged = TagOutcome {
        tag: "1".parse().unwrap(),
        digest: digest(9),
        media_type: String::new(),
        size: 0,
        state: TagState::Same,
    };
    case.plan.unchanged.push(unchanged);
    assert_eq!(case.words(), ["leave 1 Same", "tag 2"]);
}

#[test]
fn an_archived_image_is_restored_by_the_same_and_replaced_by_no_other() {
    let image = layout_image(vec![stated_layer(1)]);
    let root = image.content.original().unwrap().digest;
    for (archived, is_same) in [(root, true), (digest(9), false)] {
        let mut case = Case::of(image.clone(), &["1"]);
        let there = RemoteManifest {
            bytes: bytes::Bytes::new(),
            digest: archived,
            media_type: String::new(),
            stated_digest: None,
        };
        case.lookup.archived.push(("1".parse().unwrap(), there));
        // What is not archived, or may move, is not checked here.
        assert_eq!(case.words(), ["tag 1"]);
        case.plan.must_match.push(("1".parse().unwrap(), archived));
        match case.publication() {
            Ok(publication) => assert!(is_same && words(&publication) == ["tag 1"]),
            Err(error) => assert!(!is_same && error.stable_code() == Code::TagImmutable, "{error}"),
        }
    }
}

#[test]
fn the_manifest_that_the_repository_holds_of_the_same_layers_is_put_again() {
    let image = saved_image(vec![layer(1)]);
    let config = image.manifests()[0].config.digest;
    let mut case = Case::of(image, &["1"]);
    let made = case.publication().unwrap().root.digest;
    let held = remote_image(config, &[(1, 40)]);
    let digest_of_held = held.manifest.digest;
    case.images = vec![held];
    assert_eq!(case.publication().unwrap().root.digest, digest_of_held);
    // Of other layers, or with another config, it is another image.
    for other in [remote_image(config, &[(1, 41)]), remote_image(digest(8), &[(1, 40)])] {
        case.images = vec![other];
        assert_eq!(case.publication().unwrap().root.digest, made);
    }
}

#[test]
fn nothing_is_put_of_an_image_whose_layer_did_not_arrive() {
    assert!(Case::of(saved_image(vec![layer(1), layer(99)]), &["1"]).publication().is_err());
}

#[test]
fn everything_is_there_below_a_root_that_a_tag_points_at_except_referrers() {
    let mut image = layout_image(vec![stated_layer(1)]);
    let root = image.content.original().unwrap().digest;
    let case = Case::of(image.clone(), &["1", "2"]).found("1", root);
    assert_eq!(case.words(), ["leave 1 There", "tag 2"]);
    image.referrers = vec![referrer(None, 2)];
    let case = Case::of(image, &["1"]).found("1", root);
    assert_eq!(case.words(), ["root", "manifest", "leave 1 There"]);
}

#[test]
fn a_digest_that_changes_is_noted() {
    let image = layout_image(vec![stated_layer(1)]);
    let root = image.content.original().unwrap().clone();
    assert_eq!(note_of_change(&image, &root), None);
    let note = note_of_change(&image, &original("{}")).unwrap();
    assert!(note.starts_with("uncompressed layers were compressed, so the manifest "), "{note}");
    assert_eq!(note_of_change(&saved_image(vec![layer(1)]), &root), None);
}
