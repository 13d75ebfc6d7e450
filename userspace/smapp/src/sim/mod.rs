// SPDX-License-Identifier: GPL-2.0
//! A simulated kernel with a virtual clock, for trying policies on the host.
//!
//! A script says what the world does and when ([`Sim::at`]), and how subflows
//! from each local address fare ([`Sim::path`], [`Sim::loss`], [`Sim::forget`]),
//! which of them have a route ([`Sim::set_routed`]),
//! and how much the application writes ([`Sim::write`]). Time passes only while the
//! engine waits, so hours take milliseconds. The kernel's rules that matter to
//! a policy hold here too: which commands are refused, ids that are never
//! reused, events only for those who registered, and none of those lost unless the script
//! has them be ([`Sim::lose_events`], [`Sim::lose_next`]). A connection that has been
//! without a subflow for a minute ends; each try to join starts that minute anew.

mod kernel;
mod traffic;
mod transfer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::kernel::{CLOSE_TIMEOUT, Input};
use crate::model::{
    Address, AddressChange, AddressIds, Command, Connection, Errno, Event, EventSet, IfIndex,
    LocalAddress, Start, Subflow, SubflowCreate, SubflowId, TcpState, Token, What,
};
use crate::random::Random;

/// How a subflow fares that is opened from a local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It joins after this time.
    Joins(Duration),
    /// It fails after this time.
    Fails(Errno, Duration),
    /// The command is refused.
    Refused(Errno),
}

const SECOND: Duration = Duration::from_secs(1);

type Action = Box<dyn FnOnce(&mut Sim)>;

/// How a connection starts, with its initial subflow.
fn start(connection: &Connection, subflow: Subflow) -> Start {
    Start {
        deny_join_id0: connection.deny_join_id0,
        owner: connection.owner,
        subflow,
    }
}

/// The simulated kernel.
///
/// ```
/// use std::time::Duration;
///
/// use smapp::policy::ndiffports::{Ndiffports, Options};
/// use smapp::sim::Sim;
/// use smapp::{Connection, Engine, IfIndex, InterfaceName, LocalAddress, Token};
///
/// let (local, remote) = ("10.0.1.1:40000".parse().unwrap(), "10.0.3.1:80".parse().unwrap());
/// let mut sim = Sim::new(Duration::from_secs(60));
/// sim.address_up(LocalAddress {
///     address: "10.0.1.1".parse().unwrap(),
///     ifindex: IfIndex(2),
///     interface: InterfaceName::new(b"eth0"),
///     deprecated: false,
/// });
/// sim.at(Duration::from_secs(1), move |sim| {
///     let mut connection = Connection::default();
///     connection.token = Token(1);
///     sim.created(connection, local, remote);
///     sim.established(Token(1));
/// });
/// let mut engine = Engine::new(sim, Ndiffports::new(Options::default(), 1));
/// engine.run()?;
/// assert_eq!(engine.connections().next().unwrap().subflows.len(), 2);
/// # Ok::<(), smapp::Error>(())
/// ```
pub struct Sim {
    now: Duration,
    end: Duration,
    listening: EventSet,
    inputs: VecDeque<Input>,
    script: BTreeMap<(Duration, u64), Action>,
    connections: BTreeMap<Token, Connection>,
    established: BTreeSet<Token>,
    addresses: Vec<LocalAddress>,
    /// Local addresses that have an ID, and that of each initial subflow.
    announced: Vec<IpAddr>,
    initial: BTreeMap<Token, IpAddr>,
    paths: BTreeMap<IpAddr, Outcome>,
    /// Interfaces without a route for packets from an address.
    unrouted: BTreeSet<(IpAddr, IfIndex)>,
    /// Interfaces to which the routing tables lead packets from an address that are not
    /// bound.
    exits: BTreeMap<IpAddr, IfIndex>,
    /// Connections whose sockets take one family of addresses only.
    single_family: BTreeSet<Token>,
    watches_routes: bool,
    commands: Vec<(Duration, Command)>,
    listings: usize,
    count: u32,
    losing: bool,
    /// So many of the next inputs are lost.
    losing_next: u32,
    lost: bool,
    /// When a loss is told, and how long after it that is.
    told_at: Duration,
    told_after: Duration,
    lost_told: Option<Duration>,
    /// Connections without subflows, and when they end.
    ends: BTreeMap<Token, Duration>,
    cut_off: usize,
    transfer: transfer::Transfer,
    random: Random,
}

