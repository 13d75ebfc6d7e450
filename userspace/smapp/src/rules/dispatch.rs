// SPDX-License-Identifier: GPL-2.0
//! Different policies for different connections.
//!
//! A connection is given to a policy by the first rule that matches it, when it
//! is established or found, and stays with it; each callback goes to the policy of its
//! connection. Rules that name the same policy with equal options share one
//! policy, also across a change of the rules: what it knows is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::cgroup::Cgroups;
use super::rule::{Facts, Rule};
use crate::engine::{Context, Notice, Policy};
use crate::kernel::Error;
use crate::model::{EventKind, EventSet, Token};
use crate::policy::PolicyOptions;

/// A policy that gives each connection to one of several policies.
pub struct Dispatch {
    rules: Vec<Governed>,
    policies: BTreeMap<PolicyId, Running>,
    connections: BTreeMap<Token, Assigned>,
    cgroups: Cgroups,
    seed: u64,
    next_id: PolicyId,
}

/// Number of a running policy, never reused.
type PolicyId = u32;

/// A rule that is in force, with its name to share and the policy that it gives.
struct Governed {
    rule: Rule,
    name: Arc<str>,
    policy: Option<PolicyId>,
}

struct Running {
    options: PolicyOptions,
    policy: Box<dyn Policy>,
    events: EventSet,
    connections: BTreeSet<Token>,
}

struct Assigned {
    facts: Facts,
    policy: Option<PolicyId>,
}

/// What follows from the rules for one connection.
struct Verdict {
    rule: Option<Arc<str>>,
    policy: Option<PolicyId>,
    word: &'static str,
    /// Subflows may leave what the program is bound to.
    unbind: bool,
}

impl Dispatch {
    /// The policies of these rules; `seed` determines what is random in them.
    pub fn new(rules: Vec<Rule>, seed: u64) -> Self {
        let mut dispatch = Self {
            rules: Vec::new(),
            policies: BTreeMap::new(),
            connections: BTreeMap::new(),
            cgroups: Cgroups::default(),
            seed,
            next_id: 0,
        };
        dispatch.take(rules);
        dispatch
    }

    /// Replaces the rules. Connections whose policy and options stay equal keep
    /// their policy and what it knows; others are handed over with their
    /// subflows as they are. On an error the old rules stay in force.
    pub fn reload(&mut self, context: &mut Context<'_>, rules: Vec<Rule>) -> Result<(), Error> {
        context.journal().at("reload");
        let before = std::mem::take(&mut self.rules);
        self.take(rules);
        if let Err(error) = context.listen(self.events()) {
            self.rules = before;
            self.forget_unused();
            return Err(error);
        }
        let tokens: Vec<_> = self.connections.keys().copied().collect();
        for token in tokens {
            self.judge_again(context, token);
        }
        self.forget_unused();
        Ok(())
    }

    /// Takes rules, starts the policies that do not run yet.
    fn take(&mut self, rules: Vec<Rule>) {
        for rule in rules {
            let policy = rule.policy.0.as_ref().map(|options| self.start(options));
            let name = rule.name.as_str().into();
            self.rules.push(Governed { rule, name, policy });
        }
    }

    fn start(&mut self, options: &PolicyOptions) -> PolicyId {
        let mut running = self.policies.iter();
        if let Some((&id, _)) = running.find(|(_, running)| running.options == *options) {
            return id;
        }
        let id = self.next_id;
        self.next_id += 1;
        let policy = options.policy(self.seed.wrapping_add(u64::from(id)));
        let running = Running {
            options: options.clone(),
            events: policy.events(),
            policy,
            connections: BTreeSet::new(),
        };
        self.policies.insert(id, running);
        id
    }

    fn forget_unused(&mut self) {
        let rules = &self.rules;
        self.policies
            .retain(|&id, _| rules.iter().any(|rule| rule.policy == Some(id)));
    }

    fn judge(&mut self, facts: &Facts) -> Verdict {
        let cgroups = &mut self.cgroups;
        let mut rules = self.rules.iter();
        let found = rules.find(|governed| governed.rule.matches(facts, cgroups));
        let policy = found.and_then(|governed| governed.policy);
        let rule = found.map(|governed| governed.name.clone());
        let running = policy.and_then(|id| self.policies.get(&id));
        let word = running.map_or("left alone", |running| running.options.word());
        let unbind = found.is_some_and(|governed| governed.rule.unbind);
        Verdict {
            rule,
            policy,
            word,
            unbind,
        }
    }

