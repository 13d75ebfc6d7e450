// SPDX-License-Identifier: GPL-2.0
//! What a policy is told.

use super::Context;
use crate::model::{
    Address, AddressIds, Connection, Event, EventKind, EventSet, LocalAddress, Subflow, Token, What,
};

/// A policy: it decides which subflows exist. An [`Engine`](super::Engine) tells it what
/// happens.
///
/// Callbacks run one at a time, and do nothing unless they are implemented. The table in
/// the context already contains what a callback tells. The paper calls a policy a
/// subflow controller.
///
/// One that announces a second local address on each connection that this host accepts:
///
/// ```
/// use std::net::IpAddr;
/// use std::time::Duration;
///
/// use smapp::sim::Sim;
/// use smapp::{Connection, Context, Engine, Policy, Token};
///
/// struct Announce(IpAddr);
///
/// impl Policy for Announce {
///     fn established(&mut self, context: &mut Context<'_>, token: Token) {
///         if context.connection(token).is_some_and(|c| c.server_side) {
///             match context.announce(token, self.0, None) {
///                 Ok(address) => context.explain(token, format_args!("announced {address}")),
///                 Err(error) => context.explain(token, format_args!("{error}")),
///             }
///         }
///     }
/// }
///
/// # let (local, remote) = ("10.0.1.1:80".parse().unwrap(), "10.0.9.1:4000".parse().unwrap());
/// let mut kernel = Sim::new(Duration::from_secs(1));
/// kernel.at(Duration::ZERO, move |kernel| {
///     let mut connection = Connection::default();
///     connection.server_side = true;
///     kernel.created(connection, local, remote);
///     kernel.established(Token::default());
/// });
/// let mut engine = Engine::new(kernel, Announce("10.0.2.1".parse().unwrap()));
/// engine.run()?;
/// let decision = engine.decisions(Token::default()).next().unwrap();
/// assert_eq!(decision.text, "announced id 1 10.0.2.1");
/// # Ok::<(), smapp::Error>(())
/// ```
#[allow(unused_variables)]
pub trait Policy {
    /// The events to register for beside the life cycle of connections, of subflows and of
    /// local addresses ([`EventSet::LIFE_CYCLE`]), which is always told.
    fn events(&self) -> EventSet {
        EventSet::default()
    }

    /// Takes whatever happens. By default it calls the callback for it.
    fn handle(&mut self, context: &mut Context<'_>, notice: &Notice<'_>) {
        notice.call(self, context);
    }

