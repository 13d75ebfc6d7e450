// SPDX-License-Identifier: GPL-2.0
//! What the engine tells a policy: everything, once, and after a loss of
//! events only what is true.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use smapp::sim::{Outcome, Sim};
use smapp::{
    Address, AddressId, AddressIds, Connection, Context, Engine, Errno, Event, EventSet, IfIndex,
    Input, InterfaceName, Kernel, LocalAddress, Owner, Policy, Start, Subflow, SubflowCreate,
    Token, What,
};

const TOKEN: Token = Token(7);
const OTHER: Token = Token(8);

type Log = Rc<RefCell<Vec<String>>>;

/// Writes down what it is told; asks for one subflow at each timer.
#[derive(Default)]
struct Recorder {
    log: Log,
    timer: Option<Duration>,
}

impl Recorder {
    fn note(&self, what: &str, token: Token) {
        self.log.borrow_mut().push(format!("{what} {}", token.0));
    }
}

impl Policy for Recorder {
    fn events(&self) -> EventSet {
        EventSet::ALL
    }

    fn attached(&mut self, _: &mut Context<'_>, token: Token) {
        self.note("attached", token);
    }

    fn created(&mut self, context: &mut Context<'_>, token: Token) {
        assert!(context.connection(token).is_some());
        self.note("created", token);
        if let Some(delay) = self.timer {
            context.timer(token, delay, 5);
        }
    }

    fn established(&mut self, _: &mut Context<'_>, token: Token) {
        self.note("estab", token);
    }

    fn closed(&mut self, context: &mut Context<'_>, connection: &Connection) {
        assert!(context.connection(connection.token).is_none());
        self.note("closed", connection.token);
    }

    fn subflow_established(&mut self, _: &mut Context<'_>, token: Token, _: &Subflow) {
        self.note("sub_estab", token);
    }

    fn subflow_closed(&mut self, _: &mut Context<'_>, token: Token, subflow: &Subflow) {
        self.note(
            &format!("sub_closed({:?})", subflow.errno.map(|e| e.0)),
            token,
        );
    }

    fn subflow_priority(&mut self, _: &mut Context<'_>, token: Token, subflow: &Subflow) {
        self.note(&format!("sub_priority({})", subflow.backup_peer), token);
    }

    fn address_announced(&mut self, context: &mut Context<'_>, token: Token, address: &Address) {
        let known = context.remote_addresses(token).count();
        self.note(&format!("add_addr({}, {known} known)", address.id), token);
    }

    fn addresses_withdrawn(&mut self, context: &mut Context<'_>, token: Token, ids: AddressIds) {
        let known = context.remote_addresses(token).count();
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        self.note(&format!("rem_addr({ids:?}, {known} known)"), token);
    }

    fn timer(&mut self, context: &mut Context<'_>, token: Token, key: u32) {
        assert_eq!(key, 5);
        self.note("timer", token);
        // Refused if the connection has closed and the event was lost.
        if let Ok(subflow) = context.subflow_create(token, &SubflowCreate::to(server())) {
            let known = context.connection(token).unwrap().subflow(subflow.id);
            assert_eq!(known, Some(&subflow), "it is in the table at once");
        }
    }
}

fn client() -> SocketAddr {
    "10.0.1.1:1000".parse().unwrap()
}

fn server() -> SocketAddr {
    "10.0.3.1:80".parse().unwrap()
}

fn open(sim: &mut Sim, token: Token) {
    let connection = {
        let mut connection = Connection::default();
        connection.token = token;
        connection
    };
    sim.created(connection, client(), server());
    sim.established(token);
}

fn sim() -> Sim {
    let mut sim = Sim::new(Duration::from_secs(100));
    sim.address_up(LocalAddress {
        address: client().ip(),
        ifindex: IfIndex(2),
        interface: InterfaceName::default(),
        deprecated: false,
    });
    sim
}

fn at(sim: &mut Sim, seconds: u64, action: impl FnOnce(&mut Sim) + 'static) {
    sim.at(Duration::from_secs(seconds), action);
}

