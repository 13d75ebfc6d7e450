// SPDX-License-Identifier: GPL-2.0
//! Messages to the family, right ones and wrong ones.
//!
//! Most start as a request that is right in every attribute, about things that exist;
//! then some of them are broken in one to three ways. Of many ways it is known that
//! the request must be refused.

use std::net::IpAddr;

use fastrand::Rng;
use smapp::wire::uapi::{VERSION, cmd};
use smapp::wire::{ACK, DUMP, Request};

use super::attribute::{Attribute, Kind};
use super::grammar::{ADDRESS, COMMANDS, CONNECTION, SUBFLOW};

/// What exists, for messages to be about.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Connections that may be done anything to, with the ids of their subflows.
    pub victims: Vec<(u32, Vec<u32>)>,
    /// Connections of which only questions are asked.
    pub bystanders: Vec<u32>,
    /// Addresses of this host and of others.
    pub addresses: Vec<IpAddr>,
    /// Ports of subflows and of listeners.
    pub ports: Vec<u16>,
}

/// What must come of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It succeeds.
    Success,
    /// An errno.
    Refusal,
    /// One or the other.
    Any,
}

/// Bytes to send, and what must come of them.
#[derive(Clone, Debug)]
pub struct Fuzzed {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The index of the command in [`COMMANDS`] that it began as.
    pub command: usize,
    /// What must come of it.
    pub expected: Expected,
}

/// What a request may have of a subflow and of an address; the rest is for answers.
const IN_REQUESTS: [&str; 12] = [
    "id",
    "local-address",
    "local-port",
    "remote-address",
    "remote-port",
    "remote-id",
    "ifindex",
    "backup",
    "reset",
    "token",
    "address",
    "port",
];

/// An attribute on its way.
#[derive(Clone, Debug)]
struct Node {
    number: u16,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Bytes(Vec<u8>),
    Nest(Vec<Node>),
}

/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;

/// Makes messages.
#[derive(Debug)]
pub struct Generator {
    random: Rng,
    family: u16,
}

impl Generator {
    /// For the family with this id; `seed` determines all messages.
    pub fn new(seed: u64, family: u16) -> Self {
        Generator {
            random: Rng::with_seed(seed),
            family,
        }
    }

    /// The next message, numbered `seq`.
    pub fn message(&mut self, world: &World, seq: u32) -> Fuzzed {
        let command = self.random.usize(..COMMANDS.len());
        let (mut nodes, mut expected) = self.request(world, command);
        let (mut kind, mut flags, mut version) = (self.family, ACK, VERSION);
        let mut number = COMMANDS[command].number;
        let refused = |expected: &mut Expected| *expected = Expected::Refusal;
        if self.random.u8(..) < 150 {
            for change in 0..self.random.u8(1..=3) {
                expected = match self.mutate(&mut nodes, expected) {
                    // It may have mended what the one before broke.
                    _ if change > 0 => Expected::Any,
                    changed => changed,
                };
            }
        }
        match self.random.u8(..) {
            0..6 => {
                number = self.other_command();
                refused(&mut expected);
            }
            // A dump takes no attributes, and only connections are dumped.
            6..14 => {
                flags |= DUMP;
                match command == 0 && nodes.is_empty() {
                    true => expected = Expected::Any,
                    false => refused(&mut expected),
                }
            }
            14..18 => {
                version = self.random.u8(..);
                expected = weaker(expected);
            }
            18..22 => {
                kind = self.random.choice([0, 1, 2, 3, 4, 15, 0xffff]).unwrap_or(0);
                expected = Expected::Any;
            }
            22..26 => {
                flags |= self.random.u16(..) & !(ACK | 0x0300);
                expected = weaker(expected);
            }
            _ => {}
        }
        let mut bytes = Vec::new();
        let request = Request::generic(&mut bytes, kind, flags, seq, number, version);
        fill(request, &nodes).finish();
        if self.random.u8(..) < 20 {
            self.damage(&mut bytes);
            expected = Expected::Any;
        }
        Fuzzed {
            bytes,
            command,
            expected,
        }
    }

    /// A request that is right, and whether it must succeed.
    fn request(&mut self, world: &World, command: usize) -> (Vec<Node>, Expected) {
        let command = &COMMANDS[command];
        let ask = command.number == cmd::CONN_GET && self.random.bool();
        let victim = self.random.choice(&world.victims);
        let bystander = self.random.choice(&world.bystanders);
        let (token, ids, expected) = match (ask, victim, bystander) {
            (true, _, Some(&token)) => (token, &[][..], Expected::Success),
            (_, Some((token, ids)), _) => (*token, &ids[..], Expected::Any),
            _ => (0, &[][..], Expected::Any),
        };
        let nodes = command.request.iter().filter_map(|&name| {
            let attribute = CONNECTION.iter().find(|a| a.name == name)?;
            let value = match name {
                "token" => Value::Bytes(token.to_ne_bytes().to_vec()),
                _ => Value::Nest(self.nest(world, attribute, command.number, ids)),
            };
            Some(Node {
                number: attribute.number,
                value,
            })
        });
        let expected = match command.number {
            cmd::STATS_GET => Expected::Success,
            _ => expected,
        };
        (nodes.collect(), expected)
    }

