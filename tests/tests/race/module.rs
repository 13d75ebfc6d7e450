// SPDX-License-Identifier: GPL-2.0
//! Loading and unloading the module.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use smapp::{Client, EventSet, Kernel, KernelKind};
use smapp_tests::traffic::{allow_files, connect, listen};
use smapp_tests::{Netns, module};
use socket2::Protocol;

use super::abort;
use super::race::{Race, Random, hurry};

/// Threads that open and close connections.
const WORKERS: usize = 4;
/// Connections that all of them have open.
const MANY: usize = 1000;

/// A byte there and one back.
fn ping([near, far]: &mut [TcpStream; 2]) -> Result<()> {
    near.write_all(b"!")?;
    far.read_exact(&mut [0])?;
    far.write_all(b"?")?;
    near.read_exact(&mut [0]).context("the way back")
}

/// Keeps `window` connections open, the oldest of which makes room for the next one; each
/// must work in its first and in its last moment.
fn turn_over(
    host: &Netns,
    listener: &TcpListener,
    window: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<usize> {
    let mut open = VecDeque::new();
    let mut count = 0;
    let to = listener.local_addr()?;
    while !stop.load(Relaxed) {
        let near = connect(host, to, b"")?;
        let (far, _) = listener.accept()?;
        let mut ends = [near, far];
        ping(&mut ends).context("a connection just made")?;
        open.push_back(ends);
        count += 1;
        while open.len() > window.load(Relaxed) {
            let Some(mut ends) = open.pop_front() else {
                bail!("no connection")
            };
            ping(&mut ends).context("the oldest connection")?;
            let [near, far] = ends;
            match count % 3 {
                0 => abort(near)?,
                1 => abort(far)?,
                _ => {}
            }
        }
    }
    for ends in &mut open {
        ping(ends).context("a connection that was left")?;
    }
    Ok(count)
}

/// Talks to the module while there is one.
fn talk(host: &Netns, stop: &AtomicBool) -> Result<usize> {
    let mut talks = 0;
    while !stop.load(Relaxed) {
        let talked = host.enter(|| -> Result<(), smapp::Error> {
            let mut client = Client::connect_to(KernelKind::Module)?;
            client.listen(EventSet::ALL)?;
            client.connections()?;
            client.statistics()?;
            let until = client.now() + Duration::from_millis(20);
            client.wait(Some(until)).map(drop)
        });
        match talked {
            Ok(()) => talks += 1,
            Err(error) => {
                let text = error.to_string();
                // It is not there, or it left in the middle.
                let gone = ["not loaded", "unloaded", "ENOENT", "No such file"];
                ensure!(gone.iter().any(|gone| text.contains(gone)), "{text}");
            }
        }
    }
    Ok(talks)
}

#[test]
fn the_module_comes_and_goes_under_a_thousand_connections() -> Result<()> {
    allow_files()?;
    let race = Race::start()?;
    let host = Netns::loopback("many")?;
    hurry(&host)?;
    let stop = AtomicBool::new(false);
    let window = AtomicUsize::new(MANY / WORKERS);
    // Those of the kernel's path manager: a socket that listens would hold the module.
    let listeners =
        (0..WORKERS).map(|_| listen(&host, Ipv4Addr::LOCALHOST.into(), Protocol::MPTCP));
    let listeners = listeners.collect::<Result<Vec<_>>>()?;
    let mut random = Random::new(1);
    let (mut refused, mut during) = (0, 0);
    let (opened, talks) = scope(|scope| -> Result<_> {
        let workers: Vec<_> = listeners
            .iter()
            .map(|listener| scope.spawn(|| turn_over(&host, listener, &window, &stop)))
            .collect();
        let talker = scope.spawn(|| talk(&host, &stop));
        let raced = (|| -> Result<()> {
            let start = Instant::now();
            while race.goes_on() {
                // In the end a few, of which none may be there at times.
                let half = race.is_past(0.5, start);
                window.store(if half { 2 } else { MANY / WORKERS }, Relaxed);
                host.manage_by_smapp()?;
                random.nap(if half { 10_000 } else { 100_000 });
                host.manage_by_kernel()?;
                loop {
                    match module::remove() {
                        Ok(()) => break,
                        Err(Errno::AGAIN | Errno::BUSY) => refused += 1,
                        Err(error) => bail!("rmmod: {error}"),
                    }
                    ensure!(
                        start.elapsed() < Duration::from_secs(600),
                        "the module cannot go any more"
                    );
                    if workers.iter().any(|worker| worker.is_finished()) {
                        return Ok(());
                    }
                    sleep(Duration::from_millis(1));
                }
                race.cycle();
                during += usize::from(!half);
                random.nap(2_000);
                module::insert()?;
            }
            Ok(())
        })();
        stop.store(true, Relaxed);
        let mut opened = 0;
        for worker in workers {
            opened += worker.join().expect("no panic")?;
        }
        let talks = talker.join().expect("no panic")?;
        raced.map(|()| (opened, talks))
    })?;
    ensure!(opened > MANY, "only {opened} connections");
    ensure!(refused > 0, "rmmod was never refused");
    println!(
        "{opened} connections opened, {refused} times rmmod refused, {talks} times asked; \
         {during} times unloaded among {MANY}"
    );
    drop((listeners, host));
    race.end("times unloaded and loaded")
}