/// Runs to the end; what was told, and whether the table equals the world.
fn run(sim: Sim, timer: Option<Duration>) -> Vec<String> {
    let log = Log::default();
    let mut engine = Engine::new(
        sim,
        Recorder {
            log: log.clone(),
            timer,
        },
    );
    engine.run().unwrap();
    let known: Vec<_> = engine.connections().collect();
    assert_eq!(known, engine.kernel().live().collect::<Vec<_>>());
    log.take()
}

#[test]
fn what_happens_is_told_in_order() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| open(sim, TOKEN));
    at(&mut sim, 2, |sim| {
        sim.subflow_closed(TOKEN, client().ip(), Errno::ECONNRESET)
    });
    at(&mut sim, 3, |sim| sim.closed(TOKEN));
    assert_eq!(
        run(sim, None),
        [
            "created 7",
            "estab 7",
            "sub_closed(Some(104)) 7",
            "closed 7"
        ]
    );
}

#[test]
fn what_was_there_before_is_attached() {
    let mut sim = sim();
    open(&mut sim, TOKEN);
    at(&mut sim, 3, |sim| sim.closed(TOKEN));
    assert_eq!(run(sim, None), ["attached 7", "closed 7"]);
}

#[test]
fn an_event_that_the_listing_has_overtaken_is_not_told() {
    let mut sim = sim();
    open(&mut sim, TOKEN);
    let log = Log::default();
    let mut engine = Engine::new(
        sim,
        Recorder {
            log: log.clone(),
            timer: None,
        },
    );
    engine.attach().unwrap();
    let connection = engine.connections().next().unwrap().clone();
    let subflow = connection.subflows[0];
    let gone = {
        let mut subflow = subflow;
        subflow.id = smapp::SubflowId(99);
        subflow
    };
    let start = Start {
        deny_join_id0: false,
        owner: Owner::default(),
        subflow,
    };
    for (token, what) in [
        (TOKEN, What::Created(start)),
        (TOKEN, What::SubflowClosed(gone)),
        (TOKEN, What::SubflowEstablished(subflow)),
        (OTHER, What::Closed),
        (OTHER, What::SubflowClosed(subflow)),
        (TOKEN, What::Timeout(gone)),
    ] {
        let event = Event {
            token,
            server_side: false,
            what,
        };
        engine.handle(Input::Event(event)).unwrap();
    }
    assert_eq!(log.take(), ["attached 7"]);
    assert_eq!(engine.connections().collect::<Vec<_>>(), [&connection]);
}

#[test]
fn estab_is_told_once_even_if_the_connection_was_attached() {
    let mut sim = sim();
    open(&mut sim, TOKEN);
    let log = Log::default();
    let mut engine = Engine::new(
        sim,
        Recorder {
            log: log.clone(),
            timer: None,
        },
    );
    engine.attach().unwrap();
    let subflow = engine.connections().next().unwrap().subflows[0];
    for _ in 0..2 {
        let event = Event {
            token: TOKEN,
            server_side: false,
            what: What::Established(Start {
                deny_join_id0: false,
                owner: Owner::default(),
                subflow,
            }),
        };
        engine.handle(Input::Event(event)).unwrap();
    }
    assert_eq!(log.take(), ["attached 7", "estab 7"]);
}

#[test]
fn joins_before_estab_do_not_hide_the_initial_subflow() {
    struct Joins(Log);
    impl Policy for Joins {
        fn established(&mut self, context: &mut Context<'_>, token: Token) {
            let known = context.connection(token).unwrap().subflows.len();
            self.0.borrow_mut().push(format!("estab, {known} subflows"));
        }
    }
    let mut sim = sim();
    let connection = {
        let mut connection = Connection::default();
        connection.token = TOKEN;
        connection.server_side = true;
        connection
    };
    at(&mut sim, 1, move |sim| {
        sim.created(connection, server(), client());
        (0..2).for_each(|_| sim.peer_joins(TOKEN, server(), client()));
        sim.established(TOKEN);
    });
    let log = Log::default();
    Engine::new(sim, Joins(log.clone())).run().unwrap();
    assert_eq!(log.take(), ["estab, 3 subflows"]);
}

#[test]
fn lost_closes_are_told_after_the_loss() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| open(sim, TOKEN));
    at(&mut sim, 2, |sim| sim.lose_events(true));
    at(&mut sim, 3, |sim| sim.closed(TOKEN));
    at(&mut sim, 4, |sim| sim.lose_events(false));
    assert_eq!(run(sim, None), ["created 7", "estab 7", "closed 7"]);
}

