//! The README, taken apart: its sections, and its blocks of code.

/// All of it.
pub(crate) const README: &str = include_str!("../../README.md");

/// A block of code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// What stands behind the fence.
    pub(crate) language: &'static str,
    /// The line of its fence, from 1.
    pub(crate) line: usize,
    pub(crate) text: &'static str,
}

impl Block {
    /// How often it calls the program: as a word of a script, or as the image of a container.
    pub(crate) fn calls(&self) -> usize {
        let code = self.text.lines().map(|line| line.split(" #").next().unwrap_or_default());
        let calls = |line: &str| {
            let words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
            let is_container = line.trim_start().starts_with("image: registry.example/tools/ecr-push:");
            words.filter(|word| *word == "ecr-push").count() + usize::from(is_container)
        };
        code.map(calls).sum()
    }
}

/// Its blocks of code, in their order.
pub(crate) fn blocks() -> Vec<Block> {
    let (mut found, mut line) = (Vec::new(), 1);
    let mut parts = README.split("```");
    line += parts.next().unwrap().matches('\n').count();
    while let Some(block) = parts.next() {
        let (language, text) = block.split_once('\n').expect("a fence ends its line");
        found.push(Block { language, line, text });
        line += block.matches('\n').count();
        line += parts.next().expect("every block is closed").matches('\n').count();
    }
    found
}

/// What stands under a heading, up to the next one of its rank or above.
pub(crate) fn section(heading: &str) -> &'static str {
    let rest = README.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("there is no {heading}"));
    let rank = heading.bytes().take_while(|byte| *byte == b'#').count();
    let ends = (2..=rank).filter_map(|rank| rest.find(&format!("\n{} ", "#".repeat(rank))));
    &rest[..ends.min().unwrap_or(rest.len())]
}

/// The first cells and the rest of the rows of a section's tables, without their heads.
pub(crate) fn rows(section: &'static str) -> Vec<(&'static str, &'static str)> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    rows.filter(|(first, _)| !first.starts_with("---")).skip(1).collect()
}
