use super::super::fixtures::{
    diff_id, digest, layer, layout_image, planned, remote_image, saved_image, stated_layer, stored,
};
use super::*;
use crate::compress::GzipEncoder;

fn blobs(known: &[(u8, Option<u64>)]) -> Blobs {
    known.iter().map(|(n, size)| (digest(*n), *size)).collect()
}

#[test]
fn a_blob_replaces_a_layer_only_if_its_size_is_right() {
    let candidates = [(1, Evidence::Cached), (2, Evidence::RemoteImage)];
    let layer = planned(layer(7), &candidates);
    let reuse = |n| LayerAction::Reuse(Candidate { stored: stored(n, 9), why: candidates[usize::from(n) - 1].1 });
    for (known, expected) in [
        (&[][..], LayerAction::Upload),
        (&[(1, Some(9))][..], reuse(1)),
        // Another size, so it is another blob.
        (&[(1, Some(8))][..], LayerAction::Upload),
        (&[(1, Some(8)), (2, Some(9))][..], reuse(2)),
        // The best candidate is first.
        (&[(2, Some(9)), (1, Some(9))][..], reuse(1)),
        // No size is as good, where the evidence is.
        (&[(1, None)][..], reuse(1)),
        (&[(3, Some(9))][..], LayerAction::Upload),
    ] {
        assert_eq!(decide_layer(&layer, &blobs(known)), expected, "{known:?}");
    }
}

#[test]
fn a_file_name_is_no_evidence_without_a_size() {
    let layer = planned(layer(7), &[(1, Evidence::Named)]);
    assert_eq!(decide_layer(&layer, &blobs(&[(1, None)])), LayerAction::Upload);
    assert!(matches!(decide_layer(&layer, &blobs(&[(1, Some(9))])), LayerAction::Reuse(_)));
}

#[test]
fn layers_stand_once_and_the_largest_first() {
    let image = saved_image(vec![layer(1), layer(3), layer(1), layer(2)]);
    let layers = layers(&image, &LayerCache::default(), CompressionPolicy::default());
    let ids: Vec<LayerId> = layers.iter().map(|layer| layer.id).collect();
    assert_eq!(ids, [3, 2, 1].map(|n| LayerId::Plain(diff_id(n))));
    assert!(layers.iter().all(|layer| matches!(layer.spec, CompressionSpec::Gzip(_)) && layer.candidates.is_empty()));
}

#[test]
fn a_stated_digest_is_the_only_candidate() {
    let image = layout_image(vec![stated_layer(1)]);
    let layers = layers(&image, &LayerCache::default(), CompressionPolicy::default());
    let [layer] = &layers[..] else { panic!("{layers:?}") };
    assert!(layer.is_verbatim() && layer.id == LayerId::Stated(digest(1)));
    assert_eq!(
        layer.candidates.iter().map(|it| (it.stored.digest, it.why)).collect::<Vec<_>>(),
        [(digest(1), Evidence::Stated)]
    );
    let remote = remote_image(digest(50), &[(1, 60)]);
    assert_eq!(with_remote(&layers, &[], &[remote])[0].candidates.len(), 1, "no other image changes that");
}

#[test]
fn an_image_with_the_same_config_is_preferred_to_the_cache_and_that_to_others() {
    let layer = planned(layer(7), &[(1, Evidence::Cached)]);
    let (same, other) = (remote_image(digest(50), &[(7, 2), (8, 9)]), remote_image(digest(51), &[(7, 3)]));
    let layers = with_remote(&[layer], &[digest(50)], &[other, same]);
    let order: Vec<Digest> = layers[0].candidates.iter().map(|it| it.stored.digest).collect();
    assert_eq!(order, [2, 1, 3].map(digest));
}

#[test]
fn a_blob_of_a_remote_image_must_fit_the_manifest_and_what_was_asked_for() {
    let mut zstd = remote_image(digest(50), &[(7, 2)]);
    zstd.layers[0].compression = Compression::Zstd;
    let docker = planned(layer(7), &[]);
    assert!(with_remote(&[docker], &[], &[zstd.clone()])[0].candidates.is_empty(), "Docker's manifests know no zstd");
    let image = saved_image(vec![layer(7)]);
    let asked = layers(&image, &LayerCache::default(), CompressionPolicy::Zstd(None));
    assert_eq!(with_remote(&asked, &[], &[zstd])[0].candidates.len(), 1);
    let gzip = remote_image(digest(50), &[(7, 2)]);
    assert!(with_remote(&asked, &[], &[gzip])[0].candidates.is_empty(), "zstd was asked for");
}

