// SPDX-License-Identifier: GPL-2.0
//! Makes the runs of the experiments, each in a guest of its own, and the report.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use smapp_measure::experiment::{self, Chapter, Claim, Experiment, Preface, Results, Run, Scale};

/// Run the paper's experiments and write the report; make experiments calls this.
///
/// Runs whose tables are there are not made again, unless the guest or the program
/// `experiment` has changed since: Ctrl-C loses only what is under way.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only what shows who wins, and no report: fails if somebody else does
    #[arg(long)]
    quick: bool,
    /// Only these experiments
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<String>,
    /// Only the first N seeds of each run: less sure, and sooner
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Guests at the same time [default: one per CPU]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Take tables that are there, although the guest has changed
    #[arg(long)]
    keep: bool,
    /// What make hops has printed, to be part of the report
    #[arg(long, value_name = "FILE")]
    hops: Option<PathBuf>,
    /// Where tables, drawings and the report go
    #[arg(long, value_name = "DIR", default_value = "report")]
    directory: PathBuf,
}

/// Where the tables of a run come from.
#[derive(Debug, Deserialize, Serialize)]
struct Origin {
    /// Hash over everything that was in the guest.
    guest: String,
    /// The source, as git describes it.
    commit: String,
    /// How long the run took, of the host's time.
    seconds: f64,
}

const ORIGIN: &str = "origin";

fn main() -> ExitCode {
    match report(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("report: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything that must hold does.
fn report(arguments: &Arguments) -> Result<bool> {
    let lab = Lab::new(arguments)?;
    let scale = if arguments.quick {
        Scale::Quick
    } else {
        Scale::Full
    };
    for name in &arguments.only {
        let names = experiment::ALL.map(|known| known.name()).join(", ");
        ensure!(
            experiment::by_name(name).is_some(),
            "no experiment {name}, there are: {names}"
        );
    }
    let wanted = |experiment: &&dyn Experiment| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == experiment.name())
    };
    let experiments: Vec<_> = experiment::ALL.into_iter().filter(wanted).collect();
    let jobs = experiments
        .iter()
        .flat_map(|experiment| lab.jobs(*experiment, scale))
        .collect();
    let started = Instant::now();
    let jobs = lab.make(jobs)?;
    let effort = effort(&jobs, started);
    println!("{effort}");

    let mut chapters = Vec::new();
    for experiment in experiments {
        let results = Results::new(lab.directory(experiment), lab.runs(experiment, scale));
        let mut chapter = experiment.chapter(&results)?;
        chapter.claims.push(lab.repeated(experiment, scale)?);
        print_claims(experiment, &chapter);
        chapters.push((experiment, results, chapter));
    }
    if !arguments.quick {
        let hops = arguments.hops.as_ref().map(|file| {
            let missing = || format!("no {}: run make hops", file.display());
            fs::read_to_string(file).with_context(missing)
        });
        let preface = Preface {
            versions: lab.versions(&jobs)?,
            effort,
            hops: hops.transpose()?,
        };
        experiment::write(&arguments.directory, &preface, &chapters)?;
        let page = arguments.directory.join("report.html");
        println!("report: {}, and report.md beside it", page.display());
    }
    let holds = |chapter: &Chapter| chapter.claims.iter().all(|claim| claim.holds);
    Ok(chapters.iter().all(|(_, _, chapter)| holds(chapter)))
}

fn print_claims(experiment: &dyn Experiment, chapter: &Chapter) {
    println!("{}: {}", experiment.name(), chapter.title);
    for claim in &chapter.claims {
        let word = if claim.holds { "ok    " } else { "FAILED" };
        println!("  {word} {}", claim.text);
    }
}

fn effort(jobs: &[Job], started: Instant) -> String {
    let seconds = jobs
        .iter()
        .filter_map(|job| Some(origin(&job.directory)?.seconds));
    format!(
        "{} runs, {:.1} minutes of guests altogether; made or found in {:.1} minutes.",
        jobs.len(),
        seconds.sum::<f64>() / 60.0,
        started.elapsed().as_secs_f64() / 60.0
    )
}

/// One run to be made.
struct Job {
    experiment: &'static dyn Experiment,
    run: Run,
    directory: PathBuf,
}

/// Where runs are made.
struct Lab<'a> {
    arguments: &'a Arguments,
    /// The repository.
    top: PathBuf,
    payload: PathBuf,
    guest: String,
    commit: String,
}

