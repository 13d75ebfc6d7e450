// SPDX-License-Identifier: GPL-2.0
//! Why a policy did what it did: the last decisions for each connection.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::model::Token;

/// How many decisions are kept for a connection.
const DECISIONS: usize = 16;
/// For how many connections that are over decisions are kept.
const CLOSED: usize = 64;

/// One decision of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// When, on the clock of the kernel.
    pub time: Duration,
    /// The event at hand: the word for its kind, or `attached` for a connection
    /// that was there before, `new_local_addr`, `del_local_addr`, `timer`,
    /// `control`, `reload`.
    pub event: &'static str,
    /// The rule that gave the connection its policy, if there are rules.
    pub rule: Option<Arc<str>>,
    /// The event, what the policy made of it, and what is done.
    pub text: String,
}

/// The last decisions for each connection, and for some that are over.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    decisions: BTreeMap<Token, VecDeque<Decision>>,
    closed: VecDeque<Token>,
    /// The rules that gave live connections their policies.
    rules: BTreeMap<Token, Arc<str>>,
    event: &'static str,
}

impl Journal {
    /// Notes the event at hand.
    pub fn at(&mut self, event: &'static str) {
        self.event = event;
    }

    /// The event at hand.
    pub fn event(&self) -> &'static str {
        self.event
    }

    /// Notes which rule gave a connection its policy.
    pub fn rule(&mut self, token: Token, rule: Option<Arc<str>>) {
        match rule {
            Some(rule) => self.rules.insert(token, rule),
            None => self.rules.remove(&token),
        };
    }

    /// Writes down which policy a connection was given. It is its first decision: it comes
    /// before those that have been written since.
    pub fn write_first(&mut self, time: Duration, token: Token, text: fmt::Arguments<'_>) {
        self.log(token, text);
        let decisions = self.decisions.entry(token).or_default();
        if decisions.len() < DECISIONS {
            decisions.push_front(Decision {
                time,
                event: self.event,
                rule: self.rules.get(&token).cloned(),
                text: text.to_string(),
            });
        }
    }

    pub fn write(&mut self, time: Duration, token: Token, text: fmt::Arguments<'_>) {
        self.log(token, text);
        let decisions = self.decisions.entry(token).or_default();
        let full = decisions.len() == DECISIONS;
        // The string of the decision that goes is used again.
        let oldest = if full { decisions.pop_front() } else { None };
        let mut decision = oldest.unwrap_or(Decision {
            time,
            event: self.event,
            rule: None,
            text: String::new(),
        });
        decision.time = time;
        decision.event = self.event;
        decision.rule = self.rules.get(&token).cloned();
        decision.text.clear();
        // Writing to a string does not fail.
        let _ = decision.text.write_fmt(text);
        decisions.push_back(decision);
    }

    fn log(&self, token: Token, text: fmt::Arguments<'_>) {
        let event = self.event;
        match self.rules.get(&token) {
            Some(rule) => log::info!(token:%, event, rule:% = rule; "{text}"),
            None => log::info!(token:%, event; "{text}"),
        }
    }

    /// Notes that a connection is over: its decisions are kept until [`CLOSED`] others are
    /// over too.
    pub fn close(&mut self, token: Token) {
        self.rules.remove(&token);
        if self.decisions.contains_key(&token) {
            self.closed.push_back(token);
            if self.closed.len() > CLOSED {
                let oldest = self.closed.pop_front();
                oldest.map(|token| self.decisions.remove(&token));
            }
        }
    }

    /// Notes that a connection with this token has begun: an earlier one is forgotten.
    pub fn open(&mut self, token: Token) {
        if !self.decisions.contains_key(&token) {
            return;
        }
        if let Some(at) = self.closed.iter().position(|&closed| closed == token) {
            self.closed.remove(at);
            self.decisions.remove(&token);
        }
    }

    /// The decisions for a connection, oldest first.
    pub fn decisions(&self, token: Token) -> impl Iterator<Item = &Decision> {
        self.decisions.get(&token).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(journal: &Journal, token: u32) -> Vec<&str> {
        let decisions = journal.decisions(Token(token));
        decisions.map(|d| d.text.as_str()).collect()
    }

    fn write(journal: &mut Journal, token: u32, text: &str) {
        journal.write(Duration::ZERO, Token(token), format_args!("{text}"));
    }

    #[test]
    fn the_last_decisions_are_kept() {
        let mut journal = Journal::default();
        for i in 0..40 {
            write(&mut journal, 1, &i.to_string());
        }
        let last: Vec<_> = (24..40).map(|i| i.to_string()).collect();
        assert_eq!(texts(&journal, 1), last);
    }

    #[test]
    fn closed_connections_are_kept_for_a_while() {
        let mut journal = Journal::default();
        for token in 0..100 {
            write(&mut journal, token, "opened");
            journal.close(Token(token));
        }
        assert!(texts(&journal, 35).is_empty());
        assert_eq!(texts(&journal, 36), ["opened"]);
        assert_eq!(journal.decisions.len(), CLOSED);
    }

    #[test]
    fn a_token_that_is_used_again_starts_afresh() {
        let mut journal = Journal::default();
        write(&mut journal, 1, "of the first");
        journal.close(Token(1));
        journal.open(Token(1));
        write(&mut journal, 1, "of the second");
        assert_eq!(texts(&journal, 1), ["of the second"]);
        assert!(journal.closed.is_empty());
    }
}
