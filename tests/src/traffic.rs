// SPDX-License-Identifier: GPL-2.0
//! Multipath TCP connections between the client and the server of a topology.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fd::OwnedFd;
use rustix::process::{Resource, Rlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::netns::Netns;
use crate::topology::{Family, Topology, server};
use crate::wait::DEADLINE;

/// Make a Multipath TCP socket, or a TCP one for fallback, in the caller's network
/// namespace.
pub fn socket(family: Family, protocol: Protocol) -> Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::STREAM, Some(protocol))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    Ok(socket)
}

fn as_stream(socket: Socket) -> TcpStream {
    OwnedFd::from(socket).into()
}

/// Listen on an address, on a free port.
pub fn listen(host: &Netns, address: IpAddr, protocol: Protocol) -> Result<TcpListener> {
    let family = if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    };
    host.enter(|| -> Result<_> {
        let socket = socket(family, protocol)?;
        socket.bind(&SocketAddr::new(address, 0).into())?;
        socket.listen(128)?;
        Ok(OwnedFd::from(socket).into())
    })
    .with_context(|| format!("cannot listen on {address}"))
}

/// Connect to an address and send the first data at once.
pub fn connect(host: &Netns, to: SocketAddr, first: &[u8]) -> Result<TcpStream> {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    host.enter(|| -> Result<_> {
        let socket = socket(family, Protocol::MPTCP)?;
        socket.connect(&to.into())?;
        let mut stream = as_stream(socket);
        stream.write_all(first)?;
        Ok(stream)
    })
    .with_context(|| format!("cannot connect to {to}"))
}

/// Both ends of one connection.
///
/// There is no thread behind it: what is written to one end can be read from the
/// other, as long as it fits into the socket buffers.
#[derive(Debug)]
pub struct Connection {
    /// The end that connected.
    pub client: TcpStream,
    /// The end that accepted.
    pub server: TcpStream,
    /// Where the server listens.
    pub listener: TcpListener,
}

impl Connection {
    /// Connect the client to the server over the first path.
    pub fn open(topology: &Topology, family: Family) -> Result<Self> {
        let listener = listen(&topology.server, server(family), Protocol::MPTCP)?;
        Self::open_to(topology, listener)
    }

    /// Connect the client to a listening socket of the server.
    pub fn open_to(topology: &Topology, listener: TcpListener) -> Result<Self> {
        let client = connect(&topology.client, listener.local_addr()?, b"")?;
        let (server, _) = listener.accept().context("cannot accept")?;
        server.set_read_timeout(Some(DEADLINE))?;
        server.set_write_timeout(Some(DEADLINE))?;
        Ok(Connection {
            client,
            server,
            listener,
        })
    }

    /// As [`Connection::open`], with some data exchanged: both ends are fully
    /// established after that.
    pub fn establish(topology: &Topology, family: Family) -> Result<Self> {
        let mut connection = Self::open(topology, family)?;
        connection.exchange(1)?;
        Ok(connection)
    }

    /// Send some bytes to the server and as many back, at most some 10,000.
    pub fn exchange(&mut self, length: usize) -> Result<()> {
        pass(&mut self.client, &mut self.server, length).context("client to server")?;
        pass(&mut self.server, &mut self.client, length).context("server to client")
    }

    /// Send more bytes to the server than fit into the socket buffers and the
    /// queues of a path: every path that works carries some of them.
    pub fn transfer(&mut self, length: usize) -> Result<()> {
        let Connection { client, server, .. } = self;
        thread::scope(|scope| {
            let writer = scope.spawn(|| client.write_all(&vec![7; length]));
            let mut received = vec![0; length];
            server.read_exact(&mut received).context("cannot read")?;
            ensure!(
                received.iter().all(|&byte| byte == 7),
                "received other bytes than were sent"
            );
            writer
                .join()
                .expect("writing does not panic")
                .context("cannot write")
        })
    }

    /// Wait this long in reads and writes, for what is slow by nature.
    pub fn be_patient(&self, deadline: Duration) -> Result<()> {
        for end in [&self.client, &self.server] {
            end.set_read_timeout(Some(deadline))?;
            end.set_write_timeout(Some(deadline))?;
        }
        Ok(())
    }

    /// Close the client's end so that the peer gets an MP_FASTCLOSE.
    pub fn abort(self) -> Result<(TcpStream, TcpListener)> {
        SockRef::from(&self.client).set_linger(Some(Duration::ZERO))?;
        Ok((self.server, self.listener))
    }

    /// The client's address and port of the initial subflow.
    pub fn client_address(&self) -> Result<SocketAddr> {
        Ok(self.client.local_addr()?)
    }

    /// The server's address and port.
    pub fn server_address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, length: usize) -> Result<()> {
    let sent: Vec<u8> = (0..length).map(|i| i as u8).collect();
    from.write_all(&sent).context("cannot write")?;
    let mut received = vec![0; length];
    to.read_exact(&mut received).context("cannot read")?;
    ensure!(
        sent == received,
        "the {length} bytes received are not those sent"
    );
    Ok(())
}

/// Let the process have as many files as very many connections need.
pub fn allow_files() -> Result<()> {
    const FILES: u64 = 100_000;
    let files = Rlimit {
        current: Some(FILES),
        maximum: Some(FILES),
    };
    setrlimit(Resource::Nofile, files).context("cannot raise the number of files")
}

/// Very many connections of a host with itself.
#[derive(Debug)]
pub struct Crowd<'a> {
    host: &'a Netns,
    listener: TcpListener,
    ends: Vec<[TcpStream; 2]>,
}

impl<'a> Crowd<'a> {
    /// None yet; lets the process have as many files as they need.
    pub fn new(host: &'a Netns, address: Ipv4Addr) -> Result<Self> {
        allow_files()?;
        Ok(Crowd {
            host,
            listener: listen(host, address.into(), Protocol::MPTCP)?,
            ends: Vec::new(),
        })
    }

    /// Connect more, each with its first data.
    pub fn grow(&mut self, count: usize) -> Result<()> {
        let to = self.listener.local_addr()?;
        let listener = &self.listener;
        let ends = self.host.enter(|| -> Result<Vec<_>> {
            let mut ends = Vec::with_capacity(count);
            for _ in 0..count {
                let socket = socket(Family::V4, Protocol::MPTCP)?;
                socket.connect(&to.into())?;
                let mut near = as_stream(socket);
                near.write_all(b"!")?;
                let (mut far, _) = listener.accept()?;
                far.read_exact(&mut [0])?;
                ends.push([near, far]);
            }
            Ok(ends)
        });
        self.ends.extend(ends?);
        Ok(())
    }
}