impl<'a> Lab<'a> {
    fn new(arguments: &'a Arguments) -> Result<Self> {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let top = top.canonicalize().context("the repository has moved")?;
        let payload = std::env::current_exe()?.with_file_name("experiment");
        let mut hasher = DefaultHasher::new();
        let guest = top.join("target/guest");
        for file in [
            guest.join("base.cpio"),
            guest.join("gcc/bzImage"),
            guest.join("gcc/smapp_pm.ko"),
            payload.clone(),
        ] {
            let content = fs::read(&file);
            let missing = || format!("no {}: run make guest", file.display());
            content.with_context(missing)?.hash(&mut hasher);
        }
        let commit = said(
            Command::new("git")
                .current_dir(&top)
                .args(["describe", "--always", "--dirty"]),
        );
        Ok(Lab {
            arguments,
            top,
            payload,
            guest: format!("{:016x}", hasher.finish()),
            commit,
        })
    }

    /// The runs of an experiment that are asked for.
    fn runs(&self, experiment: &dyn Experiment, scale: Scale) -> Vec<Run> {
        let mut runs = experiment.runs(scale);
        runs.retain(|run| self.arguments.seeds.is_none_or(|seeds| run.seed <= seeds));
        runs
    }

    /// Where the runs of an experiment are.
    fn directory(&self, experiment: &dyn Experiment) -> PathBuf {
        self.arguments
            .directory
            .join("runs")
            .join(experiment.name())
    }

    /// The runs of an experiment, and the first one again.
    fn jobs(&self, experiment: &'static dyn Experiment, scale: Scale) -> Vec<Job> {
        let runs = self.runs(experiment, scale);
        let again = runs.first().map(|run| (again(run), run.clone()));
        let named = runs.into_iter().map(|run| (run.to_string(), run));
        let job = |(name, run)| Job {
            experiment,
            run,
            directory: self.directory(experiment).join(name),
        };
        named.chain(again).map(job).collect()
    }

