//! The words of the log: the level and the message of each event.

use super::entry::{Entry, Level};
use crate::compress::size;
use crate::oci::LayerId;
use crate::push::{Event, ImageSummary, LayerAction};
use crate::request_log::{Named, TargetId};

impl Entry {
    /// Returns the entry of an event, if it has one. Where a push has several targets, messages name the target.
    pub(crate) fn of(event: &Event, targets: usize) -> Option<Self> {
        let at = |preposition: &str, target: &Named<TargetId>| match targets {
            ..2 => String::new(),
            _ => format!(" {preposition} {target}"),
        };
        let (level, message) = match event {
            Event::Request(record) => (Level::Debug, record.to_string()),
            Event::Note(text) => (Level::Info, text.clone()),
            Event::Warning(text) => (Level::Warning, text.clone()),
            Event::Opened(image) => (Level::Info, opened(image)),
            Event::LayerPlanned { target, layer, bytes, action, reason, .. } => {
                let (action, preposition) = match action {
                    LayerAction::Reuse(_) => ("reused", "in"),
                    LayerAction::Mount(..) => ("mount", "in"),
                    LayerAction::Upload => ("upload", "to"),
                };
                (Level::Info, format!("{}{action}{}: {reason}", start(layer, *bytes), at(preposition, target)))
            }
            Event::LayerUploaded { target, layer, sent, .. } => {
                (Level::Info, format!("{}sent{}", start(layer, *sent), at("to", target)))
            }
            Event::LayerMounted { target, layer, bytes } => {
                (Level::Info, format!("{}mounted{}", start(layer, *bytes), at("in", target)))
            }
            Event::Publishing { target } => {
                (Level::Info, format!("all layers are in {target}; uploading the manifest"))
            }
            Event::TargetFailed { target, reason } => {
                (Level::Info, format!("{target} failed, the other targets continue: {reason}"))
            }
            Event::Retrying { reason, pause, retry, retries } => {
                let seconds = pause.as_secs_f64();
                (Level::Warning, format!("{reason}; retry {retry} of {retries} in {seconds:.1} s"))
            }
            Event::Spooled { .. } | Event::LookingUp { .. } | Event::LayerReading { .. } => return None,
        };
        Some(Self::serialized(level, message, event))
    }
}

/// The start of a line about a layer.
fn start(layer: &Named<LayerId>, bytes: u64) -> String {
    format!("layer {layer}  {:>10}  ", size(bytes))
}

