// SPDX-License-Identifier: GPL-2.0
//! Runs a controller on a kernel.

use crate::address::{AddressChange, LocalAddress};
use crate::backend::{Backend, Input};
use crate::controller::{Context, Controller};
use crate::error::Error;
use crate::event::{Event, EventKind};
use crate::message::Connection;
use crate::table::Table;
use crate::timer::Timers;

/// A controller with the kernel that it acts on.
///
/// Single-threaded: [`run`](Self::run) waits, brings the table up to date,
/// calls the controller, and waits again.
pub struct Engine<B, C> {
    backend: B,
    controller: C,
    table: Table,
    timers: Timers,
    addresses: Vec<LocalAddress>,
}

impl<B: Backend, C: Controller> Engine<B, C> {
    /// Makes an engine that does nothing yet.
    pub fn new(backend: B, controller: C) -> Self {
        Self {
            backend,
            controller,
            table: Table::default(),
            timers: Timers::default(),
            addresses: Vec::new(),
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

    /// Attaches and runs until the backend says stop.
    pub fn run(&mut self) -> Result<(), Error> {
        self.attach()?;
        self.serve()
    }

    /// Runs, once attached, until the backend says stop.
    pub fn serve(&mut self) -> Result<(), Error> {
        loop {
            match self.backend.wait(self.timers.next())? {
                Input::Stop => return Ok(()),
                input => self.handle(input)?,
            }
        }
    }

    /// Registers for events and takes in the connections that exist. In this
    /// order there is no gap; what is in both is told once.
    pub fn attach(&mut self) -> Result<(), Error> {
        self.backend
            .listen(self.controller.events().with(EventKind::Closed))?;
        self.addresses = self.backend.addresses()?;
        self.resync()
    }

    /// Acts on one input.
    pub fn handle(&mut self, input: Input) -> Result<(), Error> {
        match input {
            Input::Event(event) => self.event(&event),
            Input::Address(change) => self.address(change),
            Input::Time => self.fire(),
            Input::Lost => {
                log::warn!("events were lost: listing the connections again");
                self.resync()?;
            }
            Input::Stop => {}
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) {
        if !self.table.apply(event) {
            return;
        }
        let token = event.token();
        let over = match event {
            Event::Closed { .. } => self.table.close(token),
            _ => None,
        };
        let (controller, mut context) = self.split();
        let context = &mut context;
        match event {
            Event::Created { .. } => controller.created(context, token),
            Event::Established { .. } => controller.established(context, token),
            Event::Closed { .. } => {
                if let Some(connection) = over {
                    controller.closed(context, &connection);
                }
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

    fn address(&mut self, change: AddressChange) {
        match change {
            AddressChange::Up(address) => {
                self.addresses.push(address);
                let (controller, mut context) = self.split();
                controller.address_up(&mut context, address);
            }
            AddressChange::Down(address) => {
                self.addresses.retain(|known| *known != address);
                let (controller, mut context) = self.split();
                controller.address_down(&mut context, address);
            }
        }
    }

    fn fire(&mut self) {
        let now = self.backend.now();
        while let Some(token) = self.timers.pop(now) {
            if self.table.get(token).is_some() {
                let (controller, mut context) = self.split();
                controller.timer(&mut context, token);
            }
        }
    }

    /// Lists the connections and tells the controller what it has missed.
    fn resync(&mut self) -> Result<(), Error> {
        let listed = self.backend.connections()?;
        let (events, unknown) = self.table.reconcile(listed);
        for event in &events {
            self.event(event);
        }
        for connection in unknown {
            let token = connection.token;
            self.table.insert(connection);
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
            addresses: &self.addresses,
        };
        (&mut self.controller, context)
    }
}
