// SPDX-License-Identifier: GPL-2.0
//! Commands on connections that are being closed.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::scope;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use smapp::{
    Client, Errno, Error, EventKind, EventSet, Input, Kernel, SubflowCreate, SubflowDestroy,
    SubflowId, Token,
};
use smapp_tests::traffic::listen;
use smapp_tests::{Attached, Connection, Family, Netns, Observer, Path, Topology, topology};
use socket2::Protocol;

use super::abort;
use super::race::{Race, Random, quiet, topology};

/// What a command on a connection that is about to end may answer.
const REFUSALS: [Errno; 8] = [
    Errno::EPERM,
    Errno::ESRCH,
    Errno::EACCES,
    Errno::EBUSY,
    Errno::ENOSPC,
    Errno::EOPNOTSUPP,
    Errno::ENOTCONN,
    Errno::ECONNRESET,
];

/// How often each command went well, and how often it was refused.
type Tally = BTreeMap<&'static str, [u64; 2]>;

/// Counts what came of a command: something else than a refusal is an error.
fn count<T>(tally: &mut Tally, name: &'static str, result: Result<T, Error>) -> Result<Option<T>> {
    let [done, refused] = tally.entry(name).or_default();
    match result {
        Ok(value) => {
            *done += 1;
            Ok(Some(value))
        }
        Err(error) if error.errno().is_some_and(|errno| REFUSALS.contains(&errno)) => {
            *refused += 1;
            Ok(None)
        }
        Err(error) => Err(error).context(name),
    }
}

/// Gives a connection orders until it is gone.
fn order(client: &mut Client, token: Token, random: &mut Random, tally: &mut Tally) -> Result<()> {
    let second = Path::Second.client(Family::V4);
    let mut made = None;
    let Some(known) = count(tally, "conn-get", client.connection(token))? else {
        return Ok(());
    };
    for _ in 0..20 {
        let Some(first) = known.subflows.first() else {
            return Ok(());
        };
        match random.below(6) {
            0 => {
                let wanted = SubflowCreate::to(first.remote());
                let wanted = if known.server_side {
                    wanted
                } else {
                    wanted.local_address(second)
                };
                let created = client.subflow_create(token, &wanted);
                made = count(tally, "create", created)?.map(|subflow| subflow.id);
            }
            1 => {
                let id = made
                    .take()
                    .unwrap_or_else(|| SubflowId(random.below(4) as u32));
                let wanted = SubflowDestroy::id(id);
                // The one that is left is needed.
                if id != first.id {
                    count(tally, "destroy", client.subflow_destroy(token, &wanted))?;
                }
            }
            2 => {
                let id = SubflowId(random.below(4) as u32);
                count(tally, "set", client.subflow_set_backup(token, id, true))?;
            }
            // Withdrawing the only address of the server would end the connection.
            3 if !known.server_side => {
                let told = client.announce(token, second, None);
                if let Some(address) = count(tally, "announce", told)? {
                    count(tally, "withdraw", client.withdraw(token, &address))?;
                }
            }
            4 => {
                client.connections()?;
            }
            _ => {
                if count(tally, "conn-get", client.connection(token))?.is_none() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Gives orders to every connection that comes, all the time.
fn command(host: &Netns, seed: u64, stop: &AtomicBool) -> Result<Tally> {
    let mut random = Random::new(seed);
    let mut tally = Tally::new();
    let mut client = host.enter(Client::connect)?;
    let events = EventSet::of(&[EventKind::Established]);
    host.enter(|| client.listen(events))?;
    while !stop.load(Relaxed) {
        let until = client.now() + Duration::from_millis(50);
        match client.wait(Some(until))? {
            Input::Event(event) => order(&mut client, event.token, &mut random, &mut tally)?,
            Input::Time | Input::Lost => {}
            other => bail!("{other:?}"),
        }
    }
    Ok(tally)
}

/// Opens connections and closes them, at some moment and in some way.
fn open_and_close(topology: &Topology, seed: u64, race: &Race) -> Result<()> {
    let mut random = Random::new(seed);
    let mut listener = listen(
        &topology.server,
        topology::server(Family::V4),
        Protocol::MPTCP,
    )?;
    while race.goes_on() {
        let since = Instant::now();
        let mut connection = Connection::open_to(topology, listener)?;
        connection.exchange(1)?;
        // On a kernel that checks everything a command takes longer, too.
        let opening = since.elapsed().as_micros() as u64;
        random.nap(4 * opening);
        let Connection {
            client,
            server,
            listener: again,
        } = connection;
        match random.below(6) {
            0 => abort(client)?,
            1 => abort(server)?,
            2 => {
                client.shutdown(Shutdown::Write)?;
                random.nap(2_000);
            }
            3 => {
                server.shutdown(Shutdown::Both)?;
                random.nap(2_000);
            }
            4 => drop((server, client)),
            _ => drop((client, server)),
        }
        listener = again;
        race.cycle();
    }
    Ok(())
}

#[test]
fn commands_reach_connections_that_are_closing() -> Result<()> {
    let race = Race::start()?;
    let topology = topology()?;
    let hosts = [&topology.client, &topology.server];
    let tables = [
        Attached::to(hosts[0], Observer)?,
        Attached::to(hosts[1], Observer)?,
    ];
    let stop = AtomicBool::new(false);
    let tally = scope(|scope| -> Result<Tally> {
        let commanders = [(0, 4), (0, 5), (1, 6)].map(|(host, seed)| {
            let (host, stop) = (hosts[host], &stop);
            scope.spawn(move || command(host, seed, stop))
        });
        let (race, topology) = (&race, &topology);
        let openers = [7, 8].map(|seed| scope.spawn(move || open_and_close(topology, seed, race)));
        let opened = openers.map(|opener| opener.join().expect("no panic"));
        stop.store(true, Relaxed);
        let mut sum = Tally::new();
        for commander in commanders {
            for (name, [done, refused]) in commander.join().expect("no panic")? {
                let all = sum.entry(name).or_default();
                all[0] += done;
                all[1] += refused;
            }
        }
        opened.into_iter().collect::<Result<()>>()?;
        Ok(sum)
    })?;
    println!("commands done and refused: {tally:?}");
    for name in ["conn-get", "create", "destroy", "set", "announce"] {
        let [done, refused] = tally.get(name).copied().unwrap_or_default();
        ensure!(
            done > 0 && refused > 0,
            "{name}: {done} done, {refused} refused"
        );
    }
    for (host, table) in hosts.into_iter().zip(tables) {
        quiet(host, 0)?;
        table.compare(host)?;
    }
    drop(topology);
    race.end("connections closed under commands")
}