fn opened(image: &ImageSummary) -> String {
    let name = match (image.names.first(), image.image_ids.first()) {
        (Some(name), _) => name.clone(),
        (None, Some(id)) => id.short(),
        (None, None) => "an image".into(),
    };
    let about = std::iter::once(image.format.as_str()).chain(image.platforms.iter().map(String::as_str));
    let about = about.collect::<Vec<_>>().join(", ");
    let layers = if image.layers == 1 { "layer" } else { "layers" };
    format!("{name} ({about}): {} {layers}, {}", image.layers, size(image.archive_bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant, SystemTime};

    use serde_json::{Value, json};

    use super::*;
    use crate::compress::{Meter, ReadTimeline};
    use crate::oci::Digest;
    use crate::request_log::{RequestRecord, Subject};

    fn target() -> Named<TargetId> {
        Named::new(1, "h/app")
    }

    fn layer() -> Named<LayerId> {
        Named::new(LayerId::Place(0), "a.tar")
    }

    fn planned() -> Event {
        let (action, reason, meter) = (LayerAction::Upload, "new".into(), Arc::new(Meter::new(7)));
        Event::LayerPlanned { target: target(), layer: layer(), bytes: 7, action, reason, meter }
    }

    fn request() -> RequestRecord {
        RequestRecord {
            method: "PATCH".into(),
            url: "https://h/v2/app/blobs/uploads/1".into(),
            status: Some(202),
            error: None,
            began: Instant::now(),
            seconds: 0.012_345,
            is_throttle: false,
            request_id: None,
            sent: 7,
            repository: Some("h/app".into()),
            subject: Some(Subject::Layer { target: 1, layer: layer() }),
            attempt: 2,
        }
    }

    fn image() -> ImageSummary {
        ImageSummary {
            format: "OCI layout".into(),
            names: vec!["app:1".into()],
            image_ids: vec![Digest::of(b"")],
            platforms: vec!["linux/amd64".into()],
            layers: 1,
            archive_bytes: 2048,
        }
    }

    #[test]
    fn every_event_has_a_level_a_message_and_its_own_keys() {
        let retrying = Event::Retrying {
            reason: "h: HTTP 429".into(),
            pause: Duration::from_micros(1_500_400),
            retry: 2,
            retries: 4,
        };
        let failed = Event::TargetFailed { target: target(), reason: "no answer".into() };
        let cases = [
            (Event::Note("n".into()), "note: n", json!({"level": "info", "event": "note", "message": "n"})),
            (Event::Warning("w".into()), "warning: w", json!({"level": "warning", "event": "warning", "message": "w"})),
            (
                Event::Opened(image()),
                "app:1 (OCI layout, linux/amd64): 1 layer, 2.0 KiB",
                json!({
                    "level": "info", "event": "opened", "message": "app:1 (OCI layout, linux/amd64): 1 layer, 2.0 KiB",
                    "format": "OCI layout", "names": ["app:1"], "image_ids": [Digest::of(b"").to_string()],
                    "platforms": ["linux/amd64"], "layers": 1, "bytes": 2048,
                }),
            ),
            (
                planned(),
                "layer a.tar         7 B  upload to h/app: new",
                json!({
                    "level": "info", "event": "layer", "message": "layer a.tar         7 B  upload to h/app: new",
                    "target": "h/app", "layer": "a.tar", "bytes": 7, "action": "upload", "why": "new",
                }),
            ),
            (
                Event::LayerUploaded { target: target(), layer: layer(), bytes: 7, sent: 5 },
                "layer a.tar         5 B  sent to h/app",
                json!({
                    "level": "info", "event": "arrived", "message": "layer a.tar         5 B  sent to h/app",
                    "target": "h/app", "layer": "a.tar", "bytes": 7, "sent": 5,
                }),
            ),
            (
                Event::LayerMounted { target: target(), layer: layer(), bytes: 7 },
                "layer a.tar         7 B  mounted in h/app",
                json!({
                    "level": "info", "event": "mounted", "message": "layer a.tar         7 B  mounted in h/app",
                    "target": "h/app", "layer": "a.tar", "bytes": 7,
                }),
            ),
            (
                Event::Publishing { target: target() },
                "all layers are in h/app; uploading the manifest",
                json!({
                    "level": "info", "event": "finishing", "target": "h/app",
                    "message": "all layers are in h/app; uploading the manifest",
                }),
            ),
            (
                failed,
                "h/app failed, the other targets continue: no answer",
                json!({
                    "level": "info", "event": "given_up", "target": "h/app", "why": "no answer",
                    "message": "h/app failed, the other targets continue: no answer",
                }),
            ),
            (
                retrying,
                "warning: h: HTTP 429; retry 2 of 4 in 1.5 s",
                json!({
                    "level": "warning", "event": "waiting", "message": "h: HTTP 429; retry 2 of 4 in 1.5 s",
                    "why": "h: HTTP 429", "seconds": 1.5, "retry": 2, "retries": 4,
                }),
            ),
            (
                Event::Request(request()),
                "PATCH 202     12 ms  attempt 2  layer a.tar, 7 bytes  https://h/v2/app/blobs/uploads/1",
                json!({
                    "level": "debug", "event": "request", "method": "PATCH", "url": "https://h/v2/app/blobs/uploads/1",
                    "message": "PATCH 202     12 ms  attempt 2  layer a.tar, 7 bytes  https://h/v2/app/blobs/uploads/1",
                    "status": 202, "fault": null, "seconds": 0.012, "request_id": null, "sent": 7,
                    "about": "layer a.tar", "attempt": 2,
                }),
            ),
        ];
        for (event, text, expected) in cases {
            let entry = Entry::of(&event, 2).unwrap();
            assert_eq!(entry.text(), text);
            let mut read: Value = serde_json::from_str(&entry.json(SystemTime::now())).unwrap();
            assert!(read.as_object_mut().unwrap().remove("time").is_some());
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn a_single_target_is_not_named() {
        assert_eq!(Entry::of(&planned(), 1).unwrap().text(), "layer a.tar         7 B  upload: new");
    }

    #[test]
    fn what_only_the_display_needs_is_not_logged() {
        for event in [
            Event::Spooled { bytes: 7 },
            Event::LookingUp { target: target() },
            Event::LayerReading { layer: layer(), timeline: Arc::new(ReadTimeline::start()) },
        ] {
            assert_eq!(Entry::of(&event, 2), None);
        }
    }
}
