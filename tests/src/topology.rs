// SPDX-License-Identifier: GPL-2.0
//! The network of the tests: a client with two addresses, a router, a server.
//!
//! ```text
//!           eth0 10.0.1.2                   10.0.1.1 c0
//!           fd00:1::2  ------- path 1 ------- fd00:1::1          eth0 10.0.3.2
//!  client                                               router -----  server
//!           eth1 10.0.2.2                   10.0.2.1 c1   s0     fd00:3::2
//!           fd00:2::2  ------- path 2 ------- fd00:2::1
//! ```
//!
//! Each address of the client uses its own path, in both directions. The link to
//! the server is not shaped.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::netns::Netns;
use crate::on_failure;
use crate::shaping::Shaping;
use crate::wait::DEADLINE;

pub use crate::family::Family;
pub use crate::shaping::Shape;

/// One of the two ways from the client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// `eth0` of the client: its default route.
    First,
    /// `eth1` of the client.
    Second,
}

impl Path {
    fn number(self) -> u8 {
        match self {
            Path::First => 1,
            Path::Second => 2,
        }
    }

    /// Its interface on the client.
    pub fn interface(self) -> &'static str {
        match self {
            Path::First => "eth0",
            Path::Second => "eth1",
        }
    }

    /// Its interface on the router.
    fn router_interface(self) -> &'static str {
        match self {
            Path::First => "c0",
            Path::Second => "c1",
        }
    }

    /// The client's address on it.
    pub fn client(self, family: Family) -> IpAddr {
        self.address(family, 2)
    }

    /// Lines of `ip -batch` that give the client its address, and the routes that
    /// tie it to the path.
    fn add(self, family: Family) -> String {
        let (dev, table) = (self.interface(), self.number());
        let (local, router, prefix) = (self.client(family), self.router(family), prefix(family));
        let dad = if family == Family::V6 { "nodad" } else { "" };
        format!(
            "address add {local}/{prefix} dev {dev} {dad}\n\
             route add default via {router} dev {dev} metric {table}\n\
             route add default via {router} dev {dev} table {table}\n\
             rule add from {local} table {table}\n"
        )
    }

    /// Lines of `ip -batch` that undo those of [`Path::add`].
    fn remove(self, family: Family) -> String {
        let (dev, table) = (self.interface(), self.number());
        let (local, prefix) = (self.client(family), prefix(family));
        format!(
            "rule delete from {local} table {table}\n\
             route delete default dev {dev} table {table}\n\
             route delete default dev {dev} metric {table}\n\
             address delete {local}/{prefix} dev {dev}\n"
        )
    }

    fn router(self, family: Family) -> IpAddr {
        self.address(family, 1)
    }

    fn address(self, family: Family, host: u8) -> IpAddr {
        address(family, self.number(), host)
    }
}

/// The server's address.
pub fn server(family: Family) -> IpAddr {
    address(family, 3, 2)
}

fn address(family: Family, net: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => [10, 0, net, host].into(),
        Family::V6 => [0xfd00, net.into(), 0, 0, 0, 0, 0, host.into()].into(),
    }
}

fn prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// What is done to the packets of a path on the router, in both directions unless
/// it says otherwise. The links stay up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They vanish.
    Blackhole,
    /// They vanish, and the sender gets an ICMP message: "host unreachable" (IPv4,
    /// EHOSTUNREACH) or "no route" (IPv6, ENETUNREACH).
    Unreachable,
    /// TCP segments are answered by a RST.
    Reset,
    /// The client's TCP segments lose their Multipath TCP options.
    Strip,
}

/// Routing tables of the router in which every destination is a [`Fault`].
const BLACKHOLE: u8 = 11;
const UNREACHABLE: u8 = 12;

/// A network of three namespaces, removed when dropped.
///
/// When a test panics, it is told what the client and the server know.
#[derive(Debug)]
pub struct Topology {
    /// Host with two addresses.
    pub client: Netns,
    /// Router between the paths and the server.
    pub router: Netns,
    /// Host with one address.
    pub server: Netns,
    shapes: [Shape; 2],
}

