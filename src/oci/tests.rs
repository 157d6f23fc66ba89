use super::*;

mod properties;

#[test]
fn digests_have_64_lower_case_digits() {
    let hex = "92c112f97a4b73b2da373071d2e8be84471bfec08af392cc4b6479dad3d0496d";
    let digest: Digest = format!("sha256:{hex}").parse().unwrap();
    assert_eq!(digest.hex(), hex);
    assert_eq!(digest.to_string(), format!("sha256:{hex}"));
    let signed = format!("sha256:+{}", &hex[1..]);
    for invalid in
        [hex.to_owned(), format!("sha256:{}", hex.to_uppercase()), signed, "sha256:12".into(), "sha512:12".into()]
    {
        assert!(invalid.parse::<Digest>().is_err(), "{invalid}");
    }
    assert_eq!(Digest::of(b"").hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn ecr_hosts_of_every_partition_and_form_are_parsed_and_formatted() {
    let hosts = [
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "us-east-1", false, false),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", true, false),
        ("123456789012.dkr-ecr.eu-west-1.on.aws", "eu-west-1", false, true),
        ("123456789012.dkr-ecr-fips.us-east-2.on.aws", "us-east-2", true, true),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1", false, false),
        ("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1", false, true),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", false, false),
        ("123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", false, false),
        ("123456789012.dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", false, false),
        ("123456789012.dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1", false, false),
        ("123456789012.dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1", false, false),
        ("123456789012.dkr.ecr.xx-tomorrow-9.amazonaws.com", "xx-tomorrow-9", false, false),
    ];
    for (name, region, fips, dual_stack) in hosts {
        let host: Host = name.parse().unwrap();
        let expected = EcrHost { account: "123456789012".into(), region: region.into(), fips, dual_stack };
        assert_eq!(host.ecr(), Some(&expected), "{name}");
        assert_eq!(Host::from_ecr(expected).as_str(), name);
    }
    let upper_case: Host = "123456789012.DKR.ECR.us-east-1.amazonaws.com:443".parse().unwrap();
    assert_eq!(upper_case.as_str(), "123456789012.dkr.ecr.us-east-1.amazonaws.com");
}

#[test]
fn a_host_that_only_resembles_ecr_is_not_ecr() {
    for name in [
        "123456789012.dkr.ecr.us-east-1.amazonaws.com.example.org",
        "x123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "12345678901.dkr.ecr.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.evil.amazonaws.com",
        "123456789012.dkr-ecr.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.on.aws",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com:8443",
        "api.123456789012.dkr.ecr.us-east-1.amazonaws.com",
    ] {
        assert_eq!(name.parse::<Host>().unwrap().ecr(), None, "{name}");
    }
}

#[test]
fn targets_are_parsed_as_docker_parses_them() {
    let parse = |text: &str| {
        let target: Target = text.parse().unwrap();
        (
            target.host.map(|host| host.as_str().to_owned()),
            target.repository.as_str().to_owned(),
            target.tags.first().map(|tag| tag.as_str().to_owned()),
        )
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(parse("app"), (None, "app".into(), None));
    assert_eq!(parse("team/app:1"), (None, "team/app".into(), some("1")));
    assert_eq!(parse("localhost/app:1"), (some("localhost"), "app".into(), some("1")));
    assert_eq!(parse("127.0.0.1:5000/app"), (some("127.0.0.1:5000"), "app".into(), None));
    assert_eq!(parse("[::1]:5000/a/b:x"), (some("[::1]:5000"), "a/b".into(), some("x")));
    assert_eq!(parse("GHCR.io/a/b:x"), (some("ghcr.io"), "a/b".into(), some("x")));
}

#[test]
fn an_invalid_target_is_a_usage_error_that_names_the_invalid_part() {
    for (text, part) in [
        ("https://x.y/app", "starts with https://"),
        ("x.y/app@sha256:12", "has a digest"),
        ("/tmp/image.tar", "is a path"),
        ("./image.tar", "is a path"),
        ("../image.tar:1", "is a path"),
        ("x.y/App", "upper-case letter 'A'"),
        ("x.y/a--", "repository name"),
        ("x.y/", "names no repository"),
        ("x.y/a/../b", "repository name"),
        ("x.y:0/app", "the port"),
        ("x..y/app", "is not a registry host"),
        ("public.ecr.aws/app:1", "cannot be in ECR Public"),
        ("ecr-public.aws.com/a/app", "cannot be in ECR Public"),
        ("app:", "ends with a colon and no tag"),
        ("app:a+b", "is not a tag"),
        ("", "the repository name is empty"),
    ] {
        let error = text.parse::<Target>().unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert_eq!(error.kind().exit_code(), 2);
    }
}

#[test]
fn repository_names_follow_the_rule_of_the_specification() {
    for valid in ["a", "a1", "a.b", "a_b", "a__b", "a---b", "0/1", "team/app.web-1"] {
        assert!(valid.parse::<Repository>().is_ok(), "{valid}");
    }
    for invalid in ["a..b", "a___b", "a._b", "-a", "a-", "a//b", "/a", "a/", "ä"] {
        assert!(invalid.parse::<Repository>().is_err(), "{invalid}");
    }
}

#[test]
fn metadata_addresses_are_link_local() {
    for ip in ["169.254.169.254", "169.254.170.2", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "0.0.0.0"] {
        assert!(is_link_local(ip.parse().unwrap()), "{ip}");
    }
    assert!(!is_link_local("52.94.1.1".parse().unwrap()));
    assert!(is_private("10.0.0.1".parse().unwrap()) && is_private("::1".parse().unwrap()));
}

#[test]
fn targets_with_the_same_repository_are_joined() {
    let texts = ["app:1", "x.y/app:1", "app:2", "app", "app:1"];
    let joined = Target::join(texts.map(|text| text.parse().unwrap()).to_vec());
    let tags = |target: &Target| target.tags.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(joined.len(), 2);
    assert_eq!(tags(&joined[0]), ["1", "2", "latest", "1"]);
    assert_eq!(tags(&Target::join(vec!["app".parse().unwrap()])[0]), [] as [&str; 0]);
}

#[test]
fn a_mount_source_is_a_repository_or_one_of_its_images() {
    for text in ["base", "team/base", "team/base:1.4"] {
        assert_eq!(text.parse::<MountSource>().unwrap().to_string(), text);
    }
    for (text, part) in [
        ("x.y/base", "names the registry x.y"),
        ("localhost:5000/base:1", "names the registry localhost:5000"),
        ("Base", "upper-case letter 'B'"),
        ("base:", "ends with a colon and no tag"),
        ("base@sha256:12", "has a digest"),
    ] {
        let error = text.parse::<MountSource>().unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert_eq!(error.kind().exit_code(), 2);
    }
}

#[test]
fn docker_naming_renames_an_invalid_repository() {
    for (text, name, changed) in [
        ("Team/App:1", "team/app", true),
        ("My Team/Web App", "myteam/webapp", true),
        ("x.y/Team/App_2", "team/app_2", true),
        ("team/app", "team/app", false),
        ("\u{130}X", "ix", true),
    ] {
        let (target, change) = Target::with_docker_naming(text).unwrap();
        assert_eq!((target.repository.as_str(), change.is_some()), (name, changed), "{text}");
        // Without docker naming, the error suggests the name.
        let hint =
            text.parse::<Target>().err().map(|error| error.advice().map(ToString::to_string).unwrap_or_default());
        assert_eq!(
            hint.map(|hint| hint.contains(&format!("Or push to {name}: --docker-naming"))),
            changed.then_some(true)
        );
    }
    let (_, change) = Target::with_docker_naming("Team/App:1").unwrap();
    assert_eq!(change.unwrap(), "the repository \"Team/App\" is called team/app");
}

#[test]
fn a_name_that_docker_naming_cannot_rename_is_rejected() {
    for (text, part) in [
        ("ÄÖ:1", "has nothing that a repository name can have"),
        ("", "has nothing that a repository name can have"),
        ("Team--/App", "is not a repository name"),
        ("Team//App", "is not a repository name"),
        ("App:a b", "is not a tag"),
        ("x..y/App", "is not a registry host"),
    ] {
        let error = Target::with_docker_naming(text).unwrap_err();
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert_eq!(error.kind().exit_code(), 2);
        let hint = text.parse::<Target>().unwrap_err().advice().map(ToString::to_string).unwrap_or_default();
        assert!(!hint.contains("--docker-naming"), "{text}: {hint}");
    }
}

#[test]
fn only_the_hosts_of_ecr_public_are_ecr_public() {
    for (text, is_public, name) in [
        ("public.ecr.aws", true, "public.ecr.aws"),
        ("Public.ECR.aws:443", true, "public.ecr.aws"),
        ("ecr-public.aws.com", true, "ecr-public.aws.com"),
        ("public.ecr.aws:8443", false, "public.ecr.aws:8443"),
        ("public.ecr.aws.example.com", false, "public.ecr.aws.example.com"),
        ("x.public.ecr.aws", false, "x.public.ecr.aws"),
    ] {
        let host: Host = text.parse().unwrap();
        assert_eq!((host.is_ecr_public(), host.is_amazon(), host.as_str()), (is_public, is_public, name), "{text}");
        assert!(host.ecr().is_none());
    }
}

#[test]
fn a_registry_behind_a_vpc_endpoint_has_its_own_name() {
    for (text, region) in [
        ("vpce-0a1b2c3d-xyz.dkr.ecr.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
        ("vpce-0a1b2c3d-xyz-eu-west-1a.dkr.ecr.eu-west-1.vpce.amazonaws.com:443", Some("eu-west-1")),
        ("vpce-0a1b2c3d-xyz.dkr.ecr.cn-north-1.vpce.amazonaws.com.cn", Some("cn-north-1")),
        ("vpce-0a1b2c3d-xyz.dkr.ecr.eu-west-1.vpce.amazonaws.com.example.org", None),
        ("vpce-0a1b2c3d-xyz.api.ecr.eu-west-1.vpce.amazonaws.com", None),
        ("vpce.dkr.ecr.eu-west-1.vpce.amazonaws.com", None),
    ] {
        let host: Host = text.parse().unwrap();
        assert_eq!(host.is_vpc_endpoint(), region.is_some(), "{text}");
        assert!(host.ecr().is_none(), "{text}");
        let registry = host.via_vpc_endpoint("123456789012");
        assert_eq!(registry.as_ref().and_then(Host::ecr).map(|ecr| ecr.region.as_str()), region, "{text}");
        if let Some(registry) = registry {
            assert!(registry.as_str().starts_with("123456789012.dkr.ecr."), "{registry}");
            assert_eq!(registry.via(), Some(text.trim_end_matches(":443")));
        }
    }
}

#[test]
fn underscores_in_a_region_are_replaced_by_hyphens() {
    assert_eq!(region_code(" US_West_2 ").as_deref(), Some("us-west-2"));
    assert_eq!(region_code("mars-north-7").as_deref(), Some("mars-north-7"), "unknown regions are accepted");
    assert_eq!(region_code("everywhere"), None);
}
