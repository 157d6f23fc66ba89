//! The rows of a push on a terminal, drawn by indicatif: a bar a layer, one for the total, and the status.

use std::io;
use std::sync::Mutex;
use std::time::Instant;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::log::{Progress, PushStatus, sanitize_line};
use super::stderr::write;
use crate::error::one_line;
use crate::sync::lock;

const BAR: &str = "{prefix:12!} {binary_total_bytes:>10} [{wide_bar}]{percent:>4} %";
const TEXT: &str = "{prefix:12!} {binary_total_bytes:>10} {wide_msg}";
const STATUS: &str = "{elapsed_precise} {wide_msg}";

/// The rows of a push.
pub(super) struct Rows {
    pub(super) all: MultiProgress,
    layers: Vec<ProgressBar>,
    total: ProgressBar,
    status: ProgressBar,
}

impl Rows {
    /// Creates rows that are drawn on stderr, ten times a second at most.
    pub(super) fn start() -> Self {
        Self::on(ProgressDrawTarget::term_like_with_hz(Box::new(Terminal::default()), 10))
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let [total, status] = ["", STATUS].map(|template| all.add(ProgressBar::hidden().with_style(style(template))));
        Self { all, layers: Vec::new(), total, status }
    }

    /// Updates the rows for a terminal that has so many. Where it has too few, only layers to upload have one, those that are
    /// being uploaded first.
    pub(super) fn update(&mut self, push: &PushStatus, now: Instant, height: usize) {
        let (mut layers, total) = (push.layers(), push.total());
        if layers.len() + 2 >= height {
            layers.retain(|layer| layer.result.is_none());
            layers.sort_by_key(|layer| layer.position == 0);
            layers.truncate(height.saturating_sub(3));
        }
        self.layers.drain(layers.len().min(self.layers.len())..).for_each(|bar| self.all.remove(&bar));
        for (at, layer) in layers.into_iter().enumerate() {
            if at == self.layers.len() {
                self.layers.push(self.all.insert(at, ProgressBar::hidden()));
            }
            show(&self.layers[at], if layer.result.is_some() { TEXT } else { BAR }, layer);
        }
        show(&self.total, if total.bytes > 0 && height > 2 { BAR } else { "" }, total);
        self.status.set_message(sanitize_line(&one_line(&push.entry(now).text(), usize::MAX)));
    }

    /// Removes the rows.
    pub(super) fn clear(self) {
        self.all.clear().ok();
        // Bars that are dropped are drawn for the last time.
        self.all.set_draw_target(ProgressDrawTarget::hidden());
    }
}

fn show(bar: &ProgressBar, template: &str, progress: Progress) {
    bar.set_style(style(template));
    bar.set_length(progress.bytes);
    bar.set_position(progress.position);
    bar.set_prefix(progress.name);
    bar.set_message(progress.result.unwrap_or_default());
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants, and the tests draw all of them.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// A terminal on stderr: what indicatif wrote since it last flushed, for each row its text and the blanks up to the margin.
///
/// indicatif's own leaves the cursor behind the last row, at the right margin. The echo of Ctrl-C, or a terminal that becomes
/// narrower and reflows its lines, moves it away from the rows, and some of them are never removed. Here it waits at the
/// beginning of the first row, so the next rows always cover the last ones. It is never hidden: a program that is stopped
/// or killed could not restore it.
#[derive(Debug, Default)]
struct Terminal(Mutex<Vec<String>>);

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        // Narrower terminals cut the rows.
        Term::stderr().size().1.saturating_sub(1).max(32)
    }

    fn height(&self) -> u16 {
        // There are never more rows than the terminal has, and none is broken into two.
        u16::MAX
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        lock(&self.0).push(text.to_owned());
        Ok(())
    }

    /// Writes the rows in one piece. A terminal that has just become narrower cuts them.
    fn flush(&self) -> io::Result<()> {
        let rows: Vec<String> =
            lock(&self.0).drain(..).step_by(2).map(|row| format!("\r{}\x1b[K", row.trim_end())).collect();
        let up = "\x1b[A".repeat(rows.len().saturating_sub(1));
        write(&format!("\x1b[?7l\r{}\x1b[J\r{up}\x1b[?7h", rows.join("\n")));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
