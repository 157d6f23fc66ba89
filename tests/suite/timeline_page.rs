//! The page of a push, read by other code than what wrote it, and shown by a browser.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use xmlparser::{ElementEnd, Token, Tokenizer};

use super::docker_registry::second_opinion;

/// A page that is well-formed: its elements, each with what stands around it.
pub(crate) struct Page {
    pub(crate) text: String,
    elements: Vec<Element>,
}

/// An element.
#[derive(Clone, Debug, Default)]
pub(crate) struct Element {
    name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The text in it, that of elements below it, too.
    pub(crate) text: String,
    /// How many elements began before it ended.
    end: usize,
}

impl Page {
    /// Reads a page. It is XML as well as HTML, so every element that begins ends.
    #[track_caller]
    pub(crate) fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("there is no page {path}: {error}"));
        let (mut elements, mut open): (Vec<Element>, Vec<usize>) = (Vec::new(), Vec::new());
        for token in Tokenizer::from(text.as_str()) {
            match token.unwrap_or_else(|error| panic!("the page is not well-formed: {error}")) {
                Token::ElementStart { local, .. } => {
                    open.push(elements.len());
                    elements.push(Element { name: local.to_string(), ..Element::default() });
                }
                Token::Attribute { local, value, .. } => {
                    let attributes = &mut elements.last_mut().unwrap().attributes;
                    let before = attributes.insert(local.to_string(), plain(&value));
                    assert_eq!(before, None, "{local} stands twice");
                }
                Token::ElementEnd { end: ElementEnd::Open, .. } => {}
                Token::ElementEnd { end: ElementEnd::Empty, .. } => {
                    let (count, ended) = (elements.len(), open.pop().unwrap());
                    elements[ended].end = count;
                }
                Token::ElementEnd { end: ElementEnd::Close(_, local), .. } => {
                    let (count, ended) = (elements.len(), open.pop().expect("nothing ends that did not begin"));
                    assert_eq!(elements[ended].name, local.as_str());
                    elements[ended].end = count;
                }
                Token::Text { text } => open.iter().for_each(|at| elements[*at].text += &plain(&text)),
                _ => {}
            }
        }
        assert!(open.is_empty(), "{} elements have no end", open.len());
        Self { text, elements }
    }

    /// The elements of that name and class; any name if it is empty.
    pub(crate) fn all(&self, name: &str, class: &str) -> Vec<&Element> {
        self.elements.iter().filter(|it| it.is(name, class)).collect()
    }

    /// Those of them that are in another.
    pub(crate) fn within(&self, outer: &Element, name: &str, class: &str) -> Vec<&Element> {
        let place = self.elements.iter().position(|it| std::ptr::eq(it, outer)).unwrap();
        self.elements[place + 1..outer.end].iter().filter(|it| it.is(name, class)).collect()
    }

    /// The lane of a layer or of everything else.
    #[track_caller]
    pub(crate) fn lane(&self, name: &str) -> &Element {
        let lanes = self.all("div", "lane");
        let found = lanes.iter().find(|lane| lane.text.starts_with(name));
        found.unwrap_or_else(|| panic!("no lane {name} in {:?}", lanes.iter().map(|it| &it.text).collect::<Vec<_>>()))
    }

    /// Asserts that the page needs nothing else, and runs nothing.
    #[track_caller]
    pub(crate) fn stands_alone(&self) {
        for element in &self.elements {
            assert!(
                !["script", "link", "img", "iframe", "object", "a"].contains(&element.name.as_str()),
                "{element:?}"
            );
            for (name, value) in &element.attributes {
                assert!(
                    !name.starts_with("on") && !["src", "action", "data"].contains(&name.as_str()),
                    "{name}={value}"
                );
                assert!(!name.ends_with("href") || value.starts_with('#'), "{name}={value}");
            }
            let style = if element.name == "style" { element.text.as_str() } else { "" };
            assert!(!style.contains("@import") && !style.contains("//"));
            assert!(style.split("url(").skip(1).all(|rest| rest.starts_with('#')));
        }
    }
}

