// SPDX-License-Identifier: GPL-2.0
//! Every allocation that a thing makes, failing in its turn: what comes of it is an error
//! or a loss that is told, never something that is half there.

use std::fs::File;
use std::io::{Cursor, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use neli::ToBytes;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Ifa, RtAddrFamily, RtScope, Rtm};
use neli::consts::socket::{Msg, NlFamily};
use neli::nl::{NlPayload, NlmsghdrBuilder};
use neli::rtnl::{IfaddrmsgBuilder, RtattrBuilder};
use neli::socket::NlSocket;
use neli::utils::Groups;
use rustix::io::Errno;
use rustix::system::finit_module;
use smapp::wire::operation_word;
use smapp::wire::uapi::cmd;
use smapp::{Client, Error, Kernel, KernelKind, Subflow, SubflowCreate, SubflowDestroy, Token};
use smapp_tests::module::{self, LoadAgain};
use smapp_tests::traffic::{listen, socket};
use smapp_tests::{
    Attached, Connection, DEADLINE, Family, Netns, Observer, Path, PathManager, Shortage, Topology,
    wait_for,
};
use socket2::{Protocol, SockRef};

use super::module::remove;
use super::{connect, join_fully, over_second_path};

/// More allocations than anything here makes.
const MOST: u32 = 5000;

/// Lets allocation after allocation fail, until none is left that could; `attempt` tells
/// whether one has failed. At least `least` must have.
fn each(what: &str, least: u32, mut attempt: impl FnMut(u32) -> Result<bool>) -> Result<()> {
    for number in 1..MOST {
        if !attempt(number).with_context(|| format!("{what}, allocation {number}"))? {
            let faults = number - 1;
            ensure!(faults >= least, "{what}: only {faults} allocations failed");
            println!("{what}: {faults} faults injected");
            return Ok(());
        }
    }
    bail!("{what}: memory runs out again and again")
}

/// Every failure has an errno, which need not be ENOMEM: a socket without memory is one
/// file too many, a port without memory is in use. Who loses the answer is told so, or
/// gets none.
fn is_told(error: &Error) -> bool {
    matches!(error, Error::NoAnswer(_)) || error.errno().is_some()
}

/// A connection with a second subflow, and its path manager.
struct Scene<'a> {
    topology: &'a Topology,
    connection: Connection,
    token: Token,
    second: Subflow,
    manager: PathManager<'a>,
    client: Client,
}

impl<'a> Scene<'a> {
    fn new(topology: &'a Topology) -> Result<Self> {
        let mut manager = PathManager::of(&topology.client)?;
        let (connection, token) = connect(topology, Family::V4, &mut manager)?;
        let second = join_fully(&mut manager, &connection, token)?;
        // Its queue would tell of losses.
        let manager = PathManager::with_events(&topology.client, smapp::EventSet::default())?;
        Ok(Scene {
            topology,
            connection,
            token,
            second,
            manager,
            client: topology.client.enter(Client::connect)?,
        })
    }

    /// Gives a command of which each allocation fails in its turn, and takes it back. After
    /// each the kernel's numbers must add up, and the tables of engines be right.
    fn each<T>(
        &mut self,
        what: &str,
        mut command: impl FnMut(&mut Self) -> Result<T, Error>,
        mut undo: impl FnMut(&mut Self, Option<T>) -> Result<()>,
    ) -> Result<()> {
        each(what, 1, |number| {
            let hosts = [&self.topology.client, &self.topology.server];
            let tables = [
                Attached::to(hosts[0], Observer)?,
                Attached::to(hosts[1], Observer)?,
            ];
            let shortage = Shortage::of_everything()?;
            let (done, failed) = shortage.of_this_thread(number, || command(self))?;
            let done = match done {
                Ok(done) => Some(done),
                Err(error) => {
                    ensure!(failed && is_told(&error), "{error}");
                    // What it was about may have happened all the same.
                    self.client = self.topology.client.enter(Client::connect)?;
                    None
                }
            };
            undo(self, done)?;
            self.settle()?;
            for (host, table) in hosts.into_iter().zip(tables) {
                table.compare(host)?;
            }
            Ok(failed)
        })?;
        self.connection.exchange(1000)
    }

    /// Wait until the client has its two subflows, and each side counts those that it has. The
    /// peer may keep one for a while: a FIN may be among what there was no memory for.
    fn settle(&mut self) -> Result<()> {
        let mut server =
            PathManager::with_events(&self.topology.server, smapp::EventSet::default())?;
        wait_for("two subflows", DEADLINE, || {
            let known = self.manager.connection(self.token)?;
            ensure!(known.subflows.len() == 2, "{known:#?}");
            for connection in [known].into_iter().chain(server.connections()?) {
                let counted = usize::from(connection.extra_subflows) + 1;
                ensure!(connection.subflows.len() == counted, "{connection:#?}");
            }
            Ok(())
        })
    }
}

