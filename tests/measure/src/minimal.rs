// SPDX-License-Identifier: GPL-2.0
//! The least that a path manager in user space can be: a loop over the interface of 7.3's
//! own one (`path_manager=userspace`), with one blocking receive for an event and one send
//! for its command.
//!
//! The numbers are those of `linux/mptcp_pm.h`.

use std::net::IpAddr;
use std::thread;

use anyhow::{Context, Result};
use neli::consts::socket::{Msg, NlFamily};
use neli::router::synchronous::NlRouter;
use neli::socket::NlSocket;
use neli::utils::Groups;
use smapp::wire::{Messages, Request};

use smapp_tests::netns::Netns;

const FAMILY: &str = "mptcp_pm";
const EVENTS: &str = "mptcp_pm_events";
const EVENT_ESTABLISHED: u8 = 2;
const COMMAND_SUBFLOW_CREATE: u8 = 10;

/// Start the loop in a thread that ends with the process: each connection that the host opens
/// gets a second subflow, from `local`, when it is established.
pub fn start(host: &Netns, local: IpAddr) -> Result<()> {
    let (family, events, commands) = host.enter(|| -> Result<_> {
        let (router, _) = NlRouter::connect(NlFamily::Generic, None, Groups::empty())?;
        let family = router.resolve_genl_family(FAMILY)?;
        let group = router.resolve_nl_mcast_group(FAMILY, EVENTS)?;
        let events = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
        events.add_mcast_membership(Groups::new_groups(&[group]))?;
        let commands = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
        Ok((family, events, commands))
    })?;
    thread::spawn(move || {
        let (mut buffer, mut request) = (vec![0; 8192], Vec::new());
        loop {
            let answered = events
                .recv(&mut buffer, Msg::empty())
                .context("receive")
                .and_then(|(length, _)| answer(&buffer[..length], family, local, &mut request))
                .and_then(|answered| {
                    if answered {
                        commands.send(&request, Msg::empty()).context("send")?;
                        commands.recv(&mut buffer, Msg::empty()).context("answer")?;
                    }
                    Ok(())
                });
            if let Err(error) = answered {
                return eprintln!("minimal loop: {error:#}");
            }
        }
    });
    Ok(())
}

/// Write the command that follows from an event, if one does.
fn answer(event: &[u8], family: u16, local: IpAddr, request: &mut Vec<u8>) -> Result<bool> {
    const TOKEN: u16 = 1;
    const REMOTE_ADDRESS: u16 = 7;
    const REMOTE_PORT: u16 = 10;
    const SERVER_SIDE: u16 = 18;
    let message = Messages::new(event).next().context("an empty datagram")??;
    let (kind, attributes) = message.generic()?;
    let (mut token, mut remote, mut port) = (None, None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            TOKEN => token = Some(attribute.u32()?),
            REMOTE_ADDRESS => remote = Some(attribute.address()?),
            REMOTE_PORT => port = Some(attribute.port()?),
            // Given with a value.
            SERVER_SIDE if attribute.payload == [1] => return Ok(false),
            _ => {}
        }
    }
    let (EVENT_ESTABLISHED, Some(token), Some(remote), Some(port)) = (kind, token, remote, port)
    else {
        return Ok(false);
    };
    // In commands a port is in host byte order.
    const ADDRESS: u16 = 1;
    const COMMAND_TOKEN: u16 = 4;
    const ADDRESS_REMOTE: u16 = 6;
    const INET: u16 = 2;
    const REQUEST_ACK: u16 = 4;
    Request::generic(request, family, REQUEST_ACK, 1, COMMAND_SUBFLOW_CREATE, 1)
        .nest(ADDRESS, |r| {
            r.attribute(1, &INET.to_ne_bytes())
                .attribute(2, &[1])
                .address(3, local)
        })
        .u32(COMMAND_TOKEN, token)
        .nest(ADDRESS_REMOTE, |r| {
            r.attribute(1, &INET.to_ne_bytes())
                .address(3, remote)
                .attribute(5, &port.to_ne_bytes())
        })
        .finish();
    Ok(true)
}