    /// What a request says of a subflow or an address.
    fn nest(
        &mut self,
        world: &World,
        attribute: &Attribute,
        command: u8,
        ids: &[u32],
    ) -> Vec<Node> {
        let Kind::Nest(set) = attribute.kind else {
            return Vec::new();
        };
        let (needed, optional): (&[&str], &[&str]) = match command {
            cmd::SUBFLOW_CREATE => (
                &["remote-address", "remote-port"],
                &[
                    "local-address",
                    "local-port",
                    "remote-id",
                    "ifindex",
                    "backup",
                ],
            ),
            cmd::SUBFLOW_DESTROY if self.random.u8(..) < 40 => (
                &[
                    "local-address",
                    "local-port",
                    "remote-address",
                    "remote-port",
                ],
                &["reset"],
            ),
            cmd::SUBFLOW_DESTROY => (&["id"], &["reset"]),
            cmd::SUBFLOW_SET => (&["id"], &["backup"]),
            cmd::ANNOUNCE => (&["address"], &["port"]),
            _ => (&["id", "address"], &["port"]),
        };
        let mut nodes = Vec::new();
        for attribute in set {
            let wanted = needed.contains(&attribute.name)
                || optional.contains(&attribute.name) && self.random.bool();
            if wanted {
                nodes.push(self.node(world, attribute, ids));
            }
        }
        nodes
    }

    /// An attribute with a value of its type, likely of something that exists.
    fn node(&mut self, world: &World, attribute: &Attribute, ids: &[u32]) -> Node {
        let random = &mut self.random;
        let some = random.u8(..);
        let bytes = match (attribute.kind, attribute.name) {
            (Kind::Flag | Kind::Nest(_), _) => vec![],
            (Kind::U8, _) => vec![random.u8(..8)],
            (Kind::U32, "id") if some < 240 => {
                random.choice(ids).unwrap_or(&0).to_ne_bytes().to_vec()
            }
            (Kind::U32, "ifindex") => random.u32(..5).to_ne_bytes().to_vec(),
            (Kind::U32, _) => random.u32(..).to_ne_bytes().to_vec(),
            (Kind::U64, _) => random.u64(..).to_ne_bytes().to_vec(),
            (Kind::Port, _) if some < 200 => random
                .choice(&world.ports)
                .unwrap_or(&1)
                .to_be_bytes()
                .to_vec(),
            (Kind::Port, _) => random.u16(..).to_be_bytes().to_vec(),
            (Kind::Address, _) if some < 240 => match random.choice(&world.addresses) {
                Some(IpAddr::V4(address)) => address.octets().to_vec(),
                Some(IpAddr::V6(address)) => address.octets().to_vec(),
                None => vec![],
            },
            (Kind::Address | Kind::Binary | Kind::String, _) => self.noise(20),
        };
        Node {
            number: attribute.number,
            value: Value::Bytes(bytes),
        }
    }