    /// Takes charge of a connection. [`attached`](Self::attached) and
    /// [`established`](Self::established) call it unless they are implemented, so it may
    /// come twice for one connection.
    fn adopt(&mut self, context: &mut Context<'_>, token: Token) {}

    /// A connection was there before the policy, or the events of its beginning were
    /// lost. Whether subflows can be added yet is not known: a command may answer
    /// ENOTCONN, and [`established`](Self::established) may still come.
    fn attached(&mut self, context: &mut Context<'_>, token: Token) {
        self.adopt(context, token);
    }

    /// A connection exists; no subflow can be added yet.
    fn created(&mut self, context: &mut Context<'_>, token: Token) {}

    /// Both hosts have confirmed Multipath TCP: subflows can be added.
    fn established(&mut self, context: &mut Context<'_>, token: Token) {
        self.adopt(context, token);
    }

    /// A connection is over, with the subflows it had last; or it goes to
    /// another policy, see [`Dispatch`](crate::rules::Dispatch), and its subflows stay.
    fn closed(&mut self, context: &mut Context<'_>, connection: &Connection) {}

    /// A subflow has joined.
    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {}

    /// A subflow is over or could not be set up; [`Subflow::errno`] tells why.
    fn subflow_closed(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {}

    /// The retransmission timer of a subflow has expired; [`Subflow::rto`] is the one now in
    /// force.
    fn timeout(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {}

    /// The peer has asked to use a subflow as backup only, or no longer so.
    fn subflow_priority(&mut self, context: &mut Context<'_>, token: Token, subflow: &Subflow) {}

    /// The peer has announced an address; [`Context::remote_addresses`] has
    /// all of them.
    fn address_announced(&mut self, context: &mut Context<'_>, token: Token, address: &Address) {}

    /// The peer has withdrawn the addresses with these numbers; the kernel
    /// closes the subflows to them.
    fn addresses_withdrawn(&mut self, context: &mut Context<'_>, token: Token, ids: AddressIds) {}

    /// A local address can be used from now on, or its interface has a new name, or it is
    /// deprecated now.
    fn address_up(&mut self, context: &mut Context<'_>, address: LocalAddress) {}

    /// A local address can no longer be used.
    fn address_down(&mut self, context: &mut Context<'_>, address: LocalAddress) {}

    /// Routes have changed: what had no route may have one.
    fn routes_changed(&mut self, context: &mut Context<'_>) {}

    /// A timer that was set for a live connection is due.
    fn timer(&mut self, context: &mut Context<'_>, token: Token, key: u32) {}
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    fn events(&self) -> EventSet {
        (**self).events()
    }

    fn handle(&mut self, context: &mut Context<'_>, notice: &Notice<'_>) {
        (**self).handle(context, notice);
    }
}

/// What a policy is told: an event, or what the engine makes of several.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// See [`Policy::attached`].
    Attached(Token),
    /// Something happened to a connection that lives.
    Event(&'a Event),
    /// See [`Policy::closed`].
    Closed(&'a Connection),
    /// See [`Policy::address_up`].
    AddressUp(LocalAddress),
    /// See [`Policy::address_down`].
    AddressDown(LocalAddress),
    /// See [`Policy::routes_changed`].
    RoutesChanged,
    /// See [`Policy::timer`].
    Timer(Token, u32),
}

impl Notice<'_> {
    /// The connection that it is about, if it is about one.
    pub fn token(&self) -> Option<Token> {
        match *self {
            Self::Attached(token) | Self::Timer(token, _) => Some(token),
            Self::Event(event) => Some(event.token),
            Self::Closed(connection) => Some(connection.token),
            Self::AddressUp(_) | Self::AddressDown(_) | Self::RoutesChanged => None,
        }
    }

    /// The word for what is at hand, as the journal has it: that of the event, or
    /// `attached`, `routes` or `timer`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Attached(_) => "attached",
            Self::Event(event) => event.kind().word(),
            Self::Closed(_) => EventKind::Closed.word(),
            Self::AddressUp(_) => EventKind::NewLocalAddress.word(),
            Self::AddressDown(_) => EventKind::DelLocalAddress.word(),
            Self::RoutesChanged => "routes",
            Self::Timer(..) => "timer",
        }
    }

    /// Whether a policy that has registered for `events` is told.
    pub fn is_for(&self, events: EventSet) -> bool {
        match self {
            Self::Event(event) => {
                let kind = event.kind();
                EventSet::LIFE_CYCLE.contains(kind) || events.contains(kind)
            }
            _ => true,
        }
    }

    /// Calls the callback of a policy, for one that has its own [`Policy::handle`].
    pub fn call<P: Policy + ?Sized>(&self, policy: &mut P, context: &mut Context<'_>) {
        let event = match *self {
            Self::Attached(token) => return policy.attached(context, token),
            Self::Closed(connection) => return policy.closed(context, connection),
            Self::AddressUp(address) => return policy.address_up(context, address),
            Self::AddressDown(address) => return policy.address_down(context, address),
            Self::RoutesChanged => return policy.routes_changed(context),
            Self::Timer(token, key) => return policy.timer(context, token, key),
            Self::Event(event) => event,
        };
        let token = event.token;
        match &event.what {
            What::Created(_) => policy.created(context, token),
            What::Established(_) => policy.established(context, token),
            What::SubflowEstablished(s) => policy.subflow_established(context, token, s),
            What::SubflowClosed(s) => policy.subflow_closed(context, token, s),
            What::Timeout(s) => policy.timeout(context, token, s),
            What::SubflowPriority(s) => policy.subflow_priority(context, token, s),
            What::AddressAnnounced(a) => policy.address_announced(context, token, a),
            What::AddressesWithdrawn(ids) => policy.addresses_withdrawn(context, token, *ids),
            // The engine makes it a notice of its own, with the connection.
            What::Closed => {}
        }
    }
}