/// Close all subflows but the two that the scene has.
fn close_others(scene: &mut Scene<'_>) -> Result<()> {
    for subflow in scene.manager.connection(scene.token)?.subflows {
        if !subflow.initial && subflow.id != scene.second.id {
            scene.manager.destroy(scene.token, subflow.id)?;
        }
    }
    Ok(())
}

#[test]
fn commands_that_ask_fail_with_an_errno() -> Result<()> {
    let topology = Topology::new()?;
    let mut scene = Scene::new(&topology)?;
    let token = scene.token;
    scene.each("conn-get", |s| s.client.connection(token), |_, _| Ok(()))?;
    scene.each("conn-get, all", |s| s.client.connections(), |_, _| Ok(()))?;
    scene.each("stats-get", |s| s.client.statistics(), |_, _| Ok(()))
}

#[test]
fn a_subflow_that_cannot_be_made_leaves_nothing() -> Result<()> {
    let topology = Topology::new()?;
    let mut scene = Scene::new(&topology)?;
    let (token, wanted) = (scene.token, over_second_path(&scene.connection)?);
    scene.each(
        "subflow-create",
        |s| s.client.subflow_create(token, &wanted),
        |s, _| close_others(s),
    )
}

#[test]
fn a_subflow_is_destroyed_or_stays() -> Result<()> {
    let topology = Topology::new()?;
    let mut scene = Scene::new(&topology)?;
    let (token, wanted) = (scene.token, over_second_path(&scene.connection)?);
    for reset in [false, true] {
        scene.each(
            if reset {
                "subflow-destroy, reset"
            } else {
                "subflow-destroy"
            },
            |s| {
                let second = SubflowDestroy::id(s.second.id).reset(reset);
                s.client.subflow_destroy(token, &second)
            },
            |s, _| {
                let mut events = PathManager::of(&topology.client)?;
                let known = events.connection(token)?;
                if known.subflow(s.second.id).is_none() {
                    let again = events.create(token, wanted)?;
                    s.second = events.joined(again.id)?;
                    sleep(Duration::from_millis(100));
                }
                Ok(())
            },
        )?;
    }
    Ok(())
}

#[test]
fn a_priority_is_set_or_the_order_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut scene = Scene::new(&topology)?;
    let token = scene.token;
    let mut backup = false;
    scene.each(
        "subflow-set",
        |s| {
            backup = !backup;
            s.client.subflow_set_backup(token, s.second.id, backup)
        },
        |_, _| {
            // The message to the peer is on its way.
            sleep(Duration::from_millis(100));
            Ok(())
        },
    )
}

#[test]
fn an_announcement_is_made_or_refused() -> Result<()> {
    let topology = Topology::new()?;
    let mut scene = Scene::new(&topology)?;
    let (token, second) = (scene.token, scene.second.local_address);
    let address = smapp::Address {
        id: scene.second.local_id,
        address: second,
        port: None,
    };
    // It closes the peer's side of the second subflow: not announced with its address.
    let third = "10.0.2.77".parse()?;
    topology.client.ip("address add 10.0.2.77/24 dev eth1\n")?;
    let mut number = None;
    let withdraw = |s: &mut Scene<'_>, made: Option<smapp::Address>| {
        sleep(Duration::from_millis(100));
        // Whether it was announced is not known if the answer is lost.
        let made = match made {
            Some(made) => made,
            None => wait_for("the announcement", DEADLINE, || {
                Ok(s.manager.client().announce(token, third, None)?)
            })?,
        };
        number = Some(made.id);
        // What there was no memory for is sent with the next data.
        s.connection.exchange(1)?;
        s.manager.client().withdraw(token, &made)?;
        sleep(Duration::from_millis(100));
        Ok(())
    };
    scene.each(
        "announce",
        |s| s.client.announce(token, third, None),
        withdraw,
    )?;
    let third = smapp::Address {
        id: number.context("nothing was announced")?,
        address: third,
        ..address
    };
    scene.each(
        "withdraw",
        |s| s.client.withdraw(token, &third),
        |s, _| {
            s.connection.exchange(1)?;
            sleep(Duration::from_millis(100));
            Ok(())
        },
    )
}

