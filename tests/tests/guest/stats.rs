// SPDX-License-Identifier: GPL-2.0
//! What the module counts.

use anyhow::Result;
use smapp::wire::operation_word;
use smapp::wire::uapi::cmd;
use smapp::{EventKind, Kernel, SubflowId};
use smapp_tests::module::LoadAgain;
use smapp_tests::{Family, PathManager, Topology};

use super::{connect, join_fully, module};

#[test]
fn the_counters_add_up_to_what_happened() -> Result<()> {
    let _again = LoadAgain;
    module::reload(c"")?;
    let topology = Topology::new()?;
    let mut client = PathManager::of(&topology.client)?;
    let mut server = PathManager::of(&topology.server)?;
    let (connection, token) = connect(&topology, Family::V4, &mut client)?;
    let subflow = join_fully(&mut client, &connection, token)?;
    client
        .client()
        .subflow_set_backup(token, subflow.id, true)?;
    server.expect(EventKind::SubflowPriority, |_| true)?;
    let announced = client
        .client()
        .announce(token, subflow.local_address, None)?;
    server.expect(EventKind::AddressAnnounced, |_| true)?;
    client.client().withdraw(token, &announced)?;
    server.expect(EventKind::AddressesWithdrawn, |_| true)?;
    client.expect_subflow(EventKind::SubflowClosed, subflow.id)?;
    client.connection(token)?;
    assert!(client.destroy(token, SubflowId(99)).is_err());
    assert!(client.destroy(token, subflow.id).is_err());
    drop(connection);
    for host in [&mut client, &mut server] {
        host.expect(EventKind::Closed, |_| true)?;
    }

    let stats = client.client().statistics()?;
    // A socket of the client, a listener, a socket of the server.
    assert_eq!(stats.attached, 3);
    assert!(stats.released <= stats.attached);
    let commands = [
        (cmd::CONN_GET, 1, 0),
        (cmd::SUBFLOW_CREATE, 1, 0),
        (cmd::SUBFLOW_DESTROY, 0, 2),
        (cmd::SUBFLOW_SET, 1, 0),
        (cmd::ANNOUNCE, 1, 0),
        (cmd::WITHDRAW, 1, 0),
        // It counts itself when it is done.
        (cmd::STATS_GET, 0, 0),
    ];
    for (number, done, failed) in commands {
        let counted = stats.operation(&operation_word(number));
        assert_eq!((counted.done, counted.failed), (done, failed), "{stats:#?}");
    }
    let all = client.seen().iter().chain(server.seen());
    let seen: Vec<_> = all.map(smapp::Event::kind).collect();
    for (number, kind) in (cmd::CREATED..=cmd::MAX).zip(EventKind::ALL) {
        let counted = stats.operation(&operation_word(number));
        let told = seen.iter().filter(|&&seen| seen == kind).count() as u64;
        assert_eq!(
            (counted.done, counted.failed),
            (told, 0),
            "{kind:?}: {stats:#?}"
        );
    }
    assert_eq!(client.client().statistics()?.operation("stats_get").done, 1);
    Ok(())
}
