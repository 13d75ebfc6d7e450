// SPDX-License-Identifier: GPL-2.0
//! The configuration file: what it may say, and where it is wrong.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use smapp::Owner;
use smapp::rules::{Cgroups, Config, Facts};

fn parse(text: &str) -> Result<Config, smapp::rules::Invalid> {
    Config::parse(Path::new("test.toml"), text)
}

/// The name of the first rule that matches.
fn first(text: &str, facts: &Facts) -> Option<String> {
    let mut cgroups = Cgroups::new("/nowhere");
    let rules = parse(text).unwrap().rules;
    let rule = rules.into_iter().find(|r| r.matches(facts, &mut cgroups));
    rule.map(|rule| rule.name)
}

fn facts(local: &str, remote: &str) -> Facts {
    Facts {
        ends: Some((local.parse().unwrap(), remote.parse().unwrap())),
        ..Facts::default()
    }
}

#[test]
fn an_error_has_its_line_and_column() {
    for (text, position, message) in [
        ("x = 1", (1, 1), "unknown field `x`"),
        (
            "[[rule]]\npolicy = \"fullmesh\"\nprot = 80",
            (3, 1),
            "unknown field `prot`",
        ),
        (
            "[[rule]]\nremote-port = 80",
            (1, 1),
            "missing field `policy`",
        ),
        (
            "[[rule]]\npolicy = \"fulmesh\"",
            (2, 10),
            "unknown variant `fulmesh`",
        ),
        (
            "[[rule]]\npolicy = 7",
            (2, 10),
            "invalid type: integer `7`, expected a policy",
        ),
        (
            "[[rule]]\npolicy = ",
            (2, 10),
            "string values must be quoted",
        ),
        (
            "[[rule]]\npolicy.fullmesh.lunch = 1",
            (2, 17),
            "unknown field `lunch`",
        ),
        (
            "[[rule]]\npolicy = { fullmesh = { reset-delay = \"3\" } }",
            (2, 39),
            "`3`: expected a time from 1ms to 8784h",
        ),
        (
            "[[rule]]\npolicy.fullmesh.except = [\"wg*\", \"a b\"]",
            (2, 26),
            "`a b`: expected the name of an interface",
        ),
        (
            "[[rule]]\npolicy = \"none\"\nremote-port = [80, 65536]",
            (3, 20),
            "`65536`: expected a port",
        ),
        (
            "[[rule]]\nlocal-port = \"9-8\"",
            (2, 14),
            "`9-8`: expected a port",
        ),
        ("[[rule]]\nlocal-port = []", (2, 14), "an empty list"),
        ("[[rule]]\nuid = -1", (2, 7), "`-1`: expected a number"),
        (
            "[[rule]]\nuid = \"root\"",
            (2, 7),
            "`root`: expected a number",
        ),
        (
            "[[rule]]\nside = \"both\"",
            (2, 8),
            "unknown variant `both`",
        ),
        (
            "[[rule]]\nlocal-address = \"10.0.0.1/8\"",
            (2, 17),
            "`10.0.0.1/8`: expected an address, or a prefix",
        ),
        (
            "[[rule]]\nremote-address = [\"::/0\", \"x\"]",
            (2, 27),
            "`x`: expected an address",
        ),
        (
            "[[rule]]\nmark = \"0x11/0xf0\"",
            (2, 8),
            "`0x11/0xf0`: expected a mark",
        ),
        (
            "[[rule]]\ncgroup = \"a\"",
            (2, 10),
            "`a`: expected the path",
        ),
        (
            "[[rule]]\ncgroup = \"/a/../b\"",
            (2, 10),
            "`/a/../b`: expected the path",
        ),
        ("# ü\n\n[[rule]]\nname = \"ü\", uid = 1", (4, 11), ""),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.position, Some(position), "{text}\n{error}");
        assert!(error.message.contains(message), "{text}\n{error}");
        let (line, column) = position;
        let start = format!("test.toml:{line}:{column}: ");
        assert!(error.to_string().starts_with(&start), "{error}");
    }
}

#[test]
fn an_error_shows_the_line_and_a_caret() {
    let error = parse("[[rule]]\n\n  prot = 80\npolicy = \"none\"").unwrap_err();
    let text = error.to_string();
    let (_, excerpt) = text.split_once('\n').unwrap();
    assert_eq!(excerpt, "3 |   prot = 80\n  |   ^^^^");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::read(Path::new("/nowhere/smapp.toml")).unwrap_err();
    assert!(
        error.to_string().starts_with("/nowhere/smapp.toml: "),
        "{error}"
    );
}

#[test]
fn a_policy_is_a_word_or_a_table() {
    let short = parse("[[rule]]\npolicy = \"fullmesh\"").unwrap();
    for text in [
        "[[rule]]\npolicy = { fullmesh = {} }",
        "[[rule]]\npolicy.fullmesh = {}",
        "[[rule]]\n[rule.policy.fullmesh]",
    ] {
        assert_eq!(parse(text).unwrap(), short);
    }
    let none = parse("[[rule]]\npolicy = \"none\"").unwrap();
    assert_eq!(none.rules[0].policy.0, None);
}

