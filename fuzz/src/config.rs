// SPDX-License-Identifier: GPL-2.0
//! The configuration file of the daemon.

use std::path::Path;

use smapp::Owner;
use smapp::rules::{Cgroups, Config, Facts};

/// Reads a file, prints what it means, holds it against some connections.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let config = match Config::parse(Path::new("fuzz.toml"), text) {
        Ok(config) => config,
        Err(invalid) => {
            let (line, column) = invalid.position.expect("an error has its place");
            assert!(line >= 1 && column >= 1 && line <= text.split('\n').count());
            assert!(!invalid.to_string().is_empty());
            return;
        }
    };
    let mut cgroups = Cgroups::new("/nowhere");
    for rule in &config.rules {
        assert!(!rule.name.is_empty());
        let _ = rule.to_string();
        serde_json::to_string(rule).expect("a rule can be printed");
        for facts in connections() {
            let matches = rule.matches(&facts, &mut cgroups);
            assert!(matches || !rule.is_unconditional());
        }
        if let Some(policy) = &rule.policy.0 {
            let _ = policy.policy(1).events();
        }
    }
    let _ = config.doubts();
}

fn connections() -> [Facts; 3] {
    let ends = |local: &str, remote: &str| local.parse().ok().zip(remote.parse().ok());
    let owner = {
        let mut owner = Owner::default();
        owner.uid = Some(1000);
        owner.mark = Some(0x12);
        owner
    };
    [
        Facts::default(),
        Facts {
            ends: ends("10.0.1.2:40001", "192.0.2.7:443"),
            owner,
            ..Facts::default()
        },
        Facts {
            server_side: true,
            ends: ends("[fd00:3::2]:80", "[2001:db8::1]:40001"),
            ..Facts::default()
        },
    ]
}