#[test]
fn a_lost_connection_is_attached_after_the_loss() {
    let mut sim = sim();
    at(&mut sim, 2, |sim| sim.lose_events(true));
    at(&mut sim, 3, |sim| open(sim, TOKEN));
    at(&mut sim, 4, |sim| sim.lose_events(false));
    at(&mut sim, 5, |sim| open(sim, OTHER));
    assert_eq!(run(sim, None), ["attached 7", "created 8", "estab 8"]);
}

#[test]
fn a_subflow_that_closed_unheard_has_no_errno() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| open(sim, TOKEN));
    at(&mut sim, 2, |sim| sim.lose_events(true));
    // Not long before the end: a connection without subflows ends too.
    at(&mut sim, 90, |sim| {
        sim.subflow_closed(TOKEN, client().ip(), Errno::ECONNRESET)
    });
    at(&mut sim, 91, |sim| sim.lose_events(false));
    assert_eq!(
        run(sim, None),
        ["created 7", "estab 7", "sub_closed(None) 7"]
    );
}

#[test]
fn a_subflow_that_joined_unheard_is_told_after_the_loss() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| open(sim, TOKEN));
    at(&mut sim, 3, |sim| sim.lose_events(true));
    at(&mut sim, 9, |sim| sim.lose_events(false));
    let told = run(sim, Some(Duration::from_secs(5)));
    assert_eq!(told, ["created 7", "estab 7", "timer 7", "sub_estab 7"]);
}

#[test]
fn a_subflow_that_another_program_is_opening_is_known_after_the_loss() {
    let mut sim = sim();
    sim.path(client().ip(), Outcome::Joins(Duration::from_secs(1000)));
    at(&mut sim, 1, |sim| open(sim, TOKEN));
    at(&mut sim, 2, |sim| sim.lose_events(true));
    at(&mut sim, 3, |sim| {
        sim.subflow_create(TOKEN, &SubflowCreate::to(server()))
            .unwrap();
        sim.subflow_closed(TOKEN, client().ip(), Errno::ECONNRESET);
    });
    at(&mut sim, 91, |sim| sim.lose_events(false));
    assert_eq!(
        run(sim, None),
        ["created 7", "estab 7", "sub_closed(None) 7"]
    );
}

#[test]
fn a_token_used_again_during_the_loss_ends_in_the_same_table() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| open(sim, TOKEN));
    at(&mut sim, 2, |sim| sim.lose_events(true));
    at(&mut sim, 3, |sim| sim.closed(TOKEN));
    at(&mut sim, 4, |sim| open(sim, TOKEN));
    at(&mut sim, 5, |sim| sim.lose_events(false));
    let told = run(sim, None);
    assert_eq!(told[..2], ["created 7", "estab 7"]);
    assert!(told.len() > 2, "the change was not told");
}

#[test]
fn a_timer_dies_with_its_connection() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| open(sim, TOKEN));
    at(&mut sim, 2, |sim| sim.closed(TOKEN));
    let told = run(sim, Some(Duration::from_secs(5)));
    assert_eq!(told, ["created 7", "estab 7", "closed 7"]);
}

#[test]
fn random_histories_with_losses_end_in_the_same_table() {
    let mut random = 1u64;
    let mut below = move |n: u64| {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (random >> 33) % n
    };
    for _ in 0..300 {
        let mut sim = sim();
        for second in 1..60 {
            let token = Token(below(4) as u32);
            match below(6) {
                0 | 1 => at(&mut sim, second, move |sim| {
                    if sim.live().all(|c| c.token != token) {
                        open(sim, token);
                    }
                }),
                2 => at(&mut sim, second, move |sim| sim.closed(token)),
                3 => at(&mut sim, second, move |sim| {
                    sim.subflow_closed(token, client().ip(), Errno::ETIMEDOUT);
                }),
                4 => at(&mut sim, second, |sim| sim.lose_events(true)),
                _ => at(&mut sim, second, |sim| sim.lose_events(false)),
            }
        }
        at(&mut sim, 70, |sim| sim.lose_events(false));
        // That the table equals the world in the end is asserted in here.
        let told = run(sim, Some(Duration::from_secs(2)));
        assert!(!told.is_empty());
    }
}

