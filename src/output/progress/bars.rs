//! Rows drawn by indicatif: a bar each, into memory. What is drawn is written to the terminal in one piece by `screen.rs`.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use console::truncate_str;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, TermLike};

use super::rows::Row;
use super::status::percent;

/// Wider terminals gain nothing by longer bars.
const MAX_COLUMNS: usize = 120;

const BAR: &str = "{prefix}[{wide_bar}]{share:>6}{msg}";
const TEXT: &str = "{prefix}{wide_msg}";

/// The bars of a push. Nothing else draws them: indicatif's own thread is not used.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    bars: Vec<(ProgressBar, Row)>,
    canvas: Canvas,
}

impl Bars {
    pub(super) fn new() -> Self {
        let canvas = Canvas::default();
        let target = ProgressDrawTarget::term_like(Box::new(canvas.clone()));
        Self { all: MultiProgress::with_draw_target(target), bars: Vec::new(), canvas }
    }

    /// Draws rows for a terminal of so many columns, each narrower than that.
    pub(super) fn draw(&mut self, rows: Vec<Row>, columns: usize) -> Vec<String> {
        let width = columns.saturating_sub(1).clamp(1, MAX_COLUMNS);
        let is_resized = std::mem::replace(&mut self.canvas.lock().width, width) != width;
        for (bar, _) in self.bars.drain(rows.len().min(self.bars.len())..) {
            self.all.remove(&bar);
        }
        for (at, row) in rows.into_iter().enumerate() {
            match self.bars.get_mut(at) {
                Some((_, known)) if *known == row && !is_resized => {}
                Some((bar, known)) => {
                    set(bar, &row);
                    *known = row;
                }
                None => {
                    let bar = self.all.add(ProgressBar::hidden());
                    set(&bar, &row);
                    self.bars.push((bar, row));
                }
            }
        }
        // Whatever was removed is gone after this.
        if let Some((last, _)) = self.bars.last() {
            last.tick();
        }
        self.canvas.lock().drawn.iter().map(|row| truncate_str(row, width, "").trim_end().to_owned()).collect()
    }
}

/// Shows a row. Each of these steps draws, the last one unconditionally.
fn set(bar: &ProgressBar, row: &Row) {
    bar.set_style(style(if row.bar.is_some() { BAR } else { TEXT }));
    bar.set_prefix(row.label.clone());
    bar.set_message(row.message.clone());
    bar.update(|state| {
        let (position, length) = row.bar.unwrap_or_default();
        state.set_len(length);
        state.set_pos(position);
    });
}

fn style(template: &str) -> ProgressStyle {
    let share = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        // A template cannot fail, and a String takes everything.
        let _ = write!(text, "{} %", percent(state.pos(), state.len().unwrap_or_default()));
    };
    // Both templates are constants, and the tests draw both.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").with_key("share", share)
}

/// The terminal that indicatif draws on: memory. It writes each row as its text and the blanks up to the margin, and then
/// flushes. Where the cursor is does not matter, since every drawing starts at the first row.
#[derive(Clone, Debug, Default)]
struct Canvas(Arc<Mutex<Drawing>>);

#[derive(Debug, Default)]
struct Drawing {
    width: usize,
    writes: Vec<String>,
    drawn: Vec<String>,
}

impl Canvas {
    fn lock(&self) -> MutexGuard<'_, Drawing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TermLike for Canvas {
    fn width(&self) -> u16 {
        self.lock().width.try_into().unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
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

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text).and_then(|()| self.write_str(""))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.lock().writes.push(text.to_owned());
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut drawing = self.lock();
        let writes = std::mem::take(&mut drawing.writes);
        drawing.drawn = writes.into_iter().step_by(2).collect();
        Ok(())
    }
}