#[test]
fn an_image_that_the_repository_holds_whole_needs_no_question() {
    let image = saved_image(vec![layer(1), layer(2)]);
    let config = image.manifests()[0].config.digest;
    let layers = layers(&image, &LayerCache::default(), CompressionPolicy::default());
    let whole = remote_image(config, &[(1, 11), (2, 12)]);
    let known = with_remote(&layers, &[config], std::slice::from_ref(&whole));
    let blobs = covered(&image, &known, std::slice::from_ref(&whole)).unwrap();
    assert_eq!(blobs.get(&digest(11)), Some(&Some(9)));
    assert_eq!(blobs.get(&config), Some(&Some(100)));
    // Of another image the config has to be sent.
    let other = remote_image(digest(50), &[(1, 11), (2, 12)]);
    let known = with_remote(&layers, &[config], std::slice::from_ref(&other));
    assert_eq!(covered(&image, &known, &[other]), None);
    // One without layers has a config all the same.
    assert_eq!(covered(&saved_image(Vec::new()), &[], &[]), None);
    // One layer is missing.
    let part = remote_image(config, &[(1, 11)]);
    let known = with_remote(&layers, &[config], std::slice::from_ref(&part));
    assert_eq!(covered(&image, &known, &[part]), None);
}

#[test]
fn only_candidates_are_worth_a_question_and_configs_go_along() {
    let image = saved_image(vec![layer(1), layer(2)]);
    let new = layers(&image, &LayerCache::default(), CompressionPolicy::default());
    assert_eq!(questions(&image.manifests(), &new), []);
    let known = [planned(layer(1), &[(1, Evidence::Cached)]), planned(layer(2), &[(1, Evidence::Cached)])];
    let mut expected = vec![digest(1), image.manifests()[0].config.digest];
    expected.sort_unstable();
    assert_eq!(questions(&image.manifests(), &known), expected);
    assert_eq!(questions(&[], &known), [digest(1)]);
}

#[test]
fn a_layer_is_mounted_from_where_its_blob_is() {
    let image = saved_image(vec![layer(1)]);
    let layers = layers(&image, &LayerCache::default(), CompressionPolicy::default());
    let from: Repository = "team/base".parse().unwrap();
    let remote = remote_image(digest(50), &[(1, 11)]);
    let mounted = mount(&layers[0], &image, std::slice::from_ref(&remote), &blobs(&[(11, Some(9))]), &from);
    assert!(
        matches!(mounted, Some(LayerAction::Mount(candidate, it)) if it == from && candidate.stored == stored(11, 9))
    );
    assert_eq!(mount(&layers[0], &image, &[remote], &blobs(&[]), &from), None);
}

#[test]
fn a_layer_is_mounted_from_its_origin_only_within_the_registry_and_by_its_digest() {
    let origin =
        |host: &str, repository: &str| Origin { host: host.parse().unwrap(), repository: repository.parse().unwrap() };
    let (host, own): (Host, Repository) = ("registry.example".parse().unwrap(), "team/app".parse().unwrap());
    let layer_from = |origins: Vec<Origin>| {
        let mut layer = stated_layer(1);
        layer.origins = origins.into();
        let image = layout_image(vec![layer]);
        layers(&image, &LayerCache::default(), CompressionPolicy::default()).remove(0)
    };
    let there = layer_from(vec![origin("other.example", "a"), origin("registry.example", "team/base")]);
    let Some(LayerAction::Mount(candidate, from)) = super::origin(&there, &host, &own) else { panic!("{there:?}") };
    assert_eq!((candidate.why, from.as_str()), (Evidence::Origin, "team/base"));
    for elsewhere in [vec![origin("other.example", "a")], vec![origin("registry.example", "team/app")], Vec::new()] {
        assert_eq!(super::origin(&layer_from(elsewhere), &host, &own), None);
    }
    // Only a digest that the archive states is known to be the one that was meant.
    let mut layer = layer(1);
    layer.origins = vec![origin("registry.example", "b")].into();
    let unstated = planned(layer, &[(1, Evidence::Cached)]);
    assert_eq!(super::origin(&unstated, &host, &own), None);
}

#[test]
fn a_layer_of_a_pipe_is_taken_for_one_of_a_docker_save() {
    let spec = |layer, policy| streamed(layer, &LayerCache::default(), policy).spec;
    assert_eq!(spec(layer(1), CompressionPolicy::default()), CompressionSpec::Gzip(GzipEncoder::Own));
    let zlib = GzipEncoder::Zlib { level: 6 };
    assert_eq!(spec(layer(1), CompressionPolicy::Gzip(zlib)), CompressionSpec::Gzip(zlib));
    let keep = CompressionSpec::Keep { compression: Compression::Uncompressed, decompress: true };
    assert_eq!(spec(layer(1), CompressionPolicy::Keep), keep);
    let gzip = CompressionSpec::Keep { compression: Compression::Gzip, decompress: false };
    assert_eq!(spec(stated_layer(1), CompressionPolicy::Zstd(None)), gzip);
}

#[test]
fn the_identity_of_an_upload_names_the_bytes() {
    let identity = |layer| streamed(layer, &LayerCache::default(), CompressionPolicy::default()).identity();
    assert_eq!(identity(stated_layer(1)), Some(digest(1).to_string()));
    assert_eq!(identity(layer(1)), Some(format!("{} gzip/3", diff_id(1))));
    let mut unknown = layer(1);
    unknown.diff_id = None;
    assert_eq!(identity(unknown), None);
}