    /// Make the runs that have no tables; give all back.
    fn make(&self, jobs: Vec<Job>) -> Result<Vec<Job>> {
        let (missing, there): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| !self.has(&job.directory));
        let total = missing.len();
        let workers = match self.arguments.jobs {
            Some(jobs) => jobs,
            None => thread::available_parallelism()?.get(),
        };
        println!(
            "{} runs are there, {total} are to be made, {workers} at the same time",
            there.len()
        );
        let queue: Mutex<VecDeque<_>> = Mutex::new(missing.into_iter().enumerate().collect());
        let next = || queue.lock().expect("nobody panics with it").pop_front();
        let done = Mutex::new(there);
        let failed = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some((n, job)) = next() {
                        let (name, run) = (job.experiment.name(), &job.run);
                        let made = self.run(&job);
                        match made {
                            Ok(seconds) => {
                                println!("[{}/{total}] {name} {run}: {seconds:.0} s", n + 1);
                                done.lock().expect("nobody panics with it").push(job);
                            }
                            Err(error) => {
                                println!("[{}/{total}] {name} {run}: FAILED", n + 1);
                                let text = format!("{name} {run}: {error:#}");
                                failed.lock().expect("nobody panics with it").push(text);
                                queue.lock().expect("nobody panics with it").clear();
                            }
                        }
                    }
                });
            }
        });
        let failed = failed.into_inner().expect("nobody panics with it");
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(done.into_inner().expect("nobody panics with it"))
    }

    /// Whether a run has its tables.
    fn has(&self, directory: &Path) -> bool {
        let known = origin(directory);
        known.is_some_and(|origin| self.arguments.keep || origin.guest == self.guest)
    }

    /// Make a run; tells how long it took.
    fn run(&self, job: &Job) -> Result<f64> {
        let started = Instant::now();
        let mut scratch = job.directory.clone().into_os_string();
        scratch.push(".new");
        let scratch = PathBuf::from(scratch);
        if scratch.exists() {
            fs::remove_dir_all(&scratch)?;
        }
        fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot make {}", scratch.display()))?;
        let log = scratch.join("console.log");
        let console = File::create(&log)?;
        let status = Command::new(self.top.join("qemu/run"))
            .args(["--kernel", "gcc", "--timeout", "3600", "--out"])
            .arg(&scratch)
            .args(job.run.options())
            .arg(&self.payload)
            .arg(job.experiment.name())
            .args(job.run.arguments())
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .status()
            .context("cannot run qemu/run")?;
        if !status.success() {
            let console = fs::read_to_string(&log)?;
            let lines: Vec<_> = console.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n  ");
            bail!("{status}; the console is {}\n  {tail}", log.display());
        }
        let seconds = started.elapsed().as_secs_f64();
        let origin = Origin {
            guest: self.guest.clone(),
            commit: self.commit.clone(),
            seconds,
        };
        experiment::table(&scratch, ORIGIN, &[origin])?;
        if job.directory.exists() {
            fs::remove_dir_all(&job.directory)?;
        }
        fs::rename(&scratch, &job.directory)?;
        Ok(seconds)
    }

    /// Whether the run that was made twice gave the same tables twice.
    fn repeated(&self, experiment: &dyn Experiment, scale: Scale) -> Result<Claim> {
        let runs = self.runs(experiment, scale);
        let run = runs.first().context("an experiment without a run")?;
        let [once, twice] = [run.to_string(), again(run)]
            .map(|name| tables(&self.directory(experiment).join(name)));
        let (once, twice) = (once?, twice?);
        ensure!(!once.is_empty(), "{run} has no tables");
        let text = format!("`{run}`, made twice, gives the same tables, byte for byte");
        Ok(Claim::new(once == twice, text))
    }

    fn versions(&self, jobs: &[Job]) -> Result<Vec<(String, String)>> {
        let mut commits: Vec<_> = jobs
            .iter()
            .filter_map(|job| Some(origin(&job.directory)?.commit))
            .collect();
        commits.sort();
        commits.dedup();
        let first = jobs.first().context("no runs")?;
        let log = fs::read_to_string(first.directory.join("kernel.log"))?;
        let kernel = log.lines().find_map(|line| {
            let (_, version) = line.split_once("Linux version ")?;
            version.split(" (").next().map(str::to_string)
        });
        let words = |program: &str| said(Command::new(program).arg("--version"));
        Ok(vec![
            ("smapp".into(), commits.join(", ")),
            (
                "Linux".into(),
                kernel.context("no version in the kernel's log")?,
            ),
            ("QEMU".into(), words("qemu-system-x86_64")),
            ("rustc (user space)".into(), words("rustc")),
            ("rustc (kernel)".into(), words("/usr/bin/rustc")),
        ])
    }
}

/// The name of a run that is made a second time.
fn again(run: &Run) -> String {
    format!("{run},again")
}

fn origin(directory: &Path) -> Option<Origin> {
    let path = directory.join(ORIGIN).with_extension("csv");
    let mut reader = csv::Reader::from_path(path).ok()?;
    reader.deserialize().next()?.ok()
}

/// The tables of a run.
fn tables(directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut tables = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_table = path.extension().is_some_and(|extension| extension == "csv");
        if is_table && path.file_stem().is_some_and(|stem| stem != ORIGIN) {
            let name = path.strip_prefix(directory)?.to_path_buf();
            tables.push((name, fs::read(&path)?));
        }
    }
    tables.sort();
    Ok(tables)
}

/// The first line that a program says.
fn said(command: &mut Command) -> String {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text.as_deref().and_then(|text| text.lines().next());
    line.unwrap_or("not known").to_string()
}
