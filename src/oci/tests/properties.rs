//! Properties of parsers, for any input.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const NAME: &str = "[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,2}(/[a-z0-9]{1,8}){0,3}";
const HOST: &str = "(localhost|[a-z]{1,8}(\\.[a-z]{1,8}){1,3})(:[1-9][0-9]{0,3})?";

/// Any JSON of limited depth.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z]{1,8}", inner, 0..4)
                .prop_map(|map| Value::from(map.into_iter().collect::<serde_json::Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn a_digest_is_formatted_as_it_is_parsed(hash in any::<[u8; 32]>()) {
        let digest = Digest::from_hash(hash);
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        prop_assert_eq!(digest.hash(), hash);
    }

    #[test]
    fn names_and_tags_are_formatted_as_they_are_parsed(name in NAME, tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}") {
        if let Ok(repository) = name.parse::<Repository>() {
            prop_assert_eq!(repository.to_string(), name);
        }
        prop_assert_eq!(tag.parse::<Tag>().unwrap().to_string(), tag);
    }

    #[test]
    fn a_target_is_formatted_as_it_is_parsed(host in prop::option::of(HOST), name in "[a-z]{2,9}(/[a-z]{2,9}){0,2}", tag in prop::option::of("[a-z0-9]{1,9}")) {
        let mut text = host.map(|host| format!("{host}/")).unwrap_or_default() + &name;
        text += &tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string(), text);
            prop_assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
        }
    }

    #[test]
    fn a_host_is_formatted_as_it_is_parsed(text in HOST) {
        let host: Host = text.parse().unwrap();
        prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
    }

    #[test]
    fn a_private_registry_is_parsed_as_it_is_formatted(account in "[0-9]{12}", region in "(us|eu|cn|us-gov)-(north|west)-[1-9]", fips: bool, dual_stack: bool) {
        let host = Host::from_ecr(EcrHost { account, region, fips, dual_stack });
        prop_assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
    }

    #[test]
    fn the_normal_form_of_a_platform_is_stable(os in "(linux|windows|macos)", architecture in "(amd64|x86_64|arm|arm64|aarch64|armhf|i386|s390x)", variant in prop::option::of("(v?[5-8])")) {
        let platform: Platform = format!("{os}/{architecture}{}", variant.map(|it| format!("/{it}")).unwrap_or_default()).parse().unwrap();
        let again: Platform = platform.to_string().parse().unwrap();
        prop_assert!(platform.matches(&again), "{} and {}", platform, again);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,200}") {
        let _parsed = (text.parse::<Target>(), text.parse::<Host>(), text.parse::<Repository>(), text.parse::<Tag>());
        let _parsed = (text.parse::<MountSource>(), text.parse::<TagPattern>(), text.parse::<Platform>(), text.parse::<Digest>());
        let _parsed = (Target::with_docker_naming(&text), strip_credentials(&text), region_code(&text));
    }

    #[test]
    fn no_credentials_are_left_in_a_message(user in "[a-z]{1,8}", password in "[A-Z]{4,8}", host in HOST) {
        let stripped = strip_credentials(&format!("https://{user}:{password}@{host}/app")).into_owned();
        prop_assert_eq!(stripped, format!("https://***@{host}/app"));
    }

    #[test]
    fn no_json_makes_a_document_panic_and_an_edit_preserves_unknown_fields(json in json()) {
        let bytes = json.to_string().into_bytes();
        let _parsed = (Document::parse(&bytes), ImageConfig::parse(&bytes), StrictField::find_all(&bytes));
        let original = OriginalManifest { digest: Digest::of(&bytes), bytes: bytes.into(), media_type: String::new(), subject: None };
        let edited = original.edit(|_| Some(())).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&edited.bytes).unwrap(), json);
        prop_assert_eq!(edited.digest, Digest::of(&edited.bytes));
    }

    #[test]
    fn all_descriptors_of_a_document_are_parsed(sizes in prop::collection::vec(any::<u64>(), 0..6), unknown in json()) {
        let layers: Vec<Value> = sizes
            .iter()
            .map(|size| serde_json::json!({"mediaType": "a/b", "digest": Digest::of(&size.to_le_bytes()), "size": size, "x-unknown": unknown}))
            .collect();
        let bytes = serde_json::json!({"schemaVersion": 2, "layers": layers, "x-unknown": unknown}).to_string();
        let document = Document::parse(bytes.as_bytes()).unwrap();
        let parsed: Vec<_> = document.layers.unwrap().iter().map(|layer| (layer.size, layer.digest.sha256())).collect();
        let expected: Vec<_> = sizes.iter().map(|size| (*size, Some(Digest::of(&size.to_le_bytes())))).collect();
        prop_assert_eq!(parsed, expected);
    }
}