impl Sim {
    /// A kernel without addresses and connections, which says stop at `end`.
    pub fn new(end: Duration) -> Self {
        Self {
            now: Duration::ZERO,
            end,
            listening: EventSet::default(),
            inputs: VecDeque::new(),
            script: BTreeMap::new(),
            connections: BTreeMap::new(),
            established: BTreeSet::new(),
            addresses: Vec::new(),
            announced: Vec::new(),
            initial: BTreeMap::new(),
            paths: BTreeMap::new(),
            unrouted: BTreeSet::new(),
            exits: BTreeMap::new(),
            single_family: BTreeSet::new(),
            watches_routes: false,
            commands: Vec::new(),
            listings: 0,
            count: 0,
            losing: false,
            losing_next: 0,
            lost: false,
            told_at: Duration::ZERO,
            told_after: Duration::ZERO,
            lost_told: None,
            ends: BTreeMap::new(),
            cut_off: 0,
            transfer: transfer::Transfer::default(),
            random: Random::new(1),
        }
    }

    /// Has `action` happen at `time`.
    pub fn at(&mut self, time: Duration, action: impl FnOnce(&mut Self) + 'static) {
        self.count += 1;
        self.script
            .insert((time, u64::from(self.count)), Box::new(action));
    }

    /// Sets how subflows from `local` fare from now on; without this they join
    /// after 10 ms.
    pub fn path(&mut self, local: IpAddr, outcome: Outcome) {
        self.paths.insert(local, outcome);
    }

    /// Takes the routes over its interface from an address, or gives them back.
    pub fn set_routed(&mut self, local: LocalAddress, routed: bool) {
        let pair = (local.address, local.ifindex);
        match routed {
            true => self.unrouted.remove(&pair),
            false => self.unrouted.insert(pair),
        };
        if self.watches_routes {
            self.inputs.push_back(Input::Routes);
        }
    }

    /// Has packets from an address that are not bound leave by an interface, whatever
    /// interface has the address.
    pub fn set_exit(&mut self, address: IpAddr, ifindex: IfIndex) {
        self.exits.insert(address, ifindex);
    }

    /// The socket of a connection takes no addresses of the other family.
    pub fn take_one_family(&mut self, token: Token) {
        self.single_family.insert(token);
    }

    /// What is known of an address has changed: the name of its interface, or that it is
    /// deprecated.
    pub fn address_changed(&mut self, address: LocalAddress) {
        let same =
            |a: &&mut LocalAddress| (a.address, a.ifindex) == (address.address, address.ifindex);
        if let Some(known) = self.addresses.iter_mut().find(same) {
            *known = address;
            self.tell_address(AddressChange::Up(address));
        }
    }

    /// Gives the host an address.
    pub fn address_up(&mut self, address: LocalAddress) {
        self.addresses.push(address);
        self.tell_address(AddressChange::Up(address));
    }

    /// Takes an address from the host. Subflows stay, as in the kernel.
    pub fn address_down(&mut self, address: LocalAddress) {
        self.addresses.retain(|known| *known != address);
        self.tell_address(AddressChange::Down(address));
    }

    fn tell_address(&mut self, change: AddressChange) {
        if self.listening.contains(change.kind()) {
            self.deliver(Input::Address(change));
        }
    }

    /// A connection exists, with its initial subflow.
    pub fn created(&mut self, connection: Connection, local: SocketAddr, remote: SocketAddr) {
        let subflow = Subflow {
            id: self.next_id(),
            local_address: local.ip(),
            local_port: local.port(),
            remote_address: remote.ip(),
            remote_port: remote.port(),
            initial: true,
            active: !connection.server_side,
            state: Some(TcpState::ESTABLISHED),
            ..Subflow::default()
        };
        let connection = Connection {
            subflows: vec![subflow],
            ..connection
        };
        let token = connection.token;
        let start = start(&connection, subflow);
        self.connections.insert(token, connection);
        self.initial.insert(token, local.ip());
        self.emit(token, What::Created(start));
    }

