// SPDX-License-Identifier: GPL-2.0
//! The grammar of the command line, after `ip mptcp`.

use std::net::{IpAddr, SocketAddr};

use clap::{Parser, Subcommand};
use smapp::{EventKind, Token};

/// Decide in user space which subflows Multipath TCP connections have.
///
/// The kernel module smapp_pm tells what happens to connections and takes
/// commands; this tool shows the one and gives the other, by hand or by a policy.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  smapp status                                  is everything there that smapp needs?
  sysctl -w net.mptcp.path_manager=smapp        let smapp manage new connections
  smapp run fullmesh                            a subflow from every local address
  smapp monitor                                 watch what happens
  smapp connection list                         tokens of the live connections
  smapp subflow add 1a2b3c4d from 10.0.2.1      one more subflow, to the same server

Exit status: 0 success, 1 failure, 2 wrong usage."
)]
pub struct Cli {
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,

    /// Tell on stderr what is decided and why; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show whether smapp can work here, and what to type if it cannot
    Status,
    /// Print events as they happen
    #[command(after_help = "\
Examples:
  smapp monitor
  smapp monitor --events sub_estab,sub_closed
  smapp --json monitor | jq -c 'select(.event == \"timeout\") | .subflow.rto'")]
    Monitor {
        /// Only these events: created, estab, closed, sub_estab, sub_closed, timeout
        #[arg(long, value_delimiter = ',', value_name = "EVENT,..")]
        events: Vec<EventKind>,
    },
    /// Show live connections
    #[command(subcommand)]
    Connection(Connection),
    /// Open and close subflows
    #[command(subcommand)]
    Subflow(Subflow),
    /// Run a policy until it is interrupted
    #[command(subcommand)]
    Run(Policy),
}

#[derive(Debug, Subcommand)]
pub enum Connection {
    /// One line for each connection
    List,
    /// A connection with its subflows and what TCP knows of them
    #[command(after_help = "Example:\n  smapp connection show 1a2b3c4d")]
    Show {
        /// Token, as `smapp connection list` prints it
        token: Token,
    },
}

#[derive(Debug, Subcommand)]
pub enum Subflow {
    /// Open a subflow; the kernel chooses what is left out
    #[command(after_help = "\
Words:
  from ADDRESS[:PORT]   local address, IPv6 with a port as [ADDRESS]:PORT
  to ADDRESS[:PORT]     remote address; without it, that of the initial subflow
  dev INTERFACE         bind the subflow to this interface
  backup                use it only while no other subflow works

Examples:
  smapp subflow add 1a2b3c4d from 10.0.2.1
  smapp subflow add 1a2b3c4d from 10.0.2.1:4000 to 10.0.3.1:80 dev eth1 backup
  smapp subflow add 1a2b3c4d from fd00:2::1 to [fd00:3::1]:80")]
    Add {
        /// Token of the connection
        token: Token,
        /// from ADDRESS[:PORT], to ADDRESS[:PORT], dev INTERFACE, backup
        #[arg(value_name = "WORD")]
        words: Vec<String>,
    },
    /// Close a subflow, whoever opened it
    #[command(after_help = "Example:\n  smapp subflow remove 1a2b3c4d id 2")]
    Remove {
        /// Token of the connection
        token: Token,
        /// The word `id`
        #[arg(value_parser = ["id"])]
        id: String,
        /// Number of the subflow, as `smapp connection show` prints it
        number: u32,
    },
}

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// A subflow from every usable local address to the server
    ///
    /// For each connection that this host opens, and for those that are open
    /// already: one subflow from each local address to the server's address,
    /// also when an address appears later, and again after one has failed.
    Fullmesh {
        /// Seed for the random part of retry delays [default: the process id]
        #[arg(long)]
        seed: Option<u64>,
    },
}

/// An address with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub port: Option<u16>,
}

/// What `subflow add` says of the subflow.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SubflowWords {
    pub from: Option<Endpoint>,
    pub to: Option<Endpoint>,
    pub dev: Option<String>,
    pub backup: bool,
}