#[test]
fn the_first_rule_that_matches_decides() {
    let text = "
[[rule]]
name = \"web\"
remote-port = [80, \"8000-8100\"]
policy = \"fullmesh\"
[[rule]]
name = \"inside\"
remote-address = \"10.0.0.0/8\"
policy = \"none\"
[[rule]]
policy = \"fullmesh\"
";
    for (remote, name) in [
        ("10.0.3.1:80", "web"),
        ("10.0.3.1:8100", "web"),
        ("10.0.3.1:8101", "inside"),
        ("11.0.3.1:81", "rule 3"),
        ("[fd00::1]:80", "web"),
        ("[fd00::1]:81", "rule 3"),
    ] {
        let found = first(text, &facts("10.0.1.1:4000", remote));
        assert_eq!(found.as_deref(), Some(name), "{remote}");
    }
}

#[test]
fn each_condition_holds_or_not() {
    let client = facts("10.0.1.1:4000", "[fd00:3::1]:443");
    let owner = {
        let mut owner = Owner::default();
        owner.uid = Some(1000);
        owner.mark = Some(0x1f);
        owner
    };
    let owned = Facts { owner, ..client };
    let server = Facts {
        server_side: true,
        ..client
    };
    let none = Facts::default();
    for (condition, facts, holds) in [
        ("side = \"client\"", client, true),
        ("side = \"client\"", server, false),
        ("side = \"server\"", server, true),
        ("local-port = 4000", client, true),
        ("local-port = 443", client, false),
        ("local-port = \"0-65535\"", none, false),
        ("remote-port = [1, 443]", client, true),
        ("local-address = \"10.0.1.1\"", client, true),
        ("local-address = \"10.0.1.2\"", client, false),
        ("local-address = \"::ffff:10.0.1.1\"", client, true),
        ("local-address = \"::ffff:10.0.0.0/104\"", client, true),
        ("local-address = \"::/0\"", client, false),
        ("remote-address = \"fd00::/16\"", client, true),
        ("remote-address = \"0.0.0.0/0\"", client, false),
        ("remote-address = [\"0.0.0.0/0\", \"::/0\"]", client, true),
        ("uid = 1000", owned, true),
        ("uid = \"1000-1999\"", owned, true),
        ("uid = [0, 999]", owned, false),
        ("uid = \"0-4294967295\"", client, false),
        ("mark = 31", owned, true),
        ("mark = \"0x1f\"", owned, true),
        ("mark = \"0x10/0xf0\"", owned, true),
        ("mark = \"0x20/0xf0\"", owned, false),
        ("mark = 0", owned, false),
        ("mark = 0", client, true),
        ("cgroup = \"/\"", client, false),
        ("local-port = 4000\nuid = 1000", owned, true),
        ("local-port = 4000\nuid = 1001", owned, false),
    ] {
        let text = format!("[[rule]]\npolicy = \"none\"\n{condition}");
        assert_eq!(first(&text, &facts).is_some(), holds, "{condition}");
    }
}

#[test]
fn a_mapped_address_is_one_of_ipv4() {
    use smapp::{Connection, Subflow};
    let connection = {
        let mut connection = Connection::default();
        connection.subflows = vec![{
            let mut subflow = Subflow::default();
            subflow.local_address = "::ffff:10.0.1.1".parse().unwrap();
            subflow.remote_address = "::ffff:10.0.3.1".parse().unwrap();
            subflow.initial = true;
            subflow
        }];
        connection
    };
    let text = "[[rule]]\npolicy = \"none\"\nremote-address = \"10.0.3.0/24\"";
    assert!(first(text, &Facts::of(&connection, &[])).is_some());
}

#[test]
fn a_control_group_has_those_below_it() {
    let root = std::env::temp_dir().join(format!("smapp-cgroup-{}", std::process::id()));
    let inode = |path: &str| {
        fs::create_dir_all(root.join(path)).unwrap();
        Some(fs::metadata(root.join(path)).unwrap().ino())
    };
    let mut cgroups = Cgroups::new(&root);
    let (web, worker, other) = (
        inode("system.slice/web"),
        inode("system.slice/web/a/worker"),
        inode("system.slice/webmail"),
    );
    let text = "[[rule]]\npolicy = \"none\"\ncgroup = \"/sys/fs/cgroup/system.slice/web/\"";
    let rules = parse(text).unwrap().rules;
    let mut matches = |cgroup| {
        let owner = {
            let mut owner = Owner::default();
            owner.cgroup = cgroup;
            owner
        };
        let facts = Facts {
            owner,
            ..Facts::default()
        };
        rules[0].matches(&facts, &mut cgroups)
    };
    let found = [web, worker, other, None].map(&mut matches);
    assert_eq!(found, [true, true, false, false]);
    fs::remove_dir_all(&root).unwrap();
    // What was found once stays true: the group has gone, its connections live.
    assert!(matches(worker));
}

#[test]
fn what_a_rule_means_is_one_line() {
    let text = "
[[rule]]
name = \"web\"
side = \"client\"
remote-port = [80, \"8000-8100\"]
uid = 1000
mark = \"0x10/0xf0\"
policy = \"fullmesh\"
[[rule]]
policy = \"none\"
";
    let lines: Vec<_> = parse(text)
        .unwrap()
        .rules
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        lines,
        [
            "web: connections that this host opens with remote port 80 or 8000-8100, \
             uid 1000, mark 0x10/0xf0 -> fullmesh",
            "rule 2: every connection -> left alone",
        ]
    );
}

#[test]
fn what_may_not_be_meant_is_said() {
    assert_eq!(parse("").unwrap().doubts().len(), 1);
    let text = "
[[rule]]
name = \"all\"
policy = \"fullmesh\"
[[rule]]
name = \"web\"
remote-port = 80
policy = \"none\"
";
    let doubts = parse(text).unwrap().doubts();
    assert_eq!(
        doubts,
        ["web is never reached: all matches every connection"]
    );
}

#[test]
fn the_example_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/smapp.toml");
    let config = Config::read(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.doubts(), Vec::<String>::new());
    assert!(config.rules.len() > 3);
}