    /// Both hosts of a connection have confirmed Multipath TCP.
    pub fn established(&mut self, token: Token) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let Some(&subflow) = connection.leading_subflow() else {
            return;
        };
        let start = start(connection, subflow);
        self.established.insert(token);
        self.emit(token, What::Established(start));
    }

    /// A connection is over.
    pub fn closed(&mut self, token: Token) {
        if self.connections.contains_key(&token) {
            self.emit(token, What::Closed);
            self.connections.remove(&token);
            self.established.remove(&token);
            self.initial.remove(&token);
            self.transfer.close(token);
            self.ends.remove(&token);
        }
    }

    /// The subflow from `local` is over.
    pub fn subflow_closed(&mut self, token: Token, local: IpAddr, errno: Errno) {
        let from_there = |s: &&Subflow| s.local_address == local;
        let connection = self.connections.get(&token);
        if let Some(id) = connection
            .and_then(|c| c.subflows.iter().find(from_there))
            .map(|s| s.id)
        {
            self.remove(token, id, errno);
        }
    }

    /// The peer resets the subflow from `local`, for a reason of RFC 8684
    /// section 3.6, which may pass or not.
    pub fn subflow_reset(&mut self, token: Token, local: IpAddr, reason: u8, transient: bool) {
        let connection = self.connections.get_mut(&token);
        let mut subflows = connection.into_iter().flat_map(|c| c.subflows.iter_mut());
        if let Some(subflow) = subflows.find(|s| s.local_address == local) {
            subflow.reset_reason = Some(reason);
            subflow.reset_transient = transient;
            let id = subflow.id;
            self.remove(token, id, Errno::ECONNRESET);
        }
    }

    /// The peer opens a subflow, which joins at once.
    pub fn peer_joins(&mut self, token: Token, local: SocketAddr, remote: SocketAddr) {
        let id = self.next_id();
        if let Some(connection) = self.connections.get_mut(&token) {
            self.ends.remove(&token);
            connection.subflows.push(Subflow {
                id,
                local_address: local.ip(),
                local_port: local.port(),
                remote_address: remote.ip(),
                remote_port: remote.port(),
                ..Subflow::default()
            });
            self.join(token, id);
        }
    }

    /// The peer asks to use the subflow from `local` as backup only, or no longer so.
    pub fn subflow_priority(&mut self, token: Token, local: IpAddr, backup: bool) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let mut subflows = connection.subflows.iter_mut();
        if let Some(subflow) = subflows.find(|s| s.local_address == local) {
            subflow.backup_peer = backup;
            let subflow = *subflow;
            self.emit(token, What::SubflowPriority(subflow));
        }
    }

    /// The peer announces an address.
    pub fn address_announced(&mut self, token: Token, address: Address) {
        self.emit(token, What::AddressAnnounced(address));
    }

    /// The peer withdraws addresses: the kernel closes the subflows to them.
    pub fn addresses_withdrawn(&mut self, token: Token, remote_ids: AddressIds) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let subflows = connection.subflows.iter();
        let to_them = subflows.filter(|s| remote_ids.contains(s.remote_id));
        let closing: Vec<_> = to_them.map(|s| s.id).collect();
        self.emit(token, What::AddressesWithdrawn(remote_ids));
        for id in closing {
            self.remove(token, id, Errno(0));
        }
    }

    /// From now on inputs are lost, or no longer lost.
    pub fn lose_events(&mut self, losing: bool) {
        self.losing = losing;
        self.tell_loss();
    }

    /// The next `count` inputs are lost, those after them are not.
    pub fn lose_next(&mut self, count: u32) {
        self.losing_next = count;
    }

    /// A loss is told so long after it, from now on: until then a reader that lags finds
    /// what was queued before and after it.
    pub fn tell_losses_after(&mut self, time: Duration) {
        self.told_after = time;
    }

    fn tell_loss(&mut self) {
        self.told_at = self.now + self.told_after;
        self.at(self.told_at, |_| {});
    }

    /// Hands an input to the reader, unless it is lost.
    fn deliver(&mut self, input: Input) {
        let lost = self.losing || self.losing_next > 0;
        self.losing_next = self.losing_next.saturating_sub(1);
        match lost {
            true => {
                self.lost = true;
                self.tell_loss();
            }
            false => self.inputs.push_back(input),
        }
    }

    /// Bytes of a connection that the peer has not acknowledged yet.
    pub fn waiting(&self, token: Token) -> u64 {
        self.transfer.streams.get(&token).map_or(0, |s| s.queue)
    }

    /// The live connections.
    pub fn live(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values()
    }

    /// How often a command closed the last subflow of a connection that had joined, although
    /// the policy could know that it was the last: no event was waiting or lost.
    pub fn cut_off(&self) -> usize {
        self.cut_off
    }

    /// Whether the host has an address.
    pub fn has_address(&self, address: LocalAddress) -> bool {
        self.addresses.contains(&address)
    }

    /// Whether both hosts of a connection have confirmed Multipath TCP.
    pub fn is_established(&self, token: Token) -> bool {
        self.established.contains(&token)
    }

    /// Whether no event is waiting or lost: nothing lost was told of within the last second,
    /// after which listings have shown what it was.
    pub fn is_quiet(&self) -> bool {
        let told = self.lost_told.is_none_or(|at| self.now > at + SECOND);
        self.inputs.is_empty() && !self.lost && told
    }

    /// The commands that came, refused ones too, and when.
    pub fn commands(&self) -> &[(Duration, Command)] {
        &self.commands
    }

    /// How often the connections were listed.
    pub fn listings(&self) -> usize {
        self.listings
    }

    fn next_id(&mut self) -> SubflowId {
        self.count += 1;
        SubflowId(self.count)
    }

    /// Tells of what happened to a connection that exists.
    fn emit(&mut self, token: Token, what: What) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let event = Event {
            token,
            server_side: connection.server_side,
            what,
        };
        if !self.listening.contains(event.kind()) {
            return;
        }
        self.deliver(Input::Event(event));
    }

    fn join(&mut self, token: Token, id: SubflowId) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        if let Some(subflow) = connection.subflows.iter_mut().find(|s| s.id == id) {
            subflow.state = Some(TcpState::ESTABLISHED);
            let subflow = *subflow;
            self.emit(token, What::SubflowEstablished(subflow));
        }
    }

    fn remove(&mut self, token: Token, id: SubflowId, errno: Errno) -> bool {
        let Some(connection) = self.connections.get_mut(&token) else {
            return false;
        };
        let Some(at) = connection.subflows.iter().position(|s| s.id == id) else {
            return false;
        };
        let subflow = connection.subflows.remove(at);
        self.transfer.end(token, id);
        let subflow = Subflow {
            errno: Some(errno),
            established: Some(subflow.has_joined()),
            state: Some(TcpState::CLOSE),
            ..subflow
        };
        let is_last = connection.subflows.is_empty();
        self.emit(token, What::SubflowClosed(subflow));
        if is_last {
            let end = self.now + CLOSE_TIMEOUT;
            self.ends.insert(token, end);
            self.at(end, move |sim| {
                if sim.ends.get(&token) == Some(&end) {
                    sim.closed(token);
                }
            });
        }
        true
    }

    /// Why the kernel would refuse to open this subflow.
    fn refusal(&self, token: Token, create: &SubflowCreate) -> Option<Errno> {
        let Some(connection) = self.connections.get(&token) else {
            return Some(Errno::ESRCH);
        };
        let initial = connection.subflows.iter().find(|s| s.initial);
        let joins_initial = initial.is_some_and(|s| s.remote() == create.remote);
        let has = |local| self.addresses.iter().any(|a| a.address == local);
        let first = connection.leading_subflow();
        let is_other = first.is_some_and(|s| s.remote_address.is_ipv4() != create.remote.is_ipv4());
        if connection.fallback {
            Some(Errno::EOPNOTSUPP)
        } else if !self.established.contains(&token) {
            Some(Errno::ENOTCONN)
        } else if is_other && self.single_family.contains(&token) {
            Some(Errno::EINVAL)
        } else if connection.deny_join_id0 && joins_initial {
            Some(Errno::EACCES)
        } else if !create.local_address.is_none_or(has) {
            Some(Errno::EADDRNOTAVAIL)
        } else {
            let mut bound = create.local_address.zip(create.ifindex).into_iter();
            let unrouted = bound.any(|pair| self.unrouted.contains(&pair));
            unrouted.then_some(Errno::ENETUNREACH)
        }
    }
}
