//! A broker with TLS, passwords and ACLs: outlierd works with the rights of docs/kafka.md, and names
//! the one that is missing; a connection that fails is reported with its reason.

use std::fs;
use std::path::PathBuf;

use crate::support::Daemon;
use crate::support::own_broker::OwnBroker;
use crate::support::stream::{Stream, TRAIN, records};

/// The arguments of each `acl` line of docs/kafka.md, with the names of a test's topics.
fn documented_rights(topic: &str) -> Vec<Vec<String>> {
    let page = include_str!("../../docs/kafka.md");
    let names = [
        ("outlierd.pumps.dead-letters", ".dead"),
        ("outlierd.pumps.state", ".states"),
        ("outlierd.pumps.", "."),
        ("outlierd-pumps", ""),
        ("plant.pumps", ""),
        ("outlierd.", "."),
    ];
    let of_test = |argument: &str| {
        let named = names.iter().find(|(name, _)| argument.starts_with(name));
        named.map_or(argument.to_owned(), |(name, ending)| {
            format!("{topic}{ending}{}", &argument[name.len()..])
        })
    };
    let lines = page.lines().filter_map(|line| line.strip_prefix("acl "));
    lines
        .map(|line| line.split_whitespace().map(of_test).collect())
        .collect()
}

/// The operation and the name that the error has for a right.
fn named(right: &[String]) -> String {
    let after = |name: &str| {
        let at = right.iter().position(|argument| argument == name)?;
        right.get(at + 1)
    };
    let operation = after("--operation").unwrap().to_uppercase();
    let kinds = ["topic", "group", "transactional-id"];
    let found = kinds
        .iter()
        .find_map(|kind| Some((kind, after(&format!("--{kind}"))?)));
    let (kind, name) = found.unwrap();
    // Of a prefix the rest follows.
    format!("refuse {operation} on {kind} \"{name}")
}

/// The configuration of the stream for a user, in a folder of its own.
fn config_of(stream: &Stream, broker: &OwnBroker, user: &str) -> PathBuf {
    let properties = format!(
        "\"security.protocol\" = \"sasl_ssl\", \"sasl.mechanism\" = \"PLAIN\", \
         \"sasl.username\" = \"{user}\", \"sasl.password\" = \"{user}-secret\", \"ssl.ca.location\" = {:?}",
        broker.certificate("ca.pem")
    );
    stream.config_with(user, &broker.secured_address(), &properties)
}

/// The user who has all rights but that of this number.
fn lacking(number: usize) -> String {
    format!("lacks-{number}")
}

/// Gives each user its rights.
fn grant(broker: &OwnBroker, users: &[String], rights: &[Vec<String>]) {
    for (number, right) in rights.iter().enumerate() {
        let mut arguments = vec!["--add"];
        let principals: Vec<String> = users.iter().map(|user| format!("User:{user}")).collect();
        for (user, principal) in users.iter().zip(&principals) {
            if *user != lacking(number) {
                arguments.extend(["--allow-principal", principal]);
            }
        }
        arguments.extend(right.iter().map(String::as_str));
        broker.acls(&arguments);
    }
}

#[test]
fn the_documented_rights_suffice_and_each_that_is_missing_is_named() {
    let count = documented_rights("t").len();
    let mut users = vec!["outlierd".to_owned()];
    users.extend((0..count).map(lacking));
    let broker = OwnBroker::start_secured(&users);
    let stream = Stream::on(&broker.address(), "rights", "exactly_once");
    let rights = documented_rights(&stream.topic);
    grant(&broker, &users, &rights);
    let records = records();
    stream.send(&records[..TRAIN + 50]);
    let fails_without = |number: usize| {
        let user = lacking(number);
        let mut daemon = Daemon::start(&config_of(&stream, &broker, &user), "daemon");
        let line = daemon.await_line(&named(&rights[number]));
        assert!(
            line.contains(&format!("to User:{user}: grant it")),
            "{line}"
        );
        assert_ne!(daemon.wait(), 0);
    };
    // Before there are any topics.
    assert!(rights[0].contains(&"Create".to_owned()), "{:?}", rights[0]);
    fails_without(0);
    let config = config_of(&stream, &broker, "outlierd");
    let mut daemon = Daemon::start(&config, "daemon");
    stream.await_scores(TRAIN + 50);
    (1..count).for_each(fails_without);

    // Another machine restores the states, with no other right; its password goes through SCRAM.
    daemon.signal("KILL");
    daemon.wait();
    fs::remove_dir_all(config.with_file_name("state")).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("PLAIN"));
    fs::write(&config, text.replace("PLAIN", "SCRAM-SHA-512")).unwrap();
    daemon = Daemon::start(&config, "again");
    stream.send(&records[TRAIN + 50..TRAIN + 100]);
    stream.await_scores(TRAIN + 100);

    // A right that is taken away while outlierd runs.
    let scores = format!("{}.scores", stream.topic);
    let right = [
        "--allow-principal",
        "User:outlierd",
        "--operation",
        "Write",
        "--topic",
        &scores,
    ];
    broker.acls(&[&["--remove", "--force"], &right[..]].concat());
    stream.send(&records[TRAIN + 100..TRAIN + 150]);
    let refusal = format!("refuse WRITE on topic \"{scores}\" to User:outlierd");
    daemon.await_readiness(" 503 ", &refusal);
    broker.acls(&[&["--add"], &right[..]].concat());
    stream.send(&records[TRAIN + 150..]);
    stream.assert_same_as_replay(&records);
    daemon.await_readiness(" 200 ", "ready");
    stream.await_delivered(&config);
    daemon.stop();
}

#[test]
fn a_connection_that_fails_is_reported_with_its_reason() {
    let broker = OwnBroker::start_secured(&["outlierd".to_owned()]);
    let stream = Stream::on(&broker.address(), "connection", "exactly_once");
    let config = config_of(&stream, &broker, "outlierd");
    let good = fs::read_to_string(&config).unwrap();
    let secured = broker.secured_address();
    for (name, old, new, reason) in [
        (
            "password",
            "outlierd-secret",
            "wrong",
            "Authentication failed",
        ),
        (
            "authority",
            "/ca.pem",
            "/wrong-ca.pem",
            "certificate verify failed",
        ),
        (
            "expired",
            &*secured,
            &*broker.expired_address(),
            "certificate verify failed",
        ),
        (
            "plain-port",
            &*secured,
            &*broker.address(),
            "which may have no TLS",
        ),
        ("tls-port", "sasl_ssl", "plaintext", "which may require TLS"),
    ] {
        assert!(good.contains(old), "{name}");
        fs::write(&config, good.replace(old, new)).unwrap();
        let mut daemon = Daemon::start(&config, name);
        let line = daemon.await_line("waiting for the brokers");
        assert!(line.contains(reason), "{name}: {line}");
        daemon.await_readiness(" 503 ", reason);
        daemon.stop();
    }
}
