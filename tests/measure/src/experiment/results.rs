// SPDX-License-Identifier: GPL-2.0
//! Tables of rows, written in the guest and read on the host, as CSV.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Run;

/// A table under construction: `NAME.csv`, with the fields of its rows as columns.
#[derive(Debug)]
pub struct Table {
    writer: csv::Writer<File>,
}

impl Table {
    /// A new table in a directory.
    pub fn create(directory: &Path, name: &str) -> Result<Self> {
        let path = file(directory, name);
        let writer = csv::Writer::from_path(&path);
        let writer = writer.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Table { writer })
    }

    /// Add a row: a struct of numbers and words, the same for all rows.
    pub fn row(&mut self, row: &impl Serialize) -> Result<()> {
        Ok(self.writer.serialize(row)?)
    }

    /// All rows are there.
    pub fn finish(mut self) -> Result<()> {
        Ok(self.writer.flush()?)
    }
}

/// Write a whole table.
pub fn table<T: Serialize>(directory: &Path, name: &str, rows: &[T]) -> Result<()> {
    let mut table = Table::create(directory, name)?;
    rows.iter().try_for_each(|row| table.row(row))?;
    table.finish()
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(name).with_extension("csv")
}

/// The tables of the runs of one experiment.
#[derive(Debug)]
pub struct Results {
    directory: PathBuf,
    runs: Vec<Run>,
}

impl Results {
    /// Those of `runs`, each in a directory of its name.
    pub fn new(directory: PathBuf, runs: Vec<Run>) -> Self {
        Results { directory, runs }
    }

    /// All runs.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The runs of a variant.
    pub fn of<'a>(&'a self, variant: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.variant == variant)
    }

    /// The rows of a table of one run.
    pub fn rows<T: DeserializeOwned>(&self, run: &Run, name: &str) -> Result<Vec<T>> {
        let path = file(&self.directory.join(run.to_string()), name);
        let what = || format!("cannot read {}", path.display());
        let reader = csv::Reader::from_path(&path).with_context(what)?;
        let rows = reader.into_deserialize();
        rows.collect::<Result<_, _>>().with_context(what)
    }

    /// The only row of a table of one run.
    pub fn row<T: DeserializeOwned>(&self, run: &Run, name: &str) -> Result<T> {
        let mut rows = self.rows(run, name)?;
        ensure!(rows.len() == 1, "{run}: {name} has {} rows", rows.len());
        Ok(rows.remove(0))
    }
}