#[test]
fn the_module_loads_or_leaves_nothing() -> Result<()> {
    let _again = LoadAgain;
    remove()?;
    let topology = Topology::with_shapes(Default::default())?;
    let shortage = Shortage::of_everything()?;
    each("insmod", 10, |number| {
        let file = File::open(module::MODULE)?;
        let insert = || finit_module(file, c"", 0);
        let (loaded, failed) = shortage.of_this_thread(number, insert)?;
        let available = topology.client.sysctl("mptcp/available_path_managers")?;
        let known = available.split(' ').any(|name| name == "smapp");
        match loaded {
            Ok(()) => {
                ensure!(module::is_loaded() && known, "loaded, but: {available}");
                topology.client.enter(Client::connect)?.statistics()?;
                remove()?;
            }
            Err(error) => {
                ensure!(error == Errno::NOMEM, "{error}");
                ensure!(
                    !module::is_loaded() && !known,
                    "not loaded, but: {available}"
                );
                let client = topology
                    .client
                    .enter(|| Client::connect_to(KernelKind::Module));
                ensure!(client.is_err(), "the family is still there");
            }
        }
        Ok(failed)
    })
}

#[test]
fn the_module_unloads_whatever_fails() -> Result<()> {
    let _again = LoadAgain;
    remove()?;
    let topology = Topology::with_shapes(Default::default())?;
    let shortage = Shortage::of_everything()?;
    each("rmmod", 1, |number| {
        module::insert()?;
        let _client = PathManager::of(&topology.client)?;
        let (gone, failed) = shortage.of_this_thread(number, module::remove)?;
        gone.map_err(|errno| anyhow!("rmmod: {errno}"))?;
        ensure!(!module::is_loaded(), "it is still there");
        Ok(failed)
    })
}

/// The life of a connection in this thread: opened, used, and closed in one of two ways.
fn live(listener: TcpListener, abort: bool) -> Result<()> {
    let near = socket(Family::V4, Protocol::MPTCP)?;
    near.set_read_timeout(Some(Duration::from_secs(1)))?;
    near.connect(&listener.local_addr()?.into())?;
    (&near).write_all(b"!")?;
    let (mut far, _) = wait_for("a connection", Duration::from_secs(5), || {
        Ok(listener.accept()?)
    })?;
    far.set_read_timeout(Some(Duration::from_secs(1)))?;
    far.read_exact(&mut [0])?;
    far.write_all(b"?")?;
    (&near).read_exact(&mut [0])?;
    if abort {
        SockRef::from(&near).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}

/// Wait until a host has no connection.
fn empty(host: &Netns) -> Result<()> {
    let mut manager = PathManager::with_events(host, smapp::EventSet::default())?;
    wait_for(
        "the end of all connections",
        Duration::from_secs(120),
        || {
            let left = manager.connections()?;
            ensure!(left.is_empty(), "{left:#?}");
            Ok(())
        },
    )
}

#[test]
fn a_connection_lives_or_fails_whatever_its_threads_lack() -> Result<()> {
    let host = Netns::loopback("short")?;
    host.manage_by_smapp()?;
    host.set_sysctl("mptcp/close_timeout", "1")?;
    let shortage = Shortage::of_everything()?;
    for abort in [false, true] {
        each("a connection's system calls", 10, |number| {
            let table = Attached::to(&host, Observer)?;
            let listener = listen(&host, Ipv4Addr::LOCALHOST.into(), Protocol::MPTCP)?;
            listener.set_nonblocking(true)?;
            let live = || shortage.of_this_thread(number, || live(listener, abort));
            let (_, failed) = host.enter(live)?;
            empty(&host)?;
            table.compare(&host)?;
            Ok(failed)
        })?;
    }
    Ok(())
}

/// The request that gives the host an address, or takes it.
fn address_request(change: Rtm, (address, prefix): (IpAddr, u8), ifindex: u32) -> Result<Vec<u8>> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (RtAddrFamily::Inet, address.octets().to_vec()),
        IpAddr::V6(address) => (RtAddrFamily::Inet6, address.octets().to_vec()),
    };
    let local = RtattrBuilder::default()
        .rta_type(Ifa::Local)
        .rta_payload(octets)
        .build()?;
    let message = IfaddrmsgBuilder::default()
        .ifa_family(family)
        .ifa_prefixlen(prefix)
        .ifa_scope(RtScope::Universe)
        .ifa_index(ifindex)
        .rtattrs([local].into_iter().collect())
        .build()?;
    let request = NlmsghdrBuilder::default()
        .nl_type(change)
        .nl_flags(NlmF::REQUEST | NlmF::ACK)
        .nl_payload(NlPayload::Payload(message))
        .build()?;
    let mut bytes = Cursor::new(Vec::new());
    request.to_bytes(&mut bytes)?;
    Ok(bytes.into_inner())
}

