// SPDX-License-Identifier: GPL-2.0
//! The report as files: Markdown, HTML, drawings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Chapter, Experiment, Results};

/// What the report as a whole says of itself.
#[derive(Debug)]
pub struct Preface {
    /// Names of programs and their versions.
    pub versions: Vec<(String, String)>,
    /// How long all runs took, on how many CPUs: a sentence.
    pub effort: String,
    /// The instructions of each hop and of each event, if they were counted.
    pub hops: Option<String>,
}

const HOPS: &str = "
## Instruction by instruction

What `make hops` has counted with a plugin of QEMU: from the hook that says that a connection is
established to the SYN of its second subflow, and from each hook until its event is sent. In brackets
the function of the kernel at which a hop ends, or the hook.
";

/// What all experiments have in common.
const METHOD: &str = "\
The evaluation of *SMAPP: Towards Smart Multipath TCP-enabled APPlications* (CoNEXT 2015,
section 4), made anew with Linux 7.3 and [smapp](../README.md): for each experiment the paper's
number, the in-kernel path manager of 7.3, and a policy of smapp.

Everything is measured on the wire (tcpdump inside the guest) or from kernel state (`TCP_INFO`,
`MPTCP_INFO`, counters of interfaces), never from what the daemon says.

## Where it is measured

Each run is one boot of a QEMU guest (`qemu/run`) with one CPU, `PREEMPT_LAZY`, `HZ=1000`. Hosts are
network namespaces joined by veth pairs; rate, delay and loss are netem's, in both directions, with
a queue of 80 packets. Segmentation offload is off: netem sees each segment by itself, as a wire
does.

Time is virtual (`-icount`): one instruction of the guest takes 2^shift ns (1 ns unless it is said
otherwise), waiting takes none of the host's time. What that means for the figures:

- A seed decides everything that is random: keys, ports, hashes, which packets are lost. The same
  seed should give the same tables, byte for byte; a line below says whether it did.
- An instruction always takes the same time: no caches, no branch prediction, no frequency that
  changes. Times that are made of instructions (microseconds) are a model; times that are made of
  rates, delays and timers (milliseconds and more) are what a real machine would show.
- Both hosts and all routers share the one CPU. At the rates below it is mostly idle.

The congestion control is CUBIC on each subflow: Linux 7.3 has no coupled one. The paper's kernel
(mptcp.org) is another implementation of Multipath TCP, with another scheduler.
";

/// Write `report.md`, `report.html` and the drawings into a directory.
pub fn write(
    directory: &Path,
    preface: &Preface,
    chapters: &[(&dyn Experiment, Results, Chapter)],
) -> Result<()> {
    let mut text = format!("# The evaluation of the paper, reproduced\n\n{METHOD}\n");
    text += &format!("{}\n\n| program | version |\n|---|---|\n", preface.effort);
    for (program, version) in &preface.versions {
        text += &format!("| {program} | {version} |\n");
    }
    for (experiment, results, chapter) in chapters {
        for figure in &chapter.figures {
            put(directory, &format!("{}.svg", figure.name), &figure.svg)?;
        }
        text += &section(*experiment, results, chapter);
    }
    if let Some(hops) = &preface.hops {
        text += &format!("{HOPS}\n```\n{}\n```\n", hops.trim());
    }
    put(directory, "report.md", &text)?;
    put(directory, "report.html", &html(&text))
}

fn section(experiment: &dyn Experiment, results: &Results, chapter: &Chapter) -> String {
    let Chapter {
        title,
        method,
        topology,
        ..
    } = chapter;
    let mut text = format!("\n## {title}\n\n{method}\n\n```{topology}\n```\n\n");
    for figure in &chapter.figures {
        let (name, caption) = (&figure.name, &figure.caption);
        text += &format!("![{caption}]({name}.svg)\n\n*{caption}*\n\n");
    }
    text += &format!(
        "{}\n{}\n\n",
        chapter.comparison.markdown(),
        chapter.discussion
    );
    text += "What must hold:\n\n";
    for claim in &chapter.claims {
        let holds = if claim.holds { "yes" } else { "**NO**" };
        text += &format!("- {holds}: {}\n", claim.text);
    }
    text += &format!("\nRuns, with tables in `runs/{}/`:\n\n", experiment.name());
    text += "| command | seeds |\n|---|---|\n";
    let mut commands: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for run in results.runs() {
        let name = experiment.name();
        let words = run.arguments().join(" ");
        let shift = match run.shift {
            0 => String::new(),
            shift => format!("--shift {shift} "),
        };
        let command = format!("`qemu/run --out DIR --seed SEED {shift}experiment {name} {words}`");
        commands.entry(command).or_default().push(run.seed);
    }
    for (command, seeds) in commands {
        text += &format!("| {command} | {} |\n", ranges(&seeds));
    }
    text
}

/// `1-3, 7`.
fn ranges(seeds: &[u64]) -> String {
    let mut seeds = seeds.to_vec();
    seeds.sort_unstable();
    seeds
        .chunk_by(|a, b| a + 1 == *b)
        .map(|chunk| match chunk {
            [first, .., last] => format!("{first}-{last}"),
            [one] => one.to_string(),
            [] => String::new(),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

const STYLE: &str = "body { max-width: 56em; margin: 2em auto; padding: 0 1em; \
    font: 16px/1.5 sans-serif; color: #222 } table { border-collapse: collapse } \
    th, td { border: 1px solid #ccc; padding: .25em .6em; text-align: left; vertical-align: top } \
    pre { background: #f6f6f6; padding: 1em; overflow-x: auto; line-height: 1.25 } \
    img { max-width: 100% }";

fn html(markdown: &str) -> String {
    use pulldown_cmark::{Options, Parser, html};
    let mut body = String::new();
    html::push_html(&mut body, Parser::new_ext(markdown, Options::ENABLE_TABLES));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <title>smapp: the evaluation of the paper</title>\n<style>{STYLE}</style>\n{body}</html>\n"
    )
}

fn put(directory: &Path, name: &str, content: &str) -> Result<()> {
    let path = directory.join(name);
    fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_that_follow_each_other_are_a_range() {
        assert_eq!(ranges(&[3, 1, 2, 7]), "1-3, 7");
    }

    #[test]
    fn a_table_becomes_html() {
        assert!(html("| a | b |\n|---|---|\n| 1 | 2 |\n").contains("<td>1</td>"));
    }
}