    /// Breaks one attribute, at the top or in a nest.
    fn mutate(&mut self, top: &mut Vec<Node>, expected: Expected) -> Expected {
        let nest = self.random.bool();
        let (set, nodes): (&[Attribute], &mut Vec<Node>) = match (nest, top.last_mut()) {
            (
                true,
                Some(Node {
                    number,
                    value: Value::Nest(nodes),
                }),
            ) => {
                let subflow = CONNECTION
                    .iter()
                    .any(|a| a.number == *number && a.name == "subflow");
                (if subflow { &SUBFLOW } else { &ADDRESS }, nodes)
            }
            _ => (&CONNECTION, top),
        };
        let at = self.random.usize(..nodes.len().max(1));
        match self.random.u8(..10) {
            // One that nobody knows.
            0 => {
                let number = self.random.u16(set.len() as u16 + 1..0x3fff);
                let value = Value::Bytes(self.noise(40));
                nodes.insert(at, Node { number, value });
                Expected::Refusal
            }
            // One that only answers have.
            1 => {
                let answers = set.iter().filter(|a| !IN_REQUESTS.contains(&a.name));
                let answers = answers.filter(|a| !matches!(a.kind, Kind::Nest(_)));
                let Some(attribute) = self.random.choice(answers.collect::<Vec<_>>()) else {
                    return expected;
                };
                let node = self.node(&World::default(), attribute, &[]);
                nodes.insert(at, node);
                Expected::Refusal
            }
            // A number of another size.
            2 | 3 => match nodes.get_mut(at) {
                Some(Node {
                    number,
                    value: Value::Bytes(bytes),
                }) => {
                    let kind = set.iter().find(|a| a.number == *number).map(|a| a.kind);
                    let other = self.random.usize(..40);
                    bytes.resize(other, 0xa5);
                    let right = match kind {
                        Some(Kind::Flag) => Some(0),
                        Some(Kind::U8) => Some(1),
                        Some(Kind::Port) => Some(2),
                        Some(Kind::U32) => Some(4),
                        _ => None,
                    };
                    match kind {
                        _ if right.is_some_and(|right| right != other) => Expected::Refusal,
                        Some(Kind::Address) if other != 4 && other != 16 => match other > 16 {
                            true => Expected::Refusal,
                            // Unless the command has no use for it.
                            false => weaker(expected),
                        },
                        _ => weaker(expected),
                    }
                }
                _ => expected,
            },
            // Gone: maybe one that is needed.
            4 => match nodes.is_empty() {
                true => expected,
                false => {
                    let token = CONNECTION[0].number;
                    let gone = nodes.remove(at).number == token && !nest;
                    match gone && nodes.iter().all(|node| node.number != token) {
                        true => Expected::Refusal,
                        false => weaker(expected),
                    }
                }
            },
            // Twice: the last counts.
            5 => {
                if let Some(node) = nodes.get(at).cloned() {
                    nodes.push(node);
                }
                expected
            }
            // In another order.
            6 => {
                self.random.shuffle(nodes);
                expected
            }
            // Other bytes of the same number.
            7 => {
                if let Some(Node {
                    value: Value::Bytes(bytes),
                    ..
                }) = nodes.get_mut(at)
                {
                    self.random.fill(bytes);
                }
                weaker(expected)
            }
            // A nest where there is none, or none where there is one.
            8 => match nodes.get_mut(at) {
                Some(node) => {
                    node.value = match &node.value {
                        Value::Bytes(_) => Value::Nest(vec![]),
                        Value::Nest(_) => Value::Bytes(vec![0; 4]),
                    };
                    Expected::Refusal
                }
                None => expected,
            },
            // A nest in a nest in a nest.
            _ => {
                let mut node = Node {
                    number: 1,
                    value: Value::Bytes(vec![0; 4]),
                };
                for _ in 0..self.random.u8(2..40) {
                    node = Node {
                        number: 6,
                        value: Value::Nest(vec![node]),
                    };
                }
                nodes.push(node);
                Expected::Refusal
            }
        }
    }

    /// Breaks the bytes behind what names the message: its length, flags and number.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        const HEADER: usize = 16;
        for _ in 0..self.random.u8(1..8) {
            let at = self.random.usize(HEADER..bytes.len());
            bytes[at] = self.random.u8(..);
        }
        if self.random.bool() {
            bytes.truncate(self.random.usize(HEADER..=bytes.len()));
        } else {
            let more = self.noise(64);
            bytes.extend(more);
        }
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
    }

    /// No messages: a datagram whose lengths lie.
    pub fn torn(&mut self, world: &World) -> Vec<u8> {
        let mut bytes = self.message(world, 0).bytes;
        let lie = match self.random.u8(..3) {
            0 => self.random.u32(..16),
            1 => self.random.u32(bytes.len() as u32 + 1..),
            _ => self.random.u32(..),
        };
        bytes[..4].copy_from_slice(&lie.to_ne_bytes());
        bytes.truncate(self.random.usize(1..=bytes.len()));
        bytes
    }

    /// A number up to `most`.
    pub fn up_to(&mut self, most: usize) -> usize {
        self.random.usize(..=most)
    }

    fn other_command(&mut self) -> u8 {
        let known = |number| COMMANDS.iter().any(|command| command.number == number);
        loop {
            let number = self.random.u8(..);
            if !known(number) {
                return number;
            }
        }
    }

    fn noise(&mut self, most: usize) -> Vec<u8> {
        let length = self.random.usize(..=most);
        (0..length).map(|_| self.random.u8(..)).collect()
    }
}

/// What is expected once a value has changed: nobody knows, if it had to succeed.
fn weaker(expected: Expected) -> Expected {
    match expected {
        Expected::Success => Expected::Any,
        other => other,
    }
}

fn fill<'a>(request: Request<'a>, nodes: &[Node]) -> Request<'a> {
    nodes
        .iter()
        .fold(request, |request, node| match &node.value {
            Value::Bytes(bytes) => request.attribute(node.number, bytes),
            Value::Nest(nodes) => {
                request.nest(node.number & !NESTED, |request| fill(request, nodes))
            }
        })
}
