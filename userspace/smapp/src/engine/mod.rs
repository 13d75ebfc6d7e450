// SPDX-License-Identifier: GPL-2.0
//! Runs a policy on a kernel: a table of the live connections, timers, and what was
//! decided.

mod context;
mod journal;
mod moves;
mod paths;
mod policy;
mod rate_limit;
mod table;
mod timers;

use std::time::Duration;

use self::journal::Journal;
use self::moves::Moves;
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

/// The shortest rest between two listings because events were lost; after a listing that
/// took long it is longer ([`SHARE`]).
const REST: Duration = Duration::from_millis(200);
/// Such listings take one part in so many of the time at most, whatever peers cause.
const SHARE: u32 = 5;

/// When routes change policies are told so much later, of all that changed until then:
/// a network manager sets several, a router changes them without end.
const ROUTES_SETTLE: Duration = Duration::from_millis(100);

/// After a listing that failed, the next one comes this much later.
const RECOVERY: Duration = Duration::from_secs(1);

/// A policy with the kernel that it acts on.
///
/// Single-threaded: [`run`](Self::run) waits, brings the table up to date,
/// tells the policy, and waits again. Here on a simulated kernel, whose end comes after a
/// minute of its own time; on the running one it is a [`Client`](crate::Client):
///
/// ```
/// use std::time::Duration;
///
/// use smapp::Engine;
/// use smapp::policy::fullmesh::{Fullmesh, Options};
/// use smapp::sim::Sim;
///
/// let kernel = Sim::new(Duration::from_secs(60));
/// let mut engine = Engine::new(kernel, Fullmesh::new(Options::default(), 1));
/// engine.run()?;
/// assert_eq!(engine.connections().count(), 0);
/// # Ok::<(), smapp::Error>(())
/// ```
pub struct Engine<K, P> {
    kernel: K,
    policy: P,
    table: Table,
    timers: Timers,
    journal: Journal,
    addresses: Vec<LocalAddress>,
    moves: Moves,
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
            moves: Moves::default(),
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

    /// How many timers of the policy are set.
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

    /// Attaches and runs until the kernel says stop. Fails if it cannot attach, or once the
    /// kernel cannot be used any more; what a command answers is for the policy.
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

    /// Registers for events and takes in the connections that exist. In this order nothing
    /// is missed. What an event and the listing both say is told once.
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
        if self.table.apply(event, self.kernel.now()) {
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
            // The events of its beginning are still to come.
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

    /// Tells the policy, if it has registered for such an event.
    fn tell(&mut self, notice: &Notice<'_>) {
        if notice.is_for(self.policy.events()) {
            self.journal.at(notice.word());
            let (policy, mut context) = self.split();
            policy.handle(&mut context, notice);
        }
    }

    /// Writes down that the policy is not told of an address that no host can have.
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
            (AddressChange::Up(_), None) => {
                self.addresses.push(address);
                self.moves.see(&address);
            }
            // Its interface has another name now, or it is deprecated.
            (AddressChange::Up(_), Some(at)) if self.addresses[at] != address => {
                self.addresses[at] = address;
            }
            (AddressChange::Down(_), Some(at)) => {
                let address = self.addresses.remove(at);
                return self.tell(&Notice::AddressDown(address));
            }
            // The listing told of it before its event came.
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
            moves: &self.moves,
            scope: None,
            at_hand: None,
        };
        (&mut self.policy, context)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{SubflowCreate, SubflowId};
    use crate::sim::Sim;

    struct Nothing;
    impl Policy for Nothing {}

    #[test]
    fn a_policy_with_some_connections_neither_sees_nor_touches_others() {
        let mut sim = Sim::new(Duration::from_secs(9));
        let server = "192.0.2.1:80".parse().unwrap();
        let local = "10.0.1.1:4000".parse().unwrap();
        let [ours, other] = [Token(1), Token(2)];
        for token in [ours, other] {
            let connection = Connection {
                token,
                ..Connection::default()
            };
            sim.created(connection, local, server);
            sim.established(token);
        }
        let mut engine = Engine::new(sim, Nothing);
        engine.attach().unwrap();
        let (_, mut context) = engine.split();
        let scope = BTreeSet::from([ours]);
        let mut context = context.within(&scope, None);
        assert!(context.connection(ours).is_some() && context.connection(other).is_none());
        assert_eq!(context.connections().count(), 1);
        let create = SubflowCreate::to(server).local_address(local.ip());
        let announced = Address {
            id: crate::model::AddressId(1),
            address: local.ip(),
            port: None,
        };
        let batch = context.subflow_create_all(other, &[create, create]);
        let refused = [
            context.query(other).err(),
            context.subflow_create(other, &create).err(),
            context.subflow_destroy(other, SubflowId(1)).err(),
            context.subflow_set_backup(other, SubflowId(1), true).err(),
            context.announce(other, local.ip(), None).err(),
            context.withdraw(other, &announced).err(),
        ];
        for error in refused
            .into_iter()
            .chain(batch.into_iter().map(Result::err))
        {
            assert!(
                matches!(error, Some(Error::NotOurs(token)) if token == other),
                "{error:?}"
            );
        }
        context.timer(other, Duration::from_secs(1), 0);
        context.explain(other, format_args!("not ours"));
        assert!(context.query(ours).is_ok());
        assert_eq!((engine.timers(), engine.decisions(other).count()), (0, 0));
        assert!(engine.kernel().commands().is_empty());
    }
}
