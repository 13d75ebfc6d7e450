// SPDX-License-Identifier: GPL-2.0
//! What rtnetlink tells of interfaces, addresses and routes, as far as that something has
//! changed: what holds now is asked for.
//!
//! C header: `linux/rtnetlink.h`

use std::os::fd::{AsRawFd, RawFd};

use neli::consts::socket::NlFamily;

use crate::netlink::{Error, Received, Socket};

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV4_RULE: u32 = 8;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_IPV6_RULE: u32 = 19;

/// RTM_NEWLINK to RTM_DELADDR.
const LINKS_AND_ADDRESSES: std::ops::RangeInclusive<u16> = 16..=21;

/// A socket that hears of changes.
pub(super) struct RouteWatch {
    socket: Socket,
}

/// What has changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changed {
    /// Interfaces or addresses.
    pub addresses: bool,
    /// Routes, or rules about them.
    pub routes: bool,
}

impl RouteWatch {
    /// Opens a socket in the current network namespace that hears of interfaces and
    /// addresses.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(NlFamily::Route)?;
        socket.join(&[RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR])?;
        Ok(Self { socket })
    }

    /// Hears of routes from now on, too.
    pub fn add_routes(&self) -> Result<(), Error> {
        self.socket.join(&[
            RTNLGRP_IPV4_ROUTE,
            RTNLGRP_IPV6_ROUTE,
            RTNLGRP_IPV4_RULE,
            RTNLGRP_IPV6_RULE,
        ])
    }

    /// Reads all that is queued.
    pub fn read(&mut self) -> Result<Changed, Error> {
        let mut changed = Changed::default();
        loop {
            let messages = match self.socket.receive()? {
                Received::Nothing => return Ok(changed),
                // Anything may have been in what is lost.
                Received::Overrun => {
                    changed = Changed {
                        addresses: true,
                        routes: true,
                    };
                    continue;
                }
                Received::Datagram(messages) => messages,
            };
            for message in messages {
                match message {
                    Ok(message) if LINKS_AND_ADDRESSES.contains(&message.kind) => {
                        changed.addresses = true;
                    }
                    Ok(_) => changed.routes = true,
                    Err(error) => {
                        log::error!("a message of rtnetlink ignored: {error}");
                        changed.addresses = true;
                    }
                }
            }
        }
    }
}

impl AsRawFd for RouteWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
