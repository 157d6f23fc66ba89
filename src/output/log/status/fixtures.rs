//! Events of a push, and the status after them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PushStatus;
use crate::compress::Meter;
use crate::oci::{Compression, Digest, LayerId};
use crate::push::plan::{Candidate, Evidence, Stored};
use crate::push::{Event, ImageSummary, LayerAction};
use crate::request_log::{Named, TargetId};

pub(crate) fn upload(layer: &str, bytes: u64) -> (Event, Arc<Meter>) {
    upload_to("h/app", layer, bytes)
}

pub(crate) fn upload_to(target: &str, layer: &str, bytes: u64) -> (Event, Arc<Meter>) {
    let meter = Arc::new(Meter::new(bytes));
    (planned(target, layer, LayerAction::Upload, "new", &meter), meter)
}

pub(crate) fn reuse(target: &str, layer: &str, bytes: u64) -> Event {
    planned(target, layer, LayerAction::Reuse(candidate()), "it is there", &Arc::new(Meter::new(bytes)))
}

pub(crate) fn mount(layer: &str, bytes: u64) -> Event {
    let action = LayerAction::Mount(candidate(), "base".parse().unwrap());
    planned("h/app", layer, action, "from h/base", &Arc::new(Meter::new(bytes)))
}

fn planned(target: &str, layer: &str, action: LayerAction, reason: &str, meter: &Arc<Meter>) -> Event {
    let (target, layer, bytes) = (target_named(target), layer_named(layer), meter.total());
    Event::LayerPlanned { target, layer, bytes, action, reason: reason.into(), meter: Arc::clone(meter) }
}

/// A target whose ID is made of its name.
pub(crate) fn target_named(name: &str) -> Named<TargetId> {
    Named::new(name.bytes().fold(0, |id: usize, byte| id.wrapping_mul(31) + usize::from(byte)), name)
}

/// A layer whose ID is made of its name.
pub(crate) fn layer_named(name: &str) -> Named<LayerId> {
    Named::new(LayerId::Stated(Digest::of(name.as_bytes())), name)
}

/// The event that a planned layer was uploaded.
pub(crate) fn uploaded(target: &str, layer: &str, sent: u64) -> Event {
    Event::LayerUploaded { target: target_named(target), layer: layer_named(layer), bytes: 0, sent }
}

fn candidate() -> Candidate {
    let stored = Stored { digest: Digest::of(b""), size: 0, compression: Compression::Gzip };
    Candidate { stored, why: Evidence::Cached }
}

pub(crate) fn opened() -> Event {
    Event::Opened(ImageSummary {
        format: "OCI layout".into(),
        names: vec!["app:1".into()],
        image_ids: Vec::new(),
        platforms: Vec::new(),
        layers: 2,
        archive_bytes: 3 << 20,
    })
}

/// The status after these events, and a moment one second later.
pub(crate) fn status(targets: usize, events: Vec<Event>) -> (PushStatus, Instant) {
    let start = Instant::now();
    let mut status = PushStatus::new(targets, start);
    for event in events {
        status.apply(event, start);
    }
    (status, start + Duration::from_secs(1))
}

/// Layers in all states, with unusual names.
pub(crate) fn many() -> (PushStatus, Vec<Arc<Meter>>) {
    let (mut events, mut meters) = (vec![opened()], Vec::new());
    let names = [
        "日本語のレイヤー名はとても長いのです",
        "\u{1b}[2J\u{202e}evil\r\n\tname",
        "👨\u{200d}👩\u{200d}👧 family",
        "a",
        "##vso[x]",
    ];
    for (at, name) in names.iter().cycle().take(40).enumerate() {
        let name = format!("{name}{at}");
        match at % 4 {
            0 => events.push(reuse("h/app", &name, 1 << at)),
            1 => events.push(mount(&name, 1 << at)),
            _ => {
                let (event, meter) = upload(&name, 1 << at);
                events.push(event);
                meters.push(meter);
            }
        }
    }
    (status(1, events).0, meters)
}
