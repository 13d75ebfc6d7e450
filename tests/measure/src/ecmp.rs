// SPDX-License-Identifier: GPL-2.0
//! A network that spreads flows over four paths by their ports.
//!
//! ```text
//!                            10 ms
//!                      ,---- p0 ----.
//!                      |---- p1 ----|  20 ms
//!  client ---- near ---|            |--- far ---- server
//!  10.1.0.2            |---- p2 ----|  30 ms      10.3.0.2
//!                      `---- p3 ----'
//!                            40 ms
//! ```
//!
//! Each router has a route with four next hops and hashes protocol, addresses and ports.
//! IPv4 only.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use smapp_tests::netns::{Netns, tool};
use smapp_tests::on_failure;

/// Number of paths.
pub const PATHS: usize = 4;

/// A network of four namespaces, removed when dropped.
#[derive(Debug)]
pub struct Ecmp {
    /// Host with one address.
    pub client: Netns,
    /// Router at the client's side.
    pub near: Netns,
    /// Router at the server's side.
    pub far: Netns,
    /// Host with one address.
    pub server: Netns,
}

impl Ecmp {
    /// The server's address.
    pub const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 3, 0, 2));

    /// Four paths of so many Mbit/s; segments are sent one by one. Path managers
    /// as the kernel has them.
    pub fn new(rate: u32) -> Result<Self> {
        let [client, near, far, server] = Netns::add(["client", "near", "far", "server"])?;
        let ecmp = Ecmp {
            client,
            near,
            far,
            server,
        };
        ecmp.build(rate).context("cannot build the topology")?;
        on_failure::watch(ecmp.client.name());
        on_failure::watch(ecmp.server.name());
        Ok(ecmp)
    }

    fn build(&self, rate: u32) -> Result<()> {
        let routers = [(&self.near, 1), (&self.far, 2)];
        for (router, _) in routers {
            router.set_sysctl("ipv4/ip_forward", "1")?;
            // Policy 1 takes these too, but not from a sender on the same host: there it finds
            // a hash in the segment, that of the socket (fib_multipath_hash()).
            router.set_sysctl("ipv4/fib_multipath_hash_policy", "3")?;
            router.set_sysctl("ipv4/fib_multipath_hash_fields", "0x37")?;
        }
        let pairs: String = (0..PATHS)
            .map(|n| format!("link add p{n} type veth peer name p{n} netns far\n"))
            .collect();
        self.near.ip(&format!(
            "link add edge type veth peer name eth0 netns client\n{pairs}"
        ))?;
        self.far
            .ip("link add edge type veth peer name eth0 netns server\n")?;
        for (host, net) in [(&self.client, 1), (&self.server, 3)] {
            host.ip(&format!(
                "link set lo up\nlink set eth0 gso_max_segs 1 up\n\
                 address add 10.{net}.0.2/24 dev eth0\nroute add default via 10.{net}.0.1\n"
            ))?;
        }
        for (router, here) in routers {
            let (net, other, there) = if here == 1 { (1, 3, 2) } else { (3, 1, 1) };
            let paths = (0..PATHS)
                .map(|n| format!("link set p{n} up\naddress add 10.2.{n}.{here}/24 dev p{n}\n"));
            let hops = (0..PATHS).map(|n| format!(" nexthop via 10.2.{n}.{there} dev p{n}"));
            router.ip(&format!(
                "link set lo up\nlink set edge up\naddress add 10.{net}.0.1/24 dev edge\n\
                 {}route add 10.{other}.0.0/24{}\n",
                paths.collect::<String>(),
                hops.collect::<String>()
            ))?;
            let shapes = (0..PATHS).map(|n| {
                let delay = 10 * (n + 1);
                format!("qdisc add dev p{n} root netem rate {rate}mbit delay {delay}ms limit 80\n")
            });
            router.tc(&shapes.collect::<String>())?;
        }
        Ok(())
    }

    /// Have the client's router hash these source ports to one and the same path.
    ///
    /// It stays a hash: where other ports lead is left to chance.
    pub fn hash_to_one_path(&self, ports: &[u16], to: u16) -> Result<()> {
        let server = Self::SERVER;
        let route = |port| {
            format!(
                "route get {server} from 10.1.0.2 iif edge ipproto tcp sport {port} dport {to}\n"
            )
        };
        let routes: String = ports.iter().map(route).collect();
        // One in 4^(ports - 1) will do.
        for seed in 1..=u16::MAX {
            let sysctl = "ipv4/fib_multipath_hash_seed";
            self.near.set_sysctl(sysctl, seed.to_string())?;
            let answers = tool("ip", &["-n", self.near.name(), "-batch", "-"], &routes)?;
            let paths: BTreeSet<_> = answers
                .split(" dev ")
                .skip(1)
                .map(|rest| rest.split(' ').next())
                .collect();
            if paths.len() == 1 {
                return Ok(());
            }
        }
        bail!("no hash leads {ports:?} over one path")
    }
}

impl Drop for Ecmp {
    fn drop(&mut self) {
        for host in [&self.client, &self.server] {
            on_failure::forget(host.name());
        }
    }
}
