// SPDX-License-Identifier: GPL-2.0
//! The grammar of the command line, after `ip mptcp`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use smapp::{EventKind, KernelKind, Token};

use crate::command_words::{Endpoint, endpoint};
use crate::policy_arguments::ChosenPolicy;

/// Decide in user space which subflows Multipath TCP connections have.
///
/// The kernel tells what happens to connections and takes commands; this tool shows the
/// one and gives the other, by hand or by a policy. It uses the interface of the module
/// smapp_pm, or what every kernel since 6.1 has.
#[derive(Debug, Parser)]
#[command(
    name = "smapp",
    version,
    after_help = "\
Examples:
  smapp status                                  is everything there that smapp needs?
  sysctl -w net.mptcp.path_manager=smapp        let smapp manage new connections
                                                (`userspace` without the module)
  smapp run fullmesh                            a subflow from every local address
  smapp run --config /etc/smapp.toml            policies by port, address, user ..
  smapp why 1a2b3c4d                            what was decided for a connection
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

    /// Use this interface of the kernel: that of the module smapp_pm, or the stock one
    /// [default: the one of the path manager that the network namespace has]
    #[arg(long, global = true, value_name = "module|stock")]
    pub kernel: Option<KernelKind>,

    /// Work in the network namespace NAME, as `ip netns` lists it
    #[arg(long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,

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
  smapp monitor --connection 1a2b3c4d
  smapp --json monitor | jq -c 'select(.event == \"timeout\") | .subflow.rto'")]
    Monitor {
        /// Only these events: created, estab, closed, sub_estab, sub_closed,
        /// timeout, sub_priority, add_addr, rem_addr
        #[arg(long, value_delimiter = ',', value_name = "EVENT,..")]
        events: Vec<EventKind>,
        /// Only events of the connection with this token
        #[arg(long, value_name = "TOKEN")]
        connection: Option<Token>,
    },
    /// Show live connections
    #[command(subcommand)]
    Connection(Connection),
    /// Open, close and change subflows
    #[command(subcommand)]
    Subflow(Subflow),
    /// Announce local addresses to the peer
    #[command(subcommand)]
    Address(Address),
    /// Show what the module has counted since it was loaded
    Stats,
    /// Run a policy, or several by the rules of a file, until it is interrupted
    ///
    /// Connections that are open already are taken in: to stop, to be killed and
    /// to start again costs nothing but the time between. SIGHUP reads the file
    /// again, SIGTERM ends; either way all subflows stay.
    #[command(
        subcommand_value_name = "POLICY",
        subcommand_help_heading = "Policies",
        after_help = "\
Examples:
  smapp run fullmesh
  smapp -v run fullmesh --except 'wg*'       and tell each decision on stderr
  smapp run --config /etc/smapp.toml
  smapp --namespace blue run fullmesh

A file for --config; the first rule that matches a connection decides:
  [[rule]]
  name = \"bulk\"
  remote-port = [80, \"8000-8100\"]
  policy.fullmesh.except = [\"wg*\"]

  [[rule]]
  uid = 1000
  policy = \"none\"

`smapp config check FILE` tells what the rules of a file mean."
    )]
    Run {
        /// Take the policies from this file, for connections by its rules
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Seed for what is random in a policy [default: the process id]
        #[arg(long)]
        seed: Option<u64>,
        #[command(subcommand)]
        policy: Option<ChosenPolicy>,
    },
    /// Show why a running `smapp run` did what it did: its last decisions for a connection
    #[command(after_help = "\
Each line has the time (UTC), the rule that gave the connection its policy, and
the decision, which begins with the event at hand. `smapp -v run` logs the same.

