// SPDX-License-Identifier: GPL-2.0
//! Runs a controller on a kernel.

use std::time::Duration;

use crate::address::{self, AddressChange, LocalAddress};
use crate::backend::{Backend, Input};
use crate::controller::{Context, Controller};
use crate::destination;
use crate::error::Error;
use crate::event::{Event, EventKind, EventSet, Token};
use crate::journal::{Decision, Journal};
use crate::message::{Address, Connection};
use crate::table::Table;
use crate::timer::Timers;

/// The shortest time between two listings because events were lost; a listing that
/// took long is followed by a longer one ([`SHARE`]).
const REST: Duration = Duration::from_millis(200);
/// At most this part of the time goes into such listings, whatever peers cause: one
/// in so many.
const SHARE: u32 = 5;

/// A controller with the kernel that it acts on.
///
/// Single-threaded: [`run`](Self::run) waits, brings the table up to date,
/// calls the controller, and waits again.
pub struct Engine<B, C> {
    backend: B,
    controller: C,
    table: Table,
    timers: Timers,
    journal: Journal,
    addresses: Vec<LocalAddress>,
    woken: bool,
    /// When connections may be listed again, and whether they have to be.
    rest_until: Duration,
    lost: bool,
}

impl<B: Backend, C: Controller> Engine<B, C> {
    /// Makes an engine that does nothing yet.
    pub fn new(backend: B, controller: C) -> Self {
        Self {
            backend,
            controller,
            table: Table::default(),
            timers: Timers::default(),
            journal: Journal::default(),
            addresses: Vec::new(),
            woken: false,
            rest_until: Duration::ZERO,
            lost: false,
        }
    }