#[test]
fn a_local_address_comes_and_goes_or_the_loss_is_told() -> Result<()> {
    let topology = Topology::new()?;
    let host = &topology.client;
    let mut interfaces = host.interfaces()?.into_iter();
    let second = interfaces.find(|(_, name)| name == Path::Second.interface());
    let (ifindex, _) = second.context("no second interface")?;
    let socket = host.enter(|| NlSocket::connect(NlFamily::Route, None, Groups::empty()))?;
    let mut buffer = [0; 4096];
    let mut manager = PathManager::with_events(host, smapp::EventSet::default())?;
    let mut change = |request: &[u8]| -> std::io::Result<()> {
        socket.send(request, Msg::empty())?;
        socket.recv(&mut buffer, Msg::empty()).map(drop)
    };
    let shortage = Shortage::of_everything()?;
    for address in [("10.0.2.7".parse()?, 24), ("fd00:2::7".parse()?, 64)] {
        let [add, delete] =
            [Rtm::Newaddr, Rtm::Deladdr].map(|c| address_request(c, address, ifindex));
        let (add, delete) = (add?, delete?);
        for (what, before, request) in [("new", &delete, &add), ("del", &add, &delete)] {
            for softirqs in [false, true] {
                each(&format!("{what}_local_addr {}", address.0), 1, |number| {
                    // It may be so already.
                    change(before)?;
                    sleep(Duration::from_millis(50));
                    let table = Attached::to(host, Observer)?;
                    let act = || {
                        let changed = change(request);
                        sleep(Duration::from_millis(50));
                        changed
                    };
                    let (changed, failed) = match softirqs {
                        false => shortage.of_this_thread(number, act)?,
                        true => shortage.of_all(number, act)?,
                    };
                    table.compare(host)?;
                    if !failed {
                        changed?;
                        let known = host.enter(|| manager.client().addresses())?;
                        let has = known.iter().any(|local| local.address == address.0);
                        ensure!(has == (what == "new"), "it did not change");
                    }
                    Ok(failed)
                })?;
            }
        }
    }
    for event in [cmd::NEW_LOCAL_ADDR, cmd::DEL_LOCAL_ADDR] {
        let lost = manager
            .client()
            .statistics()?
            .operation(&operation_word(event))
            .failed;
        ensure!(lost > 0, "no event {event} was lost");
    }
    Ok(())
}

#[test]
fn events_that_softirqs_cannot_send_are_made_good() -> Result<()> {
    let topology = Topology::new()?;
    let hosts = [&topology.client, &topology.server];
    for host in hosts {
        host.set_sysctl("mptcp/close_timeout", "1")?;
    }
    let mut client = topology.client.enter(Client::connect)?;
    let mut stats = PathManager::with_events(&topology.client, smapp::EventSet::default())?;
    let lost = |stats: &mut PathManager<'_>| -> Result<u64> {
        let stats = stats.client().statistics()?;
        Ok((cmd::CREATED..=cmd::MAX)
            .map(|event| stats.operation(&operation_word(event)).failed)
            .sum())
    };
    let before = lost(&mut stats)?;
    let shortage = Shortage::of_everything()?;
    each("softirqs of a connection", 10, |number| {
        let tables = [
            Attached::to(hosts[0], Observer)?,
            Attached::to(hosts[1], Observer)?,
        ];
        let (_, failed) = shortage.of_all(number, || -> Result<()> {
            let mut connection = Connection::establish(&topology, Family::V4)?;
            let known = client.connections()?;
            let token = known.first().context("not known")?.token;
            let wanted = SubflowCreate::to(connection.server_address()?);
            let second = Path::Second.client(Family::V4);
            let subflow = client.subflow_create(token, &wanted.local_address(second))?;
            sleep(Duration::from_millis(100));
            client.subflow_set_backup(token, subflow.id, true)?;
            client.announce(token, second, None)?;
            connection.exchange(1000)?;
            client.subflow_destroy(token, &SubflowDestroy::id(subflow.id))?;
            sleep(Duration::from_millis(100));
            Ok(())
        })?;
        for host in hosts {
            empty(host)?;
        }
        for (host, table) in hosts.into_iter().zip(tables) {
            table.compare(host)?;
        }
        Ok(failed)
    })?;
    let lost = lost(&mut stats)? - before;
    println!("{lost} events lost by that");
    ensure!(lost > 0, "no event was among it");
    Ok(())
}
