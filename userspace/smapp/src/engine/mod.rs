// SPDX-License-Identifier: GPL-2.0
//! Runs a policy on a kernel: a table of the live connections, timers, and what was
//! decided.

mod context;
mod journal;
mod paths;
mod policy;
mod rate_limit;
mod table;
mod timers;

use std::time::Duration;

use self::journal::Journal;
use self::table::{Reconciled, Table};
use self::timers::Timers;
use crate::kernel::{Error, Input, Kernel};
use crate::model::{
    Address, AddressChange, Connection, Event, EventKind, EventSet, LocalAddress, Token, What,
    changes, is_host,
};

pub use context::Context;
pub use journal::Decision;
pub use policy::{Notice, Policy};

/// The shortest time between two listings because events were lost; a listing that
/// took long is followed by a longer one ([`SHARE`]).
const REST: Duration = Duration::from_millis(200);
/// At most this part of the time goes into such listings, whatever peers cause: one
/// in so many.
const SHARE: u32 = 5;

/// When routes change policies are told so much later, of all that changed until then:
/// a network manager sets several, a router changes them without end.
const ROUTES_SETTLE: Duration = Duration::from_millis(100);

/// After a listing that failed, the next one comes this much later.
const RECOVERY: Duration = Duration::from_secs(1);

/// A policy with the kernel that it acts on.
///
/// Single-threaded: [`run`](Self::run) waits, brings the table up to date,
/// tells the policy, and waits again.
pub struct Engine<K, P> {
    kernel: K,
    policy: P,
    table: Table,
    timers: Timers,
    journal: Journal,
    addresses: Vec<LocalAddress>,
    woken: bool,
    /// When connections may be listed again, and whether they have to be.
    rest_until: Duration,
    lost: bool,
    /// When policies are told that routes have changed, if they have.
    routes_at: Option<Duration>,
}

impl<K: Kernel, P: Policy> Engine<K, P> {
    /// Makes an engine that does nothing yet.
    pub fn new(kernel: K, policy: P) -> Self {
        Self {
            kernel,
            policy,
            table: Table::default(),
            timers: Timers::default(),
            journal: Journal::default(),
            addresses: Vec::new(),
            woken: false,
            rest_until: Duration::ZERO,
            lost: false,
            routes_at: None,
        }
    }