impl Topology {
    /// Two paths of equal, default shape; the path manager of the client and of
    /// the server is `smapp`.
    pub fn new() -> Result<Self> {
        let topology = Self::with_shapes([Shape::default(); 2])?;
        for host in [&topology.client, &topology.server] {
            host.manage_by_smapp()?;
        }
        Ok(topology)
    }

    /// Two paths of the given shapes; path managers as the kernel has them.
    pub fn with_shapes(shapes: [Shape; 2]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::build(|role| format!("{role}-{number}"), shapes).context("cannot build the topology")
    }

    /// As [`Topology::with_shapes`], with namespaces named `client`, `router` and
    /// `server`: for people.
    pub fn with_plain_names(shapes: [Shape; 2]) -> Result<Self> {
        Self::build(str::to_string, shapes).context("cannot build the topology")
    }

    fn build(name: impl Fn(&str) -> String, shapes: [Shape; 2]) -> Result<Self> {
        let [client, router, server] = ["client", "router", "server"].map(name);
        let [client, router, server] = Netns::add([&client, &router, &server])?;
        let topology = Topology {
            client,
            router,
            server,
            shapes,
        };
        let Topology {
            client,
            router,
            server,
            ..
        } = &topology;
        on_failure::watch(client.name());
        on_failure::watch(server.name());
        // Without this an address is of no use in its first second or two.
        for host in [client, router, server] {
            host.set_sysctl("ipv6/conf/default/accept_dad", "0")?;
        }
        router.set_sysctl("ipv4/ip_forward", "1")?;
        router.set_sysctl("ipv6/conf/all/forwarding", "1")?;
        let links = format!(
            "link set lo up\n\
             link add c0 type veth peer name eth0 netns {0}\n\
             link add c1 type veth peer name eth1 netns {0}\n\
             link add s0 type veth peer name eth0 netns {1}\n\
             link set c0 up\nlink set c1 up\nlink set s0 up\n\
             address add 10.0.1.1/24 dev c0\naddress add fd00:1::1/64 dev c0 nodad\n\
             address add 10.0.2.1/24 dev c1\naddress add fd00:2::1/64 dev c1 nodad\n\
             address add 10.0.3.1/24 dev s0\naddress add fd00:3::1/64 dev s0 nodad\n\
             route add blackhole 0.0.0.0/0 table {2}\nroute add blackhole ::/0 table {2}\n\
             route add unreachable 0.0.0.0/0 table {3}\nroute add unreachable ::/0 table {3}\n",
            client.name(),
            server.name(),
            BLACKHOLE,
            UNREACHABLE
        );
        router.ip(&links)?;
        server.ip("link set lo up\nlink set eth0 up\n\
             address add 10.0.3.2/24 dev eth0\naddress add fd00:3::2/64 dev eth0 nodad\n\
             route add default via 10.0.3.1\nroute add default via fd00:3::1\n")?;
        let links = "link set lo up\nlink set eth0 up\nlink set eth1 up\n".to_owned();
        let addresses = |family| {
            [Path::First, Path::Second]
                .map(|path| path.add(family))
                .concat()
        };
        client.ip(&(links + &addresses(Family::V4)))?;
        client.ip_of(Family::V6, &addresses(Family::V6))?;
        topology.shape("add", Path::First, 0)?;
        topology.shape("add", Path::Second, 0)?;
        Ok(topology)
    }

    fn shape(&self, verb: &str, path: Path, loss: u32) -> Result<()> {
        let shape = self.shapes[usize::from(path.number()) - 1];
        let discipline = Shaping::of_this_kernel(&self.router)?.discipline(shape, loss)?;
        let line = |dev| format!("qdisc {verb} dev {dev} root {discipline}\n");
        self.client.tc(&line(path.interface()))?;
        self.router.tc(&line(path.router_interface()))
    }

