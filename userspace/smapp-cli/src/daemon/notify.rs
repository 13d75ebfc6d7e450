// SPDX-License-Identifier: GPL-2.0
//! Tells the service manager whether the daemon works: the protocol of sd_notify(3).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The service manager, if there is one.
pub struct Manager {
    address: Option<OsString>,
}

impl Manager {
    /// The one that started this process.
    pub fn find() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        Self { address }
    }

    /// The daemon works.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again; `ready` follows.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// The daemon ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, message: &str) {
        let Some(address) = &self.address else {
            return;
        };
        if let Err(error) = send(address, message) {
            log::warn!("service manager at {}: {error}", address.to_string_lossy());
        }
    }
}

fn send(address: &OsStr, message: &str) -> io::Result<()> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a manager at `address` is told.
    fn told(address: &str, listener: &UnixDatagram) -> Vec<String> {
        let manager = Manager {
            address: Some(address.into()),
        };
        manager.ready("2 rules");
        manager.reloading();
        manager.stopping();
        let next = || {
            let mut buffer = [0; 128];
            let length = listener.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        vec![next(), next(), next()]
    }

    fn check(told: &[String]) {
        assert_eq!(told[0], "READY=1\nSTATUS=2 rules");
        let usec = told[1]
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0);
        assert_eq!(told[2], "STOPPING=1");
    }

    #[test]
    fn a_manager_is_told_by_path_and_by_abstract_name() {
        let name = format!("smapp-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let listener = UnixDatagram::bind(&path).unwrap();
        check(&told(path.to_str().unwrap(), &listener));
        std::fs::remove_file(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        check(&told(&format!("@{name}"), &listener));
    }
}
