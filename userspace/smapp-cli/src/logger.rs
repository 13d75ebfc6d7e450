// SPDX-License-Identifier: GPL-2.0
//! What the library has to say, on stderr.

use std::io::{self, Write};

use log::kv::{Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};

use crate::output;

/// Log target of lines about the state of the daemon, which are shown without `-v` too.
pub const STATUS: &str = "status";

struct Stderr {
    level: LevelFilter,
    json: bool,
}

/// The facts of a record, beside its text.
struct Facts(serde_json::Map<String, serde_json::Value>);

/// Shows warnings; with one `-v` decisions too, with two everything.
pub fn install(verbose: u8, json: bool) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    if log::set_boxed_logger(Box::new(Stderr { level, json })).is_ok() {
        log::set_max_level(level.max(LevelFilter::Info));
    }
}

impl<'kvs> VisitSource<'kvs> for Facts {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        self.0.insert(key.to_string(), value.to_string().into());
        Ok(())
    }
}

impl Stderr {
    fn line(&self, record: &Record<'_>) -> String {
        let mut facts = Facts(serde_json::Map::new());
        let _ = record.key_values().visit(&mut facts);
        let mut facts = facts.0;
        if self.json {
            let level = record.level().as_str().to_lowercase();
            facts.insert("time".to_owned(), output::now().as_secs_f64().into());
            facts.insert("level".to_owned(), level.into());
            facts.insert("text".to_owned(), record.args().to_string().into());
            return serde_json::Value::Object(facts).to_string();
        }
        // The text of a decision begins with its event.
        let fact = |name| facts.get(name).and_then(serde_json::Value::as_str);
        let mut line = "smapp: ".to_owned();
        line.extend(fact("token").map(|token| format!("{token} ")));
        line.extend(fact("rule").map(|rule| format!("[{rule}] ")));
        line + &record.args().to_string()
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level || metadata.target() == STATUS
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // A closed stderr is no reason to stop.
            let _ = writeln!(io::stderr(), "{}", self.line(record));
        }
    }

    fn flush(&self) {}
}
