// SPDX-License-Identifier: GPL-2.0
//! A netlink socket with its receive buffer.

use std::os::fd::{AsRawFd, RawFd};

use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use nix::sys::socket::{MsgFlags, recv};

use super::{DONE, DUMP_INTERRUPTED, ERROR, Error, MULTI, Malformed, Message, Messages};

/// In bytes, larger than any datagram of an answer: 255 subflows with their tcp_info.
/// Pages that are never written cost nothing.
const RECEIVE_BUFFER: usize = 256 << 10;
/// In bytes, asked for as SO_RCVBUF; the kernel caps it at net.core.rmem_max.
const QUEUE: usize = 1 << 20;

/// What came of an attempt to receive.
#[derive(Debug)]
pub enum Received<'a> {
    /// One datagram.
    Datagram(Messages<'a>),
    /// Nothing is queued.
    Nothing,
    /// The queue was overrun, or the kernel had no memory for a message.
    Overrun,
}

/// A netlink socket that never waits, with its receive buffer.
pub struct Socket {
    socket: NlSocket,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the current network namespace.
    pub fn open(protocol: NlFamily) -> Result<Self, Error> {
        let open = || {
            let socket = NlSocket::connect(protocol, None, Groups::empty())?;
            socket.set_recv_buffer_size(QUEUE)?;
            socket.enable_ext_ack(true)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(Error::io("netlink socket"))?,
            buffer: vec![0; RECEIVE_BUFFER],
        })
    }

    /// Joins multicast groups, by the numbers that the family has given them.
    pub fn join(&self, groups: &[u32]) -> Result<(), Error> {
        self.socket
            .add_mcast_membership(Groups::new_groups(groups))
            .map_err(Error::io("joining the multicast groups"))
    }

    /// Sends a request, or several one behind the other.
    pub fn send(&self, request: &[u8]) -> Result<(), Error> {
        match self.socket.send(request, Msg::empty()) {
            Ok(_) => Ok(()),
            Err(e) => Err(Error::io("netlink send")(e)),
        }
    }

    /// Receives a datagram if one is queued.
    pub fn receive(&mut self) -> Result<Received<'_>, Error> {
        // MSG_TRUNC: the length is that of the datagram, even if it does not fit. The address
        // of the sender is not asked for: that would cost instructions.
        let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
        match recv(self.as_raw_fd(), &mut self.buffer, flags) {
            Ok(len) => match self.buffer.get(..len) {
                Some(datagram) => Ok(Received::Datagram(Messages::new(datagram))),
                None => {
                    Err(Malformed::Inconsistent("netlink datagram: longer than 256 KiB").into())
                }
            },
            Err(nix::Error::EAGAIN) => Ok(Received::Nothing),
            Err(nix::Error::ENOBUFS) => Ok(Received::Overrun),
            Err(e) => Err(Error::io("netlink receive")(e.into())),
        }
    }

    /// Sends a request numbered `seq` and hands each message of the answer to
    /// `each`. The kernel works on a request within the send, so its answer is
    /// there as soon as that returns: this never waits.
    pub fn call(
        &mut self,
        name: &'static str,
        seq: u32,
        request: &[u8],
        each: impl FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.send(request)?;
        self.answer(name, seq, each)
    }

    /// Hands each message of the answer to the request `seq`, which has been sent,
    /// to `each`. Of requests sent at once, the answers come in their order.
    pub fn answer(
        &mut self,
        name: &'static str,
        seq: u32,
        mut each: impl FnMut(Message<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut interrupted = false;
        loop {
            let messages = match self.receive()? {
                Received::Datagram(messages) => messages,
                Received::Nothing | Received::Overrun => return Err(Error::NoAnswer(name)),
            };
            for message in messages {
                let message = message?;
                if message.seq != seq {
                    continue; // It belongs to an answer that was given up before its end.
                }
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    ERROR | DONE => {
                        return finish(name, &message, interrupted);
                    }
                    _ => each(message)?,
                }
                if message.flags & MULTI == 0 {
                    return Ok(());
                }
            }
        }
    }
}

fn finish(name: &'static str, last: &Message<'_>, interrupted: bool) -> Result<(), Error> {
    let (errno, message) = match last.kind {
        ERROR => last.error()?,
        _ => (last.dump_error(), None),
    };
    match errno {
        0 if interrupted => Err(Error::Interrupted(name)),
        0 => Ok(()),
        errno => Err(Error::Refused {
            request: name,
            errno,
            message: message.map(str::to_owned),
        }),
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
