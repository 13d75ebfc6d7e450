// SPDX-License-Identifier: GPL-2.0
//! The policies on the command line, made from the library's table of them.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches, Subcommand};
use smapp::policy::{OptionInfo, PolicyInfo, PolicyOptions};

/// The policy that a command line names, with its options.
#[derive(Clone, Debug, PartialEq)]
pub struct ChosenPolicy(pub PolicyOptions);

impl Subcommand for ChosenPolicy {
    fn augment_subcommands(command: Command) -> Command {
        command.subcommands(PolicyOptions::table().into_iter().map(subcommand))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        PolicyOptions::by_word(name).is_some()
    }
}

impl FromArgMatches for ChosenPolicy {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (word, given) = matches.subcommand().ok_or_else(missing)?;
        let mut options = PolicyOptions::by_word(word).ok_or_else(missing)?;
        for id in given.ids() {
            let name = id.as_str();
            if given.value_source(name) != Some(ValueSource::CommandLine) {
                continue;
            }
            // Options of the whole tool, like --json, have other types.
            let Ok(Some(values)) = given.try_get_many::<String>(name) else {
                continue;
            };
            let values: Vec<_> = values.map(String::as_str).collect();
            if PolicyOptions::table()
                .iter()
                .any(|policy| policy.word == word && has(policy, name))
            {
                let set = options.set(name, &values);
                set.map_err(|error| {
                    clap::Error::raw(clap::error::ErrorKind::ValueValidation, error)
                })?;
            }
        }
        Ok(Self(options))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn missing() -> clap::Error {
    clap::Error::new(clap::error::ErrorKind::MissingSubcommand)
}

fn has(policy: &PolicyInfo, name: &str) -> bool {
    policy.options.iter().any(|option| option.name == name)
}

fn subcommand(policy: PolicyInfo) -> Command {
    let paragraphs = paragraphs(policy.help);
    let word = policy.word;
    let options = policy.options.into_iter();
    Command::new(word)
        .about(paragraphs[0].clone())
        .long_about(paragraphs.join("\n\n"))
        .args(options.map(|option| argument(word, option)))
}

fn argument(word: &'static str, option: OptionInfo) -> Arg {
    let name = option.name.clone();
    let check = move |text: &str| -> Result<String, String> {
        let mut options = PolicyOptions::by_word(word).ok_or("no such policy")?;
        options.set(&name, &[text]).map(|()| text.to_owned())
    };
    let argument = Arg::new(option.name.clone())
        .long(option.name)
        .value_name(option.value_name)
        .help(paragraphs(option.help).join("\n\n"))
        .value_parser(check);
    let argument = match option.is_list {
        true => argument
            .value_delimiter(',')
            .action(clap::ArgAction::Append),
        false => argument,
    };
    match option.default {
        Some(default) => argument.default_value(default),
        None => argument,
    }
}

/// The paragraphs of a help text, each on one line.
fn paragraphs(lines: &[&str]) -> Vec<String> {
    let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    let paragraphs = lines.split(|line| line.is_empty());
    paragraphs.map(|lines| lines.join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use clap::{CommandFactory, Parser};
    use smapp::rules::Config;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        policy: ChosenPolicy,
    }

    const WORDS: [&str; 6] = [
        "fullmesh",
        "backup",
        "streaming",
        "refresh",
        "ndiffports",
        "limit",
    ];

    fn line(words: &[&str]) -> PolicyOptions {
        let words = ["run"].iter().chain(words);
        Line::try_parse_from(words).unwrap().policy.0
    }

    fn file(json: &str) -> Result<PolicyOptions, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn line_and_file_have_the_same_words_and_defaults() {
        for word in WORDS {
            let policy = file(&format!(r#"{{"{word}": {{}}}}"#)).unwrap();
            assert_eq!(policy, line(&[word]));
            assert_eq!(policy.word(), word);
        }
    }

    /// What docs/policies.md says of a policy, without the heading.
    fn section(word: &str) -> &'static str {
        let page = include_str!("../../../docs/policies.md");
        let heading = format!("\n## {word}\n");
        let (_, rest) = page.split_once(&heading).expect(word);
        rest.split("\n## ").next().unwrap()
    }

    /// The options in the table of a section, with their defaults.
    fn documented(section: &'static str) -> Vec<(&'static str, &'static str)> {
        let rows = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `--"));
        let row = |line: &'static str| {
            let (option, rest) = line.split_once('`').unwrap();
            let name = option.split(' ').next().unwrap();
            (name, rest.split('|').nth(1).unwrap().trim())
        };
        rows.map(row).collect()
    }

    #[test]
    fn the_page_has_every_policy_and_option_with_its_default() {
        let line = Line::command();
        let words: Vec<_> = line
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(words, WORDS);
        for policy in line.get_subcommands() {
            let word = policy.get_name();
            let known = policy
                .get_arguments()
                .filter_map(|a| Some((a.get_long()?, a)));
            let known: Vec<_> = known.collect();
            let documented = documented(section(word));
            let names: Vec<_> = documented.iter().map(|(name, _)| *name).collect();
            assert_eq!(
                names,
                known.iter().map(|k| k.0).collect::<Vec<_>>(),
                "{word}"
            );
            for ((name, default), (_, arg)) in documented.iter().zip(known) {
                // The others say in their help what holds without them.
                if let [value] = arg.get_default_values() {
                    assert_eq!(value.to_str(), Some(*default), "{word} --{name}");
                }
            }
        }
    }

    #[test]
    fn an_option_that_does_not_exist_is_refused() {
        for word in WORDS {
            let error = file(&format!(r#"{{"{word}": {{"lunch": 1}}}}"#)).unwrap_err();
            assert!(error.to_string().contains("lunch"), "{error}");
        }
    }

    /// What no option takes, unless it is a list of names.
    const BAD: [&str; 6] = ["0", "-1", "nan", "inf", "1e18", ""];

    /// All options of all policies, each with texts that it does not take.
    fn refused() -> Vec<(&'static str, OptionInfo, Vec<&'static str>)> {
        let mut all = Vec::new();
        for policy in PolicyOptions::table() {
            for option in policy.options {
                let bad = match option.value_name {
                    "NAME,.." => vec![""],
                    "TIME" => [&BAD[..], &["0s", "-1s", "nans", "infs", "1e18s", "0.1ms"]].concat(),
                    _ => BAD.to_vec(),
                };
                all.push((policy.word, option, bad));
            }
        }
        assert!(all.len() > 30, "{all:?}");
        all
    }

    #[test]
    fn what_an_option_does_not_take_is_refused_on_the_command_line() {
        for (word, OptionInfo { name, .. }, bad) in refused() {
            for value in bad {
                let argument = format!("--{name}={value}");
                let error = Line::try_parse_from(["run", word, &argument]).unwrap_err();
                let text = error.to_string();
                for part in [&format!("--{name}"), &format!("`{value}`"), "expected"] {
                    assert!(text.contains(part), "{word} {argument}: {part}: {text}");
                }
            }
        }
    }

    /// As text, and where it can be as a number, with what an error shows of that.
    fn literals(value: &str) -> Vec<(String, String)> {
        let mut all = vec![(format!("{value:?}"), value.to_owned())];
        let number = match value {
            "nan" => Some("NaN"),
            "1e18" => Some("1000000000000000000"),
            "0" | "-1" | "inf" => Some(value),
            _ => None,
        };
        all.extend(number.map(|shown| (value.to_owned(), shown.to_owned())));
        all
    }

    #[test]
    fn what_an_option_does_not_take_is_refused_in_a_file_with_its_place() {
        for (word, OptionInfo { name, is_list, .. }, bad) in refused() {
            let literals = bad.into_iter().flat_map(literals);
            for (literal, shown) in literals.filter(|(l, _)| !is_list || l.starts_with('"')) {
                let start = format!("policy.{word}.{name} = ");
                let value = if is_list {
                    format!("[{literal}]")
                } else {
                    literal
                };
                let text = format!("[[rule]]\n{start}{value}\n");
                let error = Config::parse(Path::new("smapp.toml"), &text).unwrap_err();
                assert_eq!(error.position, Some((2, start.len() + 1)), "{text}{error}");
                let message = error.to_string();
                for part in [&format!("{name}: "), &format!("`{shown}`"), "expected"] {
                    assert!(message.contains(part), "{text}: {part}: {message}");
                }
            }
        }
    }

    #[test]
    fn options_read_the_same_in_both() {
        assert_eq!(
            line(&["fullmesh", "--except", "wg*,tun0", "--reset-delay", "250ms"]),
            file(r#"{"fullmesh": {"except": ["wg*", "tun0"], "reset-delay": "250ms"}}"#).unwrap()
        );
    }
}