#[test]
fn the_life_cycle_is_told_whatever_a_policy_registers_for() {
    struct Closes(Log);
    impl Policy for Closes {
        fn established(&mut self, _: &mut Context<'_>, _: Token) {
            self.0.borrow_mut().push("estab".to_owned());
        }
        fn closed(&mut self, _: &mut Context<'_>, _: &Connection) {
            self.0.borrow_mut().push("closed".to_owned());
        }
    }
    let mut sim = sim();
    open(&mut sim, TOKEN);
    at(&mut sim, 1, |sim| open(sim, OTHER));
    at(&mut sim, 2, |sim| sim.closed(TOKEN));
    let log = Log::default();
    Engine::new(sim, Closes(log.clone())).run().unwrap();
    assert_eq!(log.take(), ["estab", "closed"]);
}

/// An address of the peer.
fn remote(id: u8) -> Address {
    Address {
        id: AddressId(id),
        address: IpAddr::from([10, 0, 4, id]),
        port: None,
    }
}

#[test]
fn the_peers_addresses_are_kept_until_they_are_withdrawn() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| {
        open(sim, TOKEN);
        for id in [1, 2, 3, 3] {
            sim.address_announced(TOKEN, remote(id));
        }
    });
    at(&mut sim, 2, |sim| {
        let ids = [1, 3, 200].map(AddressId).into_iter().collect();
        sim.addresses_withdrawn(TOKEN, ids);
    });
    assert_eq!(
        run(sim, None),
        [
            "created 7",
            "estab 7",
            "add_addr(1, 1 known) 7",
            "add_addr(2, 2 known) 7",
            "add_addr(3, 3 known) 7",
            "rem_addr([1, 3, 200], 1 known) 7",
        ]
    );
}

#[test]
fn every_number_of_an_address_is_kept_once() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| {
        open(sim, TOKEN);
        for _ in 0..2 {
            (0..=u8::MAX).for_each(|id| sim.address_announced(TOKEN, remote(id)));
        }
    });
    let told = run(sim, None);
    assert_eq!(told.len(), 2 + 256, "what is known is no news");
    assert_eq!(told.last().unwrap(), "add_addr(255, 256 known) 7");
}

#[test]
fn a_priority_is_told_once_and_after_a_loss() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| {
        open(sim, TOKEN);
        for backup in [true, true, false] {
            sim.subflow_priority(TOKEN, client().ip(), backup);
        }
        sim.lose_events(true);
    });
    at(&mut sim, 2, |sim| {
        sim.subflow_priority(TOKEN, client().ip(), true);
    });
    at(&mut sim, 3, |sim| sim.lose_events(false));
    assert_eq!(
        run(sim, None),
        [
            "created 7",
            "estab 7",
            "sub_priority(true) 7",
            "sub_priority(false) 7",
            "sub_priority(true) 7",
        ]
    );
}

/// The guest's tests run it.
#[test]
fn the_policy_on_the_page_is_the_example() {
    let example = include_str!("../examples/on_trouble.rs");
    let (_, example) = example.split_once("use std::time").unwrap();
    let page = include_str!("../../../docs/policies.md");
    assert!(page.contains(&format!("```rust,no_run\nuse std::time{example}```")));
}

/// Closes each subflow that has joined, twice.
struct Twice;

impl Policy for Twice {
    fn established(&mut self, context: &mut Context<'_>, token: Token) {
        context
            .subflow_create(token, &SubflowCreate::to(server()))
            .unwrap();
    }

    fn subflow_established(&mut self, context: &mut Context<'_>, token: Token, s: &Subflow) {
        context.subflow_destroy(token, s.id).unwrap();
        assert!(context.connection(token).unwrap().subflow(s.id).is_some());
        context.subflow_destroy(token, s.id).unwrap();
    }
}

#[test]
fn a_subflow_that_is_over_already_is_no_error() {
    let mut sim = sim();
    at(&mut sim, 1, |sim| open(sim, TOKEN));
    let mut engine = Engine::new(sim, Twice);
    engine.run().unwrap();
    assert_eq!(engine.kernel().commands().len(), 3);
}