impl Element {
    fn is(&self, name: &str, class: &str) -> bool {
        let classes = self.attributes.get("class").map(String::as_str).unwrap_or_default();
        (name.is_empty() || self.name == name) && (class.is_empty() || classes.split(' ').any(|it| it == class))
    }
}

/// Text without what stands for marks.
fn plain(text: &str) -> String {
    assert!(!text.contains('<'), "{text}");
    let marks = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    marks.iter().fold(text.to_owned(), |text, (mark, plain)| text.replace(mark, plain))
}

/// A browser that shows a page and has no other: `--headless`, without a network of its own.
fn browser(folder: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    if !second_opinion("chromium") {
        return None;
    }
    let profile = tempfile::tempdir_in(folder).unwrap();
    let mut command = Command::new("chromium");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", profile.path());
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--hide-scrollbars", "--disable-dev-shm-usage"]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).args(arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// What a browser makes of a page, as text, if there is one.
pub(crate) fn dom(path: &str) -> Option<String> {
    let folder = Path::new(path).parent().unwrap();
    browser(folder, &["--dump-dom", &format!("file://{path}")]).map(|dom| String::from_utf8(dom).unwrap())
}

/// How a browser shows a page in a window of that size, if there is one.
pub(crate) fn screenshot(path: &str, (width, height): (u32, u32), scheme: &str) -> Option<Picture> {
    let (folder, picture) = (Path::new(path).parent().unwrap(), format!("{path}.png"));
    let window = format!("--window-size={width},{height}");
    let file = format!("file://{path}");
    browser(folder, &[&format!("--screenshot={picture}"), &window, scheme, &file])?;
    Some(Picture::read(&std::fs::read(picture).unwrap()))
}

/// A picture of eight bits a channel, as browsers write PNG.
pub(crate) struct Picture {
    pub(crate) size: (u32, u32),
    /// Red, green and blue of each pixel, row by row.
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    fn read(png: &[u8]) -> Self {
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!(&png[1..4], b"PNG");
        let (mut at, mut packed) = (8, Vec::new());
        while at < png.len() {
            let len = number(at) as usize;
            if &png[at + 4..at + 8] == b"IDAT" {
                packed.extend_from_slice(&png[at + 8..at + 8 + len]);
            }
            at += len + 12;
        }
        let (size, channels) = ((number(16), number(20)), if png[25] == 6 { 4 } else { 3 });
        let (mut rows, row) = (Vec::new(), size.0 as usize * channels);
        flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut rows).unwrap();
        let (mut before, mut pixels) = (vec![0_u8; row], Vec::new());
        for line in rows.chunks(row + 1) {
            let (filter, mut line) = (line[0], line[1..].to_vec());
            for n in 0..row {
                let (left, corner) = if n < channels { (0, 0) } else { (line[n - channels], before[n - channels]) };
                let guess = match filter {
                    0 => 0,
                    1 => left,
                    2 => before[n],
                    3 => u8::midpoint(left, before[n]),
                    _ => paeth(left, before[n], corner),
                };
                line[n] = line[n].wrapping_add(guess);
            }
            pixels.extend(line.chunks(channels).map(|pixel| [pixel[0], pixel[1], pixel[2]]));
            before = line;
        }
        Self { size, pixels }
    }

    /// The colours in it.
    pub(crate) fn colours(&self) -> BTreeSet<[u8; 3]> {
        self.pixels.iter().copied().collect()
    }

    /// The first pixel: the paper.
    pub(crate) fn paper(&self) -> [u8; 3] {
        self.pixels[0]
    }
}

/// PNG's guess (ISO/IEC 15948, 9.4): of three neighbours the one that is nearest to left plus above minus corner.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let [a, b, c] = [left, above, corner].map(i16::from);
    let nearest = [(left, (b - c).abs()), (above, (a - c).abs()), (corner, (a + b - 2 * c).abs())];
    nearest.into_iter().min_by_key(|(_, far)| *far).unwrap().0
}
