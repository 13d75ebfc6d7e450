// SPDX-License-Identifier: GPL-2.0
//! A server that has lost a connection, as after a restart: it answers whatever comes with a
//! RST. What a policy tries does not keep the program waiting.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use anyhow::{Result, ensure};
use smapp_tests::{Family, PathManager, Topology};

use super::{connect, policy};

/// `net.mptcp.close_timeout`: how long the kernel waits by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

const LOST: &str = "table inet lost {\n\
       chain input {\n\
         type filter hook input priority 0;\n\
         meta l4proto tcp reject with tcp reset\n\
       }\n\
     }\n";

fn the_program_is_told(words: Option<&str>) -> Result<()> {
    for family in Family::BOTH {
        let topology = Topology::new()?;
        let mut client = PathManager::of(&topology.client)?;
        let _policy = words
            .map(|words| policy(&topology.client, words))
            .transpose()?;
        let (mut connection, _) = connect(&topology, family, &mut client)?;
        connection.transfer(100_000)?;
        topology.server.nft(LOST)?;
        connection.be_patient(CLOSE_TIMEOUT * 2)?;
        connection.client.write_all(&[7; 1000])?;
        let read = connection.client.read(&mut [0; 1000]);
        let told = match &read {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        ensure!(told, "{words:?}, {family:?}: {read:?}");
    }
    Ok(())
}

#[test]
fn without_a_policy_the_program_is_told() -> Result<()> {
    the_program_is_told(None)
}

#[test]
fn fullmesh_does_not_keep_the_program_waiting() -> Result<()> {
    the_program_is_told(Some("fullmesh"))
}

#[test]
fn backup_does_not_keep_the_program_waiting() -> Result<()> {
    the_program_is_told(Some("backup"))
}

#[test]
fn streaming_does_not_keep_the_program_waiting() -> Result<()> {
    the_program_is_told(Some("streaming"))
}

#[test]
fn refresh_does_not_keep_the_program_waiting() -> Result<()> {
    the_program_is_told(Some("refresh"))
}

#[test]
fn ndiffports_does_not_keep_the_program_waiting() -> Result<()> {
    the_program_is_told(Some("ndiffports --longest-delay 10s"))
}