    /// The kernel.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// The live connections.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.table.iter()
    }

    /// The last decisions of the policy for a connection, oldest first; also of
    /// the connections that were closed last.
    pub fn decisions(&self, token: Token) -> impl Iterator<Item = &Decision> {
        self.journal.decisions(token)
    }

    /// The number of timers that are set.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Lets the program talk to its policy, which may act on what it is
    /// told: `engine.control(|policy, context| ..)`.
    pub fn control<R>(&mut self, talk: impl FnOnce(&mut P, &mut Context<'_>) -> R) -> R {
        self.journal.at("control");
        let (policy, mut context) = self.split();
        talk(policy, &mut context)
    }

    /// Attaches and runs until the kernel says stop.
    pub fn run(&mut self) -> Result<(), Error> {
        self.attach()?;
        self.serve()
    }

    /// Runs, once attached, until the kernel says stop.
    pub fn serve(&mut self) -> Result<(), Error> {
        while self.step(None)? {}
        Ok(())
    }

    /// Waits for one input, at most until the clock of the kernel shows
    /// `until`, and acts on it; false if the kernel says stop. For a program
    /// that does other things in between.
    pub fn step(&mut self, until: Option<Duration>) -> Result<bool, Error> {
        let resync = self.lost.then_some(self.rest_until);
        let next = [self.timers.next(), until, resync, self.routes_at];
        match self.kernel.wait(next.into_iter().flatten().min())? {
            Input::Stop => return Ok(false),
            input => self.handle(input)?,
        }
        if self.routes_at.is_some_and(|at| self.kernel.now() >= at) {
            self.routes_at = None;
            self.tell(&Notice::RoutesChanged);
        }
        // Events that keep coming do not put it off.
        if self.lost && self.kernel.now() >= self.rest_until {
            self.resync()?;
        }
        Ok(true)
    }

    /// Whether an [`Input::Wake`] has come since this was asked last.
    pub fn woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// Registers for events and takes in the connections that exist. In this
    /// order there is no gap; what is in both is told once.
    pub fn attach(&mut self) -> Result<(), Error> {
        let events = EventSet::LIFE_CYCLE.union(self.policy.events());
        self.kernel.listen(events)?;
        self.kernel.watch_routes()?;
        match self.list() {
            // There are too many changes now: it is tried again like after a loss.
            Err(Error::Interrupted(what)) => {
                log::warn!("{what} was interrupted too often, trying again");
                self.lost = true;
                Ok(())
            }
            result => result,
        }
    }

    /// Acts on one input.
    pub fn handle(&mut self, input: Input) -> Result<(), Error> {
        match input {
            Input::Event(event) => self.event(&event)?,
            Input::Address(change) => self.address(change),
            Input::Routes => {
                let at = self.kernel.now() + ROUTES_SETTLE;
                self.routes_at.get_or_insert(at);
            }
            Input::Time => self.fire(),
            Input::Lost => {
                self.lost = true;
                if self.kernel.now() >= self.rest_until {
                    self.resync()?;
                }
            }
            Input::Wake => self.woken = true,
            Input::Stop => {}
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<(), Error> {
        let token = event.token;
        if let What::AddressAnnounced(address) = &event.what {
            if !is_host(address.address) {
                self.refuse_address(token, address);
                return Ok(());
            }
        }
        if let What::Closed = event.what {
            self.close(token);
            return Ok(());
        }
        if event.start().is_none() && self.table.get(token).is_none() {
            self.take_in(token)?;
        }
        if self.table.apply(event) {
            if event.start().is_some() {
                self.journal.open(token);
            }
            self.tell(&Notice::Event(event));
        }
        Ok(())
    }

    /// Takes in a connection whose beginning was not told, or is late.
    fn take_in(&mut self, token: Token) -> Result<(), Error> {
        match self.kernel.connection(token) {
            // Its beginning is still to come.
            Ok(connection) if connection.is_connecting() => {}
            Ok(connection) => self.attached(connection),
            Err(error @ Error::Unusable { .. }) => return Err(error),
            // It is over by now.
            Err(error) if error.is_final() => {}
            Err(error) => {
                log::warn!("{token}: {error}: listing the connections again");
                self.lost = true;
            }
        }
        Ok(())
    }

    fn attached(&mut self, connection: Connection) {
        let token = connection.token;
        self.table.insert(connection);
        self.journal.open(token);
        self.tell(&Notice::Attached(token));
    }

    fn close(&mut self, token: Token) {
        if let Some(connection) = self.table.close(token) {
            self.tell(&Notice::Closed(&connection));
            self.timers.end(token);
            self.journal.close(token);
        }
    }

    /// Tells the policy.
    fn tell(&mut self, notice: &Notice<'_>) {
        if notice.is_for(self.policy.events()) {
            self.journal.at(notice.word());
            let (policy, mut context) = self.split();
            policy.handle(&mut context, notice);
        }
    }

    /// No policy hears of an address that nobody may contact.
    fn refuse_address(&mut self, token: Token, address: &Address) {
        if self.table.get(token).is_some() {
            self.journal.at(EventKind::AddressAnnounced.word());
            let why = format_args!("add_addr {address}: not an address to contact");
            self.journal.write(self.kernel.now(), token, why);
        }
    }

    fn address(&mut self, change: AddressChange) {
        let address = *change.address();
        let same = |known: &LocalAddress| {
            (known.address, known.ifindex) == (address.address, address.ifindex)
        };
        let known = self.addresses.iter().position(same);
        match (change, known) {
            (AddressChange::Up(_), None) => self.addresses.push(address),
            // Its interface has another name now, or it is deprecated.
            (AddressChange::Up(_), Some(at)) if self.addresses[at] != address => {
                self.addresses[at] = address;
            }
            (AddressChange::Down(_), Some(at)) => {
                let address = self.addresses.remove(at);
                return self.tell(&Notice::AddressDown(address));
            }
            // A listing has told already.
            _ => return,
        }
        self.tell(&Notice::AddressUp(address));
    }

    fn fire(&mut self) {
        let now = self.kernel.now();
        while let Some((token, key)) = self.timers.pop(now) {
            if self.table.get(token).is_some() {
                self.tell(&Notice::Timer(token, key));
            }
        }
    }

    /// Tells the policy what it has missed. A listing that fails is tried again later.
    fn resync(&mut self) -> Result<(), Error> {
        log::warn!("events were lost: listing the connections again");
        self.lost = false;
        let start = self.kernel.now();
        let listed = self.list();
        let end = self.kernel.now();
        self.rest_until = end + REST.max((end - start) * (SHARE - 1));
        match listed {
            Err(error) if !matches!(error, Error::Unusable { .. }) => {
                log::warn!("{error}: trying again in {} s", RECOVERY.as_secs());
                self.lost = true;
                self.rest_until = end + RECOVERY;
                Ok(())
            }
            result => result,
        }
    }

    /// Brings addresses and connections up to date by what the kernel lists.
    fn list(&mut self) -> Result<(), Error> {
        let listed = self.kernel.addresses()?;
        let changes: Vec<_> = changes(&self.addresses, &listed).collect();
        for change in changes {
            self.address(change);
        }
        let mut listed = self.kernel.connections()?;
        // A listing can skip a connection that lives: ask before it is taken to be over.
        for token in self.table.missing_in(&listed) {
            match self.kernel.connection(token) {
                Ok(connection) => listed.push(connection),
                Err(error) if error.is_final() => {}
                Err(error) => return Err(error),
            }
        }
        let Reconciled {
            events,
            unadopted,
            unknown,
        } = self.table.reconcile(listed);
        for event in &events {
            self.event(event)?;
        }
        for connection in unknown {
            self.attached(connection);
        }
        for token in unadopted {
            if self.table.get(token).is_some() {
                self.tell(&Notice::Attached(token));
            }
        }
        Ok(())
    }

    fn split(&mut self) -> (&mut P, Context<'_>) {
        let context = Context {
            kernel: &mut self.kernel,
            table: &mut self.table,
            timers: &mut self.timers,
            journal: &mut self.journal,
            addresses: &self.addresses,
            scope: None,
        };
        (&mut self.policy, context)
    }
}