Examples:
  smapp why 1a2b3c4d
  smapp --namespace blue why 1a2b3c4d
  smapp --json why 1a2b3c4d | jq -r .text")]
    Why {
        /// Token, as `smapp connection list` prints it
        token: Token,
    },
    /// Look at a configuration file
    #[command(subcommand)]
    Config(Config),
    /// Print a script that completes commands in a shell
    #[command(after_help = "Example:\n  smapp completions bash > /etc/bash_completion.d/smapp")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write man pages, one a command
    #[command(after_help = "Example:\n  smapp man /usr/local/share/man/man1")]
    Man {
        /// A directory that exists
        directory: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Tell what the rules of a file mean, one a line, or what is wrong and where
    #[command(after_help = "Example:\n  smapp config check /etc/smapp.toml")]
    Check {
        /// A file as `smapp run --config` reads it
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum Connection {
    /// One line for each connection
    List,
    /// A connection with its subflows and what TCP knows of them
    #[command(after_help = "\
Examples:
  smapp connection show 1a2b3c4d
  smapp connection show 1a2b3c4d --watch")]
    Show {
        /// Token, as `smapp connection list` prints it
        token: Token,
        /// Again every second, until the connection is over or Ctrl-C
        #[arg(long)]
        watch: bool,
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
    #[command(after_help = "\
Words:
  id NUMBER                             as `smapp connection show` prints it
  from ADDRESS:PORT to ADDRESS:PORT     or by both its ends
  reset                                 with a RST instead of a FIN

Examples:
  smapp subflow remove 1a2b3c4d id 2
  smapp subflow remove 1a2b3c4d id 2 reset
  smapp subflow remove 1a2b3c4d from 10.0.2.1:40001 to 10.0.3.1:80")]
    Remove {
        /// Token of the connection
        token: Token,
        /// id NUMBER, from ADDRESS:PORT to ADDRESS:PORT, reset
        #[arg(value_name = "WORD", required = true)]
        words: Vec<String>,
    },
    /// Ask the peer to use a subflow only while no other works, or no longer so
    #[command(after_help = "\
Examples:
  smapp subflow set 1a2b3c4d id 2 backup on
  smapp subflow set 1a2b3c4d id 2 backup off")]
    Set {
        /// Token of the connection
        token: Token,
        /// The word `id`
        #[arg(value_parser = ["id"])]
        id: String,
        /// Number of the subflow, as `smapp connection show` prints it
        number: u32,
        /// The word `backup`
        #[arg(value_parser = ["backup"])]
        backup: String,
        /// Whether the subflow is a backup
        #[arg(value_parser = ["on", "off"])]
        value: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Address {
    /// Tell the peer of an address, until it confirms; prints the number that it got
    #[command(after_help = "\
Examples:
  smapp address announce 1a2b3c4d 10.0.3.2
  smapp address announce 1a2b3c4d [fd00:3::2]:8080")]
    Announce {
        /// Token of the connection
        token: Token,
        /// ADDRESS, ADDRESS:PORT or [IPV6]:PORT; without a port, that of the initial subflow
        #[arg(value_parser = endpoint)]
        address: Endpoint,
    },
    /// Tell the peer that an address is gone; it closes its subflows to it
    #[command(after_help = "Example:\n  smapp address withdraw 1a2b3c4d id 1 10.0.3.2")]
    Withdraw {
        /// Token of the connection
        token: Token,
        /// The word `id`
        #[arg(value_parser = ["id"])]
        id: String,
        /// Number of the address, as `smapp address announce` prints it
        number: u8,
        /// The address, with the port if it was announced with one
        #[arg(value_parser = endpoint)]
        address: Endpoint,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split(' ')).map_err(|e| e.kind())
    }

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_unit_starts_the_daemon() {
        let unit = include_str!("../../../packaging/smapp.service");
        let start = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="));
        let Command::Run { config, policy, .. } = parse(start.unwrap()).unwrap().command else {
            panic!("{start:?}");
        };
        assert!(config.is_some() && policy.is_none());
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
            let Command::Connection(Connection::Show { token, .. }) = parse(line).unwrap().command
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
        let Command::Monitor { events, .. } = parse("smapp monitor --events estab,sub_closed")
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
    fn a_subflow_is_set_and_an_address_announced() {
        assert!(parse("smapp subflow set 1a2b id 7 backup on").is_ok());
        assert_eq!(
            parse("smapp subflow set 1a2b id 7 backup maybe").unwrap_err(),
            ErrorKind::InvalidValue
        );
        assert!(parse("smapp address announce 1a2b [fd00::1]:80").is_ok());
        assert!(parse("smapp address withdraw 1a2b id 3 10.0.1.1").is_ok());
        assert_eq!(
            parse("smapp address withdraw 1a2b id 256 10.0.1.1").unwrap_err(),
            ErrorKind::ValueValidation
        );
    }

    #[test]
    fn a_subflow_to_remove_is_named() {
        let incomplete = parse("smapp subflow remove 1a2b").unwrap_err();
        assert_eq!(incomplete, ErrorKind::MissingRequiredArgument);
    }
}
