// SPDX-License-Identifier: GPL-2.0
//! What an experiment says, before it has a layout.

/// The part of the report about one experiment. Texts are Markdown.
#[derive(Debug)]
pub struct Chapter {
    /// What it is about, with the place in the paper.
    pub title: String,
    /// What is done, what is measured, and where it is seen.
    pub method: String,
    /// The network, drawn in characters.
    pub topology: String,
    /// Drawings.
    pub figures: Vec<Figure>,
    /// The paper, the kernel and smapp side by side.
    pub comparison: Comparison,
    /// What differs from the paper and between the variants, and why.
    pub discussion: String,
    /// What must hold.
    pub claims: Vec<Claim>,
}

/// A drawing.
#[derive(Debug)]
pub struct Figure {
    /// Its file is `NAME.svg`.
    pub name: String,
    /// What is to be seen.
    pub caption: String,
    /// The drawing itself.
    pub svg: String,
}

impl Figure {
    /// A drawing with a caption.
    pub fn new(name: impl Into<String>, caption: impl Into<String>, svg: String) -> Self {
        Figure {
            name: name.into(),
            caption: caption.into(),
            svg,
        }
    }
}

/// A table for people.
#[derive(Debug)]
pub struct Comparison {
    rows: Vec<Vec<String>>,
}

impl Comparison {
    /// A table with the heads of its columns.
    pub fn new<const COLUMNS: usize>(heads: [&str; COLUMNS]) -> Self {
        let rows = vec![heads.map(str::to_string).into()];
        Comparison { rows }
    }

    /// One more row.
    pub fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.into());
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut lines: Vec<_> = self.rows.iter().map(line).collect();
        if let Some(heads) = self.rows.first() {
            lines.insert(1, format!("|{}\n", "---|".repeat(heads.len())));
        }
        lines.concat()
    }
}

/// Something that the tables must show.
#[derive(Debug)]
pub struct Claim {
    /// What, with the figures that decide.
    pub text: String,
    /// Whether they show it.
    pub holds: bool,
}

impl Claim {
    /// A claim and whether it holds.
    pub fn new(holds: bool, text: impl Into<String>) -> Self {
        Claim {
            text: text.into(),
            holds,
        }
    }
}
