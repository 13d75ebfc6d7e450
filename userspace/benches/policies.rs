// SPDX-License-Identifier: GPL-2.0
//! From the bytes of an event to the bytes of the command with which each policy answers
//! it, system calls left out.
//!
//! In the guest a nanosecond is an instruction:
//! `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$PWD/qemu/run cargo bench -p smapp --bench
//! policies -- --warm-up-time 0.1 --measurement-time 0.2`.

mod kernel;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use kernel::{Case, TOKEN, Writes, cases, decode};
use smapp::{Controller, Engine, Event, Input};

type Policy = Engine<Writes, Box<dyn Controller>>;

/// Measures what a policy makes of an event, and how long it takes to read its bytes too.
fn act(criterion: &mut Criterion, case: &Case) {
    let mut kernel = Writes::default();
    kernel.asked.clone_from(&case.asked);
    let mut engine: Policy = Engine::new(kernel, case.policy.controller(1));
    engine.attach().expect("no connections");
    criterion.bench_function(case.name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                for event in &case.before {
                    tell(&mut engine, *event);
                }
                let before = engine.backend().commands;
                let start = Instant::now();
                let event = decode(black_box(&case.trigger));
                tell(&mut engine, event);
                total += start.elapsed();
                assert!(engine.backend().commands > before, "it did nothing");
                tell(
                    &mut engine,
                    Event::Closed {
                        token: TOKEN,
                        server_side: false,
                    },
                );
            }
            total
        });
    });
}

fn tell(engine: &mut Policy, event: Event) {
    engine.handle(Input::Event(event)).expect("no listing");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in cases() {
        act(&mut criterion, &case);
    }
    criterion.final_summary();
}
