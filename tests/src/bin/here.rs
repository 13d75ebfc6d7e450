// SPDX-License-Identifier: GPL-2.0
//! Runs tests, or a program, on the kernel of this machine, in namespaces of their own.
#![forbid(unsafe_code)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use smapp_tests::KernelInterface;
use smapp_tests::here::control_group::ControlGroup;
use smapp_tests::here::limits::Setting;
use smapp_tests::here::machine;
use smapp_tests::here::sandbox::{self, Sandbox};
use smapp_tests::here::suite::Suite;

const USAGE: &str = "\
usage: here run PROGRAM [ARGUMENT..]
       here test [OPTION..] TEST-BINARY [PART-OF-A-NAME..]
       here check

Needs root. Network, processes, mounts and control group of the program are its own: nothing
is left when it has ended, or when this is interrupted. The programs beside this one are in
its PATH. With test: each test by itself, several at a time; works as cargo's runner too. On a
kernel of their own, as in a guest, tests run without namespaces, one after the other.
  --own-kernel  it is
  --slow        also tests that wait for minutes
  --jobs N      tests at a time
  --nocapture   show what tests say that pass
  --results F   write what came of them into a file

check says what this machine lacks for that. SMAPP_KERNEL_INTERFACE (module, stock): what is
to be used, instead of the best that the kernel has.";

/// For one test. None of those that are not slow takes half of it, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);
/// For a slow one.
const LONG: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let words: Vec<_> = env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((word, rest)) => match word.as_str() {
            sandbox::BEFORE => sandbox::before(rest),
            sandbox::INSIDE => sandbox::inside(rest),
            machine::PROBE => machine::probe().map(|()| ExitCode::SUCCESS),
            "check" => prepare().map(|()| ExitCode::SUCCESS),
            "run" => run(rest),
            "test" => test(rest),
            _ => Err(anyhow::anyhow!("{USAGE}")),
        },
        None => Err(anyhow::anyhow!("{USAGE}")),
    };
    done.unwrap_or_else(|error| {
        eprintln!("here: {error:#}");
        ExitCode::FAILURE
    })
}

/// Where this program is, the others are as well.
fn programs() -> Result<PathBuf> {
    let this = env::current_exe()?;
    Ok(this
        .parent()
        .context("a program without a directory")?
        .into())
}

/// What is asked for, or the best that the kernel has.
fn interface() -> Result<KernelInterface> {
    match env::var(KernelInterface::VARIABLE) {
        Ok(word) => word.parse(),
        Err(_) => Ok(machine::interface()),
    }
}

fn absolute(program: &str) -> Result<String> {
    let path = Path::new(program).canonicalize();
    let path = path.with_context(|| format!("no program {program}"))?;
    path.into_os_string()
        .into_string()
        .ok()
        .context("its path is not UTF-8")
}

fn run(words: &[String]) -> Result<ExitCode> {
    let [program, arguments @ ..] = words else {
        bail!("{USAGE}");
    };
    prepare()?;
    let program = absolute(program)?;
    let sandbox = Sandbox {
        programs: &programs()?,
        timeout: Duration::ZERO,
        interface: interface()?,
    };
    let arguments = arguments.iter().map(String::as_str);
    let words: Vec<_> = [program.as_str()].into_iter().chain(arguments).collect();
    Ok(sandbox::code(sandbox.status(&words)?))
}

fn test(words: &[String]) -> Result<ExitCode> {
    let setting = Setting {
        interface: interface()?,
        own_kernel: false,
    };
    let mut suite = Suite {
        binary: PathBuf::new(),
        programs: programs()?,
        setting,
        filters: Vec::new(),
        verbose: false,
        slow: false,
        results: None,
        jobs: 4 * thread::available_parallelism()?.get(),
        timeout: TIMEOUT,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--own-kernel" => (suite.setting.own_kernel, suite.jobs) = (true, 1),
            "--slow" => (suite.slow, suite.timeout) = (true, LONG),
            "--nocapture" => suite.verbose = true,
            // cargo passes on what divides its words from those of the tests.
            "--" => {}
            "--results" => suite.results = Some(words.next().context(USAGE)?.into()),
            "--jobs" => suite.jobs = words.next().context(USAGE)?.parse()?,
            word if word.starts_with('-') => bail!("{USAGE}"),
            word if suite.binary.as_os_str().is_empty() => suite.binary = absolute(word)?.into(),
            word => suite.filters.push(word.into()),
        }
    }
    if !suite.setting.own_kernel {
        prepare()?;
    }
    suite.run()?;
    Ok(ExitCode::SUCCESS)
}

/// Before anything is run: see that it can be.
fn prepare() -> Result<()> {
    end_on_signals()?;
    let missing = machine::missing(&programs()?);
    if !missing.is_empty() {
        bail!("this machine lacks:\n  {}", missing.join("\n  "));
    }
    ControlGroup::sweep()
}

/// Leave nothing behind when somebody has enough of this.
fn end_on_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // In all threads, as they come after this; not in other programs.
    signals.thread_block()?;
    thread::spawn(move || {
        let signal = signals.wait().expect("signals can be waited for");
        sandbox::end_all();
        exit(128 + signal as i32);
    });
    Ok(())
}