    /// The kernel.
    pub fn backend(&self) -> &B {
        &self.backend
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

    /// Lets the program talk to its controller, which may act on what it is
    /// told: `engine.control(|controller, context| ..)`.
    pub fn control<R>(&mut self, talk: impl FnOnce(&mut C, &mut Context<'_>) -> R) -> R {
        self.journal.at("control");
        let (controller, mut context) = self.split();
        talk(controller, &mut context)
    }

    /// Attaches and runs until the backend says stop.
    pub fn run(&mut self) -> Result<(), Error> {
        self.attach()?;
        self.serve()
    }

    /// Runs, once attached, until the backend says stop.
    pub fn serve(&mut self) -> Result<(), Error> {
        while self.step(None)? {}
        Ok(())
    }

    /// Waits for one input, at most until the clock of the backend shows
    /// `until`, and acts on it; false if the backend says stop. For a program
    /// that does other things in between.
    pub fn step(&mut self, until: Option<Duration>) -> Result<bool, Error> {
        let resync = self.lost.then_some(self.rest_until);
        let next = [self.timers.next(), until, resync];
        match self.backend.wait(next.into_iter().flatten().min())? {
            Input::Stop => return Ok(false),
            input => self.handle(input)?,
        }
        // Events that keep coming do not put it off.
        if self.lost && self.backend.now() >= self.rest_until {
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
        let always = [
            EventKind::Closed,
            EventKind::SubflowClosed,
            EventKind::NewLocalAddress,
            EventKind::DelLocalAddress,
        ];
        let events = self.controller.events();
        self.backend
            .listen(always.into_iter().fold(events, EventSet::with))?;
        self.addresses = self.backend.addresses()?;
        self.list_connections()
    }

    /// Acts on one input.
    pub fn handle(&mut self, input: Input) -> Result<(), Error> {
        match input {
            Input::Event(event) => self.event(&event),
            Input::Address(change) => self.address(change),
            Input::Time => self.fire(),
            Input::Lost => {
                self.lost = true;
                if self.backend.now() >= self.rest_until {
                    self.resync()?;
                }
            }
            Input::Wake => self.woken = true,
            Input::Stop => {}
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        let token = event.token();
        if let Event::AddressAnnounced { address, .. } = event {
            if !destination::is_host(address.address) {
                return self.refuse_address(token, address);
            }
        }
        if !self.table.apply(event) {
            return;
        }
        let over = match event {
            Event::Closed { .. } => self.table.close(token),
            _ => None,
        };
        if let Event::Created { .. } | Event::Established { .. } = event {
            self.journal.open(token);
        }
        self.journal.at(event.kind().word());
        let (controller, mut context) = self.split();
        let context = &mut context;
        match event {
            Event::Created { .. } => controller.created(context, token),
            Event::Established { .. } => controller.established(context, token),
            Event::Closed { .. } => {
                if let Some(connection) = over {
                    controller.closed(context, &connection);
                }
                self.timers.end(token);
                self.journal.close(token);
            }
            Event::SubflowEstablished { subflow, .. } => {
                controller.subflow_established(context, token, subflow);
            }
            Event::SubflowClosed { subflow, .. } => {
                controller.subflow_closed(context, token, subflow);
            }
            Event::Timeout { subflow, .. } => controller.timeout(context, token, subflow),
            Event::SubflowPriority { subflow, .. } => {
                controller.subflow_priority(context, token, subflow);
            }
            Event::AddressAnnounced { address, .. } => {
                controller.address_announced(context, token, address);
            }
            Event::AddressesWithdrawn { remote_ids, .. } => {
                controller.addresses_withdrawn(context, token, *remote_ids);
            }
        }
    }

    /// No policy hears of an address that nobody may contact.
    fn refuse_address(&mut self, token: Token, address: &Address) {
        if self.table.get(token).is_some() {
            self.journal.at(EventKind::AddressAnnounced.word());
            let why = format_args!("add_addr {address}: not an address to contact");
            self.journal.write(self.backend.now(), token, why);
        }
    }

    fn address(&mut self, change: AddressChange) {
        match change {
            AddressChange::Up(address) if !self.addresses.contains(&address) => {
                self.addresses.push(address);
                self.journal.at("new_local_addr");
                let (controller, mut context) = self.split();
                controller.address_up(&mut context, address);
            }
            AddressChange::Down(address) if self.addresses.contains(&address) => {
                self.addresses.retain(|known| *known != address);
                self.journal.at("del_local_addr");
                let (controller, mut context) = self.split();
                controller.address_down(&mut context, address);
            }
            // A listing has told already.
            _ => {}
        }
    }

    fn fire(&mut self) {
        let now = self.backend.now();
        self.journal.at("timer");
        while let Some((token, key)) = self.timers.pop(now) {
            if self.table.get(token).is_some() {
                let (controller, mut context) = self.split();
                controller.timer(&mut context, token, key);
            }
        }
    }

    /// Tells the controller what it has missed.
    fn resync(&mut self) -> Result<(), Error> {
        log::warn!("events were lost: listing the connections again");
        self.lost = false;
        let start = self.backend.now();
        let listed = self.backend.addresses()?;
        let changes: Vec<_> = address::changes(&self.addresses, &listed).collect();
        for change in changes {
            self.address(change);
        }
        self.list_connections()?;
        let end = self.backend.now();
        self.rest_until = end + REST.max((end - start) * (SHARE - 1));
        Ok(())
    }

    fn list_connections(&mut self) -> Result<(), Error> {
        let listed = self.backend.connections()?;
        let (events, unknown) = self.table.reconcile(listed);
        for event in &events {
            self.event(event);
        }
        for connection in unknown {
            let token = connection.token;
            self.table.insert(connection);
            self.journal.open(token);
            self.journal.at("attached");
            let (controller, mut context) = self.split();
            controller.attached(&mut context, token);
        }
        Ok(())
    }

    fn split(&mut self) -> (&mut C, Context<'_>) {
        let context = Context {
            backend: &mut self.backend,
            table: &mut self.table,
            timers: &mut self.timers,
            journal: &mut self.journal,
            addresses: &self.addresses,
            only: None,
        };
        (&mut self.controller, context)
    }
}
