// SPDX-License-Identifier: GPL-2.0
//! What this kernel can do: found by trying, not by its version.

use super::bpf::{Refusal, Timeouts};
use crate::kernel::Lack;

/// What has been found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// A subflow can be a backup from its first packet on: known once one was asked for.
    pub backup_on_syn: Option<bool>,
    /// A subflow can be bound to an interface: known once that was asked for.
    pub ifindex: Option<bool>,
    /// The list of local addresses of a connection can be read.
    pub local_addresses: bool,
}

const RIGHTS: &str = "run as root, or with CAP_BPF and CAP_PERFMON";

/// The lacks that follow. `timeouts` and `ends` are none as long as no program was tried.
pub(super) fn lacks(
    features: &Features,
    programs: Option<(Timeouts, bool)>,
    refusals: &[Refusal],
) -> Vec<Lack> {
    let why = |program: &str| {
        let refusal = refusals
            .iter()
            .find(|refusal| [program, "all"].contains(&refusal.program));
        refusal.map_or_else(String::new, |refusal| refusal.reason.clone())
    };
    let mut lacks = Vec::new();
    let mut lack = |what, why: String, cost, remedy| {
        lacks.push(Lack {
            what,
            why,
            cost,
            remedy,
        });
    };
    match programs.map(|(timeouts, _)| timeouts) {
        None | Some(Timeouts::Timer) => {}
        Some(Timeouts::Callback) => lack(
            "timer of retransmissions (fexit)",
            why("fexit/tcp_retransmit_timer"),
            "timeouts of subflows older than this program are looked for every 250 ms",
            "nothing: a callback of sock_ops stands in for it",
        ),
        Some(Timeouts::Nowhere) => lack(
            "timeouts (BPF)",
            why("sock_ops"),
            "timeouts are looked for every 250 ms while data are under way",
            RIGHTS,
        ),
    }
    if let Some((_, false)) = programs {
        lack(
            "ends of sockets (BPF)",
            why("tp_btf/inet_sock_set_state"),
            "a connection that the peer aborts is over up to 30 s later, \
             a refusal of a join has no errno",
            RIGHTS,
        );
    }
    if features.backup_on_syn == Some(false) {
        lack(
            "backup from the first packet on",
            "MP_JOIN goes out without the flag".to_owned(),
            "the peer is told by MP_PRIO once the subflow has joined",
            "linux 6.12 or later",
        );
    }
    if features.ifindex == Some(false) {
        lack(
            "subflows bound to an interface",
            "the kernel ignores the interface".to_owned(),
            "the route decides which interface a subflow takes",
            "`ip rule` by source address, or linux 6.12 or later",
        );
    }
    if !features.local_addresses {
        lack(
            "list of address ids",
            "the kernel lists the endpoints of the other path manager".to_owned(),
            "ids that the kernel gave by itself are found by trying",
            "linux 6.12 or later",
        );
    }
    lacks
}
