//! A broker with Kerberos: outlierd gets its tickets from a KDC, by `kinit` or by MIT's client keytab,
//! and reports a keytab that is not accepted.

use std::path::Path;
use std::process::Command;

use crate::support::own_broker::OwnBroker;
use crate::support::own_realm::OwnRealm;
use crate::support::stream::{Stream, TRAIN, records};
use crate::support::{Daemon, OUTLIERD};

/// The name of the broker, whose host is that of its address.
const SERVICE: &str = "kafka/localhost";

fn broker_of(realm: &OwnRealm) -> OwnBroker {
    let of = "listener.name.secure";
    let lines = format!(
        "{of}.sasl.enabled.mechanisms=GSSAPI\nsasl.kerberos.service.name=kafka\n\
         {of}.gssapi.sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required \
         useKeyTab=true storeKey=true keyTab={:?} principal=\"{SERVICE}\";\n",
        realm.file("kafka.keytab")
    );
    let jvm = format!(
        "-Djava.security.krb5.conf={}",
        realm.file("krb5.conf").display()
    );
    let listener = ("SASL_PLAINTEXT", "localhost");
    OwnBroker::start_with_listener(listener, &["outlierd"], &lines, &jvm)
}

/// A daemon in the realm, with tickets in `cache` and variables of its own.
fn start(realm: &OwnRealm, config: &Path, cache: &str, variables: &[(&str, &Path)]) -> Daemon {
    let mut command = Command::new(OUTLIERD);
    command
        .args(["run", "--config"])
        .arg(config)
        .env("KRB5_CONFIG", realm.file("krb5.conf"))
        .env("KRB5CCNAME", cache)
        .envs(variables.iter().copied());
    Daemon::spawn(command, config.with_file_name("daemon.log"))
}

const GSSAPI: &str =
    "\"security.protocol\" = \"sasl_plaintext\", \"sasl.mechanism\" = \"GSSAPI\", ";

/// librdkafka runs kinit.
fn with_kinit(keytab: &Path) -> String {
    format!(
        "{GSSAPI}\"sasl.kerberos.keytab\" = {keytab:?}, \"sasl.kerberos.principal\" = \"outlierd\""
    )
}

/// Kerberos itself reads the keytab.
fn without_kinit() -> String {
    format!("{GSSAPI}\"sasl.kerberos.min.time.before.relogin\" = 0")
}

#[test]
fn a_stream_runs_with_tickets_of_a_keytab() {
    let realm = OwnRealm::start(&[SERVICE, "outlierd", "stranger"]);
    let broker = broker_of(&realm);
    let address = broker.secured_address().replace("127.0.0.1", "localhost");
    let stream = Stream::on(&broker.address(), "kerberos", "exactly_once");
    let keytab = realm.file("outlierd.keytab");
    let config = |properties: &str| stream.config_with("kerberos", &address, properties);
    let cache = format!("FILE:{}", realm.file("cache").display());

    // A keytab of somebody else.
    let none = realm.file("stranger.keytab");
    let mut daemon = start(&realm, &config(&with_kinit(&none)), &cache, &[]);
    let line = daemon.await_line("waiting for the brokers");
    assert!(line.contains("No Kerberos credentials available"), "{line}");
    daemon.await_readiness(" 503 ", "No Kerberos credentials available");
    daemon.stop();

    let records = records();
    stream.send(&records[..TRAIN + 50]);
    let mut daemon = start(&realm, &config(&with_kinit(&keytab)), &cache, &[]);
    stream.await_scores(TRAIN + 50);
    daemon.stop();

    let memory = "MEMORY:outlierd";
    let none = [("KRB5_CLIENT_KTNAME", Path::new("/no/such/keytab"))];
    let mut daemon = start(&realm, &config(&without_kinit()), memory, &none);
    let line = daemon.await_line("waiting for the brokers");
    assert!(line.contains("GSSAPI Error"), "{line}");
    daemon.stop();

    let keytab = [("KRB5_CLIENT_KTNAME", &*keytab)];
    let config = config(&without_kinit());
    let mut daemon = start(&realm, &config, memory, &keytab);
    stream.send(&records[TRAIN + 50..]);
    stream.assert_same_as_replay(&records);
    stream.await_delivered(&config);
    daemon.stop();
}
