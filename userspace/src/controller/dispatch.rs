// SPDX-License-Identifier: GPL-2.0
//! Different policies for different connections.
//!
//! A connection is given to a policy by the first rule that matches it, when it
//! is first seen, and stays with it; each callback goes to the policy of its
//! connection. Rules that name the same policy with equal options share one
//! controller, also across a change of the rules: what it knows is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Context, Controller};
use crate::address::LocalAddress;
use crate::cgroup::Cgroups;
use crate::error::Error;
use crate::event::{EventKind, EventSet, Token};
use crate::message::{Address, AddressIds, Connection, Subflow};
use crate::policy::Policy;
use crate::rule::{Facts, Rule};

/// A controller that gives each connection to one of several policies.
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
    policy: Policy,
    controller: Box<dyn Controller>,
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
    /// their controller and what it knows; others are handed over with their
    /// subflows as they are. On an error the old rules stay in force.
    pub fn reload(&mut self, context: &mut Context<'_>, rules: Vec<Rule>) -> Result<(), Error> {
        context.journal.at("reload");
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
            let policy = rule.policy.0.as_ref().map(|policy| self.start(policy));
            let name = rule.name.as_str().into();
            self.rules.push(Governed { rule, name, policy });
        }
    }

    fn start(&mut self, policy: &Policy) -> PolicyId {
        let mut running = self.policies.iter();
        if let Some((&id, _)) = running.find(|(_, running)| running.policy == *policy) {
            return id;
        }
        let id = self.next_id;
        self.next_id += 1;
        let controller = policy.controller(self.seed.wrapping_add(u64::from(id)));
        let running = Running {
            policy: policy.clone(),
            events: controller.events(),
            controller,
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
        let word = running.map_or("left alone", |running| running.policy.word());
        Verdict { rule, policy, word }
    }

    /// Gives a connection to a policy when it is first seen, and says so.
    fn assign(&mut self, context: &mut Context<'_>, token: Token) -> Option<Verdict> {
        if self.connections.contains_key(&token) {
            return None;
        }
        let connection = context.connection(token)?;
        let mut facts = Facts::of(connection);
        // The event that tells whose it is was lost.
        if facts.owner.uid.is_none() {
            if let Ok(connection) = context.query(token) {
                facts.owner = connection.owner;
            }
        }
        let verdict = self.judge(&facts);
        let policy = verdict.policy;
        context.journal.rule(token, verdict.rule.clone());
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
        let Verdict { rule, policy, word } = self.judge(&facts);
        context.journal.rule(token, rule);
        if policy == old {
            return;
        }
        let Some(connection) = context.connection(token).cloned() else {
            return;
        };
        context.explain(token, format_args!("reload: now {word}"));
        if let Some(running) = old.and_then(|id| self.policies.get_mut(&id)) {
            running.connections.remove(&token);
            let context = &mut context.within(&running.connections);
            running.controller.closed(context, &connection);
        }
        context.timers.end(token);
        if let Some(assigned) = self.connections.get_mut(&token) {
            assigned.policy = policy;
        }
        if let Some(running) = policy.and_then(|id| self.policies.get_mut(&id)) {
            running.connections.insert(token);
            let context = &mut context.within(&running.connections);
            running.controller.attached(context, token);
        }
    }

    /// Hands a callback to the policy of a connection, if that has registered
    /// for `event`.
    fn route(
        &mut self,
        context: &mut Context<'_>,
        token: Token,
        event: Option<EventKind>,
        call: impl FnOnce(&mut dyn Controller, &mut Context<'_>),
    ) {
        let mut verdict = self.assign(context, token);
        let time = context.now();
        // Words come after deeds, unless somebody reads along.
        if log::log_enabled!(log::Level::Info) {
            explain(context, time, token, verdict.take());
        }
        let policy = self.connections.get(&token).and_then(|a| a.policy);
        let running = policy.and_then(|id| self.policies.get_mut(&id));
        let wants = |running: &&mut Running| event.is_none_or(|e| running.events.contains(e));
        if let Some(running) = running.filter(wants) {
            let context = &mut context.within(&running.connections);
            call(&mut *running.controller, context);
        }
        explain(context, time, token, verdict);
    }

    /// Hands a callback to each policy.
    fn route_all(
        &mut self,
        context: &mut Context<'_>,
        call: impl Fn(&mut dyn Controller, &mut Context<'_>),
    ) {
        for running in self.policies.values_mut() {
            let context = &mut context.within(&running.connections);
            call(&mut *running.controller, context);
        }
    }
}

/// Writes down which policy a connection was given, if it was.
fn explain(context: &mut Context<'_>, time: Duration, token: Token, verdict: Option<Verdict>) {
    let event = context.journal.event();
    let mut write = |text: std::fmt::Arguments<'_>| context.journal.write_first(time, token, text);
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

impl Controller for Dispatch {
    fn events(&self) -> EventSet {
        let ours = EventSet::of(&[EventKind::Established]);
        let theirs = self.policies.values().flat_map(|r| r.events.iter());
        theirs.fold(ours, EventSet::with)
    }

    fn attached(&mut self, context: &mut Context<'_>, token: Token) {
        self.route(context, token, None, |c, context| {
            c.attached(context, token)
        });
    }

    fn created(&mut self, context: &mut Context<'_>, token: Token) {
        let event = Some(EventKind::Created);
        self.route(context, token, event, |c, context| {
            c.created(context, token)
        });
    }

    fn established(&mut self, context: &mut Context<'_>, token: Token) {
        let event = Some(EventKind::Established);
        self.route(context, token, event, |c, context| {
            c.established(context, token)
        });
    }

    fn closed(&mut self, context: &mut Context<'_>, connection: &Connection) {
        let assigned = self.connections.remove(&connection.token);
        let policy = assigned.and_then(|assigned| assigned.policy);
        if let Some(running) = policy.and_then(|id| self.policies.get_mut(&id)) {
            running.connections.remove(&connection.token);
            let context = &mut context.within(&running.connections);
            running.controller.closed(context, connection);
        }
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let event = Some(EventKind::SubflowEstablished);
        self.route(context, token, event, |c, context| {
            c.subflow_established(context, token, subflow);
        });
    }

    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let event = Some(EventKind::SubflowClosed);
        self.route(context, token, event, |c, context| {
            c.subflow_closed(context, token, subflow);
        });
    }

    fn timeout(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let event = Some(EventKind::Timeout);
        self.route(context, token, event, |c, context| {
            c.timeout(context, token, subflow);
        });
    }

    fn subflow_priority(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {
        let event = Some(EventKind::SubflowPriority);
        self.route(context, token, event, |c, context| {
            c.subflow_priority(context, token, subflow);
        });
    }

    fn address_announced(&mut self, context: &mut Context<'_>, token: Token, address: &Address) {
        let event = Some(EventKind::AddressAnnounced);
        self.route(context, token, event, |c, context| {
            c.address_announced(context, token, address);
        });
    }

    fn addresses_withdrawn(&mut self, context: &mut Context<'_>, token: Token, ids: AddressIds) {
        let event = Some(EventKind::AddressesWithdrawn);
        self.route(context, token, event, |c, context| {
            c.addresses_withdrawn(context, token, ids);
        });
    }

    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        self.route_all(context, |c, context| c.address_up(context, address));
    }

    fn address_down(&mut self, context: &mut Context<'_>, address: LocalAddress) {
        self.route_all(context, |c, context| c.address_down(context, address));
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, key: u32) {
        self.route(context, token, None, |c, context| {
            c.timer(context, token, key);
        });
    }
}