impl SubflowWords {
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .ok_or(format!("`{word}` needs a value after it"))
            };
            let repeated = match word.as_str() {
                "from" => parsed.from.replace(endpoint(value()?)?).is_some(),
                "to" => parsed.to.replace(endpoint(value()?)?).is_some(),
                "dev" => parsed.dev.replace(value()?.clone()).is_some(),
                "backup" => std::mem::replace(&mut parsed.backup, true),
                _ => return Err(format!("`{word}`: expected from, to, dev or backup")),
            };
            if repeated {
                return Err(format!("`{word}` is given twice"));
            }
        }
        Ok(parsed)
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Endpoint {
            address,
            port: None,
        });
    }
    let error = |_| format!("`{text}`: expected ADDRESS or ADDRESS:PORT or [IPV6]:PORT");
    let both = text.parse::<SocketAddr>().map_err(error)?;
    Ok(Endpoint {
        address: both.ip(),
        port: Some(both.port()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split(' ')).map_err(|e| e.kind())
    }

    fn words(line: &str) -> Result<SubflowWords, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        SubflowWords::parse(&words)
    }

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_goes_before_and_after_the_command() {
        assert!(parse("smapp --json status").unwrap().json);
        assert!(parse("smapp connection list --json").unwrap().json);
        assert!(!parse("smapp status").unwrap().json);
    }

    #[test]
    fn tokens_are_hexadecimal_with_or_without_0x() {
        for line in ["smapp connection show 0x1a2b", "smapp connection show 1a2b"] {
            let Command::Connection(Connection::Show { token }) = parse(line).unwrap().command
            else {
                panic!("{line}");
            };
            assert_eq!(token, Token(0x1a2b));
        }
        assert_eq!(
            parse("smapp connection show xyz").unwrap_err(),
            ErrorKind::ValueValidation
        );
    }

    #[test]
    fn events_are_a_list_of_known_words() {
        let Command::Monitor { events } = parse("smapp monitor --events estab,sub_closed")
            .unwrap()
            .command
        else {
            panic!();
        };
        assert_eq!(events, [EventKind::Established, EventKind::SubflowClosed]);
        let unknown = parse("smapp monitor --events estab,lunch").unwrap_err();
        assert_eq!(unknown, ErrorKind::ValueValidation);
    }

    #[test]
    fn a_subflow_is_removed_by_its_id() {
        let line = "smapp subflow remove 1a2b id 7";
        let Command::Subflow(Subflow::Remove { token, number, .. }) = parse(line).unwrap().command
        else {
            panic!();
        };
        assert_eq!((token, number), (Token(0x1a2b), 7));
        assert_eq!(
            parse("smapp subflow remove 1a2b no 7").unwrap_err(),
            ErrorKind::InvalidValue
        );
        let incomplete = parse("smapp subflow remove 1a2b").unwrap_err();
        assert_eq!(incomplete, ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn the_words_of_a_subflow_come_in_any_order() {
        let expected = SubflowWords {
            from: Some(Endpoint {
                address: "10.0.2.1".parse().unwrap(),
                port: Some(4000),
            }),
            to: Some(Endpoint {
                address: "10.0.3.1".parse().unwrap(),
                port: None,
            }),
            dev: Some("eth1".to_owned()),
            backup: true,
        };
        assert_eq!(
            words("from 10.0.2.1:4000 to 10.0.3.1 dev eth1 backup").unwrap(),
            expected
        );
        assert_eq!(
            words("backup dev eth1 to 10.0.3.1 from 10.0.2.1:4000").unwrap(),
            expected
        );
        assert_eq!(words("").unwrap(), SubflowWords::default());
    }

    #[test]
    fn ipv6_has_its_port_behind_brackets() {
        let from = |line| words(line).unwrap().from.unwrap();
        assert_eq!(from("from fd00::1").port, None);
        assert_eq!(from("from [fd00::1]:80").port, Some(80));
        assert_eq!(
            from("from [fd00::1]:80").address,
            from("from fd00::1").address
        );
    }

    #[test]
    fn wrong_words_are_named() {
        assert!(words("from").unwrap_err().contains("`from` needs a value"));
        assert!(words("via 10.0.0.1").unwrap_err().contains("`via`"));
        assert!(words("from 10.0.0").unwrap_err().contains("`10.0.0`"));
        assert!(words("backup backup").unwrap_err().contains("twice"));
    }
}