    /// Lose so many percent of the packets of a path, in each direction. Those that
    /// are under way arrive. Needs netem.
    pub fn set_loss(&self, path: Path, percent: u32) -> Result<()> {
        self.shape("change", path, percent)
    }

    /// Let the hosts send each segment by itself, as on a wire: otherwise up to 64 KB
    /// are one packet, which netem delays and loses as one.
    pub fn without_offload(self) -> Result<Self> {
        let lines = "link set eth0 gso_max_segs 1\n";
        self.server.ip(lines)?;
        self.client
            .ip(&format!("{lines}link set eth1 gso_max_segs 1\n"))?;
        Ok(self)
    }

    /// Give the client its IPv4 and IPv6 address on a path, and the routes that
    /// tie them to it.
    pub fn add_address(&self, path: Path) -> Result<()> {
        Family::BOTH
            .iter()
            .try_for_each(|&family| self.client.ip_of(family, &path.add(family)))
    }

    /// Remove the client's addresses on a path and what [`Topology::add_address`]
    /// came with.
    pub fn remove_address(&self, path: Path) -> Result<()> {
        Family::BOTH
            .iter()
            .try_for_each(|&family| self.client.ip_of(family, &path.remove(family)))
    }

    /// See that a path works, by UDP to a port of the server that nobody has: an ICMP message
    /// says so.
    pub fn try_path(&self, path: Path) -> Result<()> {
        let port = 9;
        self.client.enter(|| {
            let socket = UdpSocket::bind((path.client(Family::V4), 0))?;
            socket.connect((server(Family::V4), port))?;
            socket.set_read_timeout(Some(DEADLINE))?;
            socket.send(b"?")?;
            match socket.recv(&mut [0]) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
                Err(error) => Err(error).context("no answer"),
                Ok(_) => bail!("somebody answered at UDP port {port}"),
            }
        })
    }

    /// Break a path on the router.
    pub fn break_path(&self, path: Path, fault: Fault) -> Result<()> {
        match fault {
            Fault::Blackhole => self.rules("add", path, BLACKHOLE),
            Fault::Unreachable => self.rules("add", path, UNREACHABLE),
            Fault::Reset => self.filter(&["iifname", "oifname"], path, "reject with tcp reset"),
            Fault::Strip => self.filter(&["iifname"], path, "reset tcp option mptcp"),
        }
    }

    /// Repair a path broken by [`Topology::break_path`].
    pub fn repair_path(&self, path: Path, fault: Fault) -> Result<()> {
        match fault {
            Fault::Blackhole => self.rules("delete", path, BLACKHOLE),
            Fault::Unreachable => self.rules("delete", path, UNREACHABLE),
            Fault::Reset | Fault::Strip => self.router.nft("delete table inet broken\n"),
        }
    }

    /// Route what comes from and goes to the client over a path by another table.
    fn rules(&self, verb: &str, path: Path, table: u8) -> Result<()> {
        for family in Family::BOTH {
            let (dev, local) = (path.router_interface(), path.client(family));
            self.router.ip_of(
                family,
                &format!(
                    "rule {verb} from {local} iif {dev} table {table}\n\
                     rule {verb} to {local} iif s0 table {table}\n"
                ),
            )?;
        }
        Ok(())
    }

    /// Do something to the TCP segments that come from an interface of the router,
    /// or go to it.
    fn filter(&self, selectors: &[&str], path: Path, action: &str) -> Result<()> {
        let dev = path.router_interface();
        let rule = |selector| format!("meta l4proto tcp {selector} {dev} {action}\n");
        let rules: String = selectors.iter().map(rule).collect();
        self.router.nft(&format!(
            "table inet broken {{\n\
               chain forward {{\n\
                 type filter hook forward priority 0;\n\
                 {rules}\
               }}\n\
             }}\n"
        ))
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for host in [&self.client, &self.server] {
            on_failure::forget(host.name());
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path {}", self.number())
    }
}
