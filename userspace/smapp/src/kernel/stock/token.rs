// SPDX-License-Identifier: GPL-2.0
//! The token of the connection behind a socket, as any user may ask for it.

use std::os::fd::AsFd;

use neli::consts::socket::NlFamily;
use socket2::SockRef;

use super::wire::diag::{ConnectionSocket, FAMILIES, Question};
use crate::kernel::Error;
use crate::model::{Errno, Token};
use crate::netlink::{Message, Socket};

impl Token {
    /// The token of the connection behind a Multipath TCP socket, for any owner of it; no
    /// capability is needed. It is found by the socket's cookie (`SO_COOKIE`) among the
    /// connections that `sock_diag` lists in the network namespace of this thread.
    ///
    /// Fails with ENOENT if there is none: the socket is not connected, is one of plain TCP,
    /// or of another network namespace. A connection that fell back to TCP has its token still.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let stream = std::net::TcpStream::connect("192.0.2.1:80")?;
    /// println!("{}", smapp::Token::of(&stream)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn of(socket: &impl AsFd) -> Result<Self, Error> {
        let cookie = SockRef::from(socket).cookie();
        let cookie = cookie.map_err(Error::io("cookie of the socket"))?;
        let mut diag = Socket::open(NlFamily::SockOrInetDiag)?;
        let mut request = Vec::new();
        let mut found = None;
        for (family, seq) in FAMILIES.into_iter().zip(1..) {
            let question = Question::Connections { family };
            let request = question.encode(&mut request, seq);
            diag.call(question.name(), seq, request, |message: Message<'_>| {
                let connection = ConnectionSocket::decode(message.payload)?;
                if connection.owner.cookie == Some(cookie) {
                    found = Some(connection.token);
                }
                Ok(())
            })?;
        }
        found.ok_or_else(|| Error::Refused {
            command: "token of the socket",
            errno: Errno::ENOENT,
            message: Some("no multipath tcp connection of this network namespace".to_owned()),
        })
    }
}
