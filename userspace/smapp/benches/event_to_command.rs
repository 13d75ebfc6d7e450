// SPDX-License-Identifier: GPL-2.0
//! From the bytes of an event to the bytes of the command with which each policy answers
//! it, system calls left out; for `smapp run fullmesh` the three parts apart too.
//!
//! `cargo bench -p smapp --features wire --bench event_to_command` measures time. In the guest
//! a nanosecond is an instruction: `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$PWD/qemu/run
//! cargo bench -p smapp --features wire --bench event_to_command -- --warm-up-time 0.1
//! --measurement-time 0.2`.

mod kernel;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use kernel::{Case, TOKEN, Writes, cases, decode, encode, established};
use smapp::rules::{Dispatch, Rule};
use smapp::{Command, Engine, Event, IfIndex, Input, Policy, SubflowCreate, What};

/// Times a policy from an event to its first command; how the connection began and what
/// follows the command are not timed. `clock`, to read the clock, is part of it.
fn bench(
    criterion: &mut Criterion,
    name: &str,
    policy: impl Policy,
    case: &Case,
    kernel: Writes,
    trigger: impl Fn() -> Event,
) {
    let mut engine = Engine::new(kernel, policy);
    engine.attach().expect("no connections");
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                for event in &case.before {
                    tell(&mut engine, *event);
                }
                engine.kernel().commanded.take();
                let start = Instant::now();
                tell(&mut engine, trigger());
                let commanded = engine.kernel().commanded.take().expect("it answers");
                total += commanded - start;
                tell(
                    &mut engine,
                    Event {
                        token: TOKEN,
                        server_side: false,
                        what: What::Closed,
                    },
                );
            }
            total
        });
    });
}

fn tell<C: Policy>(engine: &mut Engine<Writes, C>, event: Event) {
    engine.handle(Input::Event(event)).expect("no listing");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("clock", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| Instant::now().elapsed()).sum());
    });
    let bytes = established(TOKEN);
    criterion.bench_function("decode", |bencher| {
        bencher.iter(|| decode(black_box(&bytes)));
    });
    let event = decode(&bytes);
    let cases = cases();
    let fullmesh = &cases[0];
    let rules = || vec![Rule::every("bench", fullmesh.policy.clone())];
    bench(
        &mut criterion,
        "dispatch",
        Dispatch::new(rules(), 1),
        fullmesh,
        Writes::nothing(),
        || black_box(event),
    );
    let create = SubflowCreate::to("10.0.3.1:80".parse().expect("an address"))
        .local_address("10.0.2.1".parse().expect("an address"))
        .ifindex(IfIndex(3));
    let mut request = Vec::new();
    criterion.bench_function("encode", |bencher| {
        bencher.iter(|| {
            encode(
                &Command::SubflowCreate(TOKEN, black_box(create)),
                &mut request,
            )
        });
    });
    bench(
        &mut criterion,
        "fullmesh behind a rule",
        Dispatch::new(rules(), 1),
        fullmesh,
        Writes::default(),
        || decode(black_box(&bytes)),
    );
    for case in &cases {
        let trigger = || decode(black_box(&case.trigger));
        let mut kernel = Writes::default();
        kernel.asked.clone_from(&case.asked);
        let policy = case.policy.policy(1);
        bench(&mut criterion, case.name, policy, case, kernel, trigger);
    }
    criterion.final_summary();
}