    /// Gives a connection to a policy when it is first seen, and says so.
    fn assign(&mut self, context: &mut Context<'_>, token: Token) -> Option<Verdict> {
        if self.connections.contains_key(&token) {
            return None;
        }
        let connection = context.connection(token)?;
        let mut facts = Facts::of(connection, context.addresses());
        // The event that says whose it is was lost: ask.
        if facts.owner.uid.is_none() {
            if let Ok(connection) = context.query(token) {
                facts = Facts::of(&connection, context.addresses());
            }
        }
        let verdict = self.judge(&facts);
        let policy = verdict.policy;
        context.unbind(token, verdict.unbind);
        context.journal().rule(token, verdict.rule.clone());
        self.connections.insert(token, Assigned { facts, policy });
        if let Some(running) = policy.and_then(|id| self.policies.get_mut(&id)) {
            running.connections.insert(token);
        }
        Some(verdict)
    }

    /// Holds changed rules against a connection.
    fn judge_again(&mut self, context: &mut Context<'_>, token: Token) {
        let Some(&Assigned { facts, policy: old }) = self.connections.get(&token) else {
            return;
        };
        let Verdict {
            rule,
            policy,
            word,
            unbind,
        } = self.judge(&facts);
        context.unbind(token, unbind);
        context.journal().rule(token, rule);
        if policy == old {
            return;
        }
        let Some(connection) = context.connection(token).cloned() else {
            return;
        };
        context.explain(token, format_args!("reload: now {word}"));
        if let Some(running) = old.and_then(|id| self.policies.get_mut(&id)) {
            running.connections.remove(&token);
            let context = &mut context.within(&running.connections, Some(token));
            running.policy.handle(context, &Notice::Closed(&connection));
        }
        context.cancel_all(token);
        if let Some(assigned) = self.connections.get_mut(&token) {
            assigned.policy = policy;
        }
        if let Some(running) = policy.and_then(|id| self.policies.get_mut(&id)) {
            running.connections.insert(token);
            let context = &mut context.within(&running.connections, Some(token));
            running.policy.handle(context, &Notice::Attached(token));
        }
    }

    /// Tells the policy of a connection, if it wants to know.
    fn route(&mut self, context: &mut Context<'_>, token: Token, notice: &Notice<'_>) {
        let mut verdict = self.assign(context, token);
        let time = context.now();
        // The verdict is written after the policy has acted, which must not wait for it. Only
        // in a log that is being read the order of the lines counts.
        if log::log_enabled!(log::Level::Info) {
            explain(context, time, token, verdict.take());
        }
        let policy = self.connections.get(&token).and_then(|a| a.policy);
        if let Some(running) = policy.and_then(|id| self.policies.get_mut(&id)) {
            running.tell(context, notice);
        }
        explain(context, time, token, verdict);
    }

    /// Tells the policy of a connection that it is over.
    fn close(&mut self, context: &mut Context<'_>, token: Token, notice: &Notice<'_>) {
        let assigned = self.connections.remove(&token);
        let policy = assigned.and_then(|assigned| assigned.policy);
        if let Some(running) = policy.and_then(|id| self.policies.get_mut(&id)) {
            running.connections.remove(&token);
            running.tell(context, notice);
        }
    }
}

impl Running {
    fn tell(&mut self, context: &mut Context<'_>, notice: &Notice<'_>) {
        if notice.is_for(self.events) {
            let context = &mut context.within(&self.connections, notice.token());
            self.policy.handle(context, notice);
        }
    }
}

/// Writes down which policy a connection was given, if it was.
fn explain(context: &mut Context<'_>, time: Duration, token: Token, verdict: Option<Verdict>) {
    let event = context.event();
    let mut write =
        |text: std::fmt::Arguments<'_>| context.journal().write_first(time, token, text);
    match verdict {
        Some(Verdict {
            rule: Some(rule),
            word,
            ..
        }) => write(format_args!("{event}: by rule {rule}: {word}")),
        Some(Verdict { rule: None, .. }) => {
            write(format_args!("{event}: no rule matches: left alone"));
        }
        None => {}
    }
}

impl Policy for Dispatch {
    fn events(&self) -> EventSet {
        let theirs = self.policies.values().map(|running| running.events);
        theirs.fold(EventSet::default(), EventSet::union)
    }

    fn handle(&mut self, context: &mut Context<'_>, notice: &Notice<'_>) {
        match (notice, notice.token()) {
            // Nothing can be done with a connection before it is established or found.
            (Notice::Event(event), _) if event.kind() == EventKind::Created => {}
            (Notice::Closed(_), Some(token)) => self.close(context, token, notice),
            (_, Some(token)) => self.route(context, token, notice),
            (_, None) => {
                for running in self.policies.values_mut() {
                    running.tell(context, notice);
                }
            }
        }
    }
}
