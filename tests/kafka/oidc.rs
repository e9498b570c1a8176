//! A broker that takes tokens of OIDC: outlierd requests and renews them, and reports an endpoint that
//! gives none.

use std::fs;

use crate::support::own_broker::OwnBroker;
use crate::support::stream::{Stream, TRAIN, records};
use crate::support::token_endpoint::{SUBJECT, TokenEndpoint, listener_lines};
use crate::support::{Daemon, broker, create_topic, outlierd, wait_for};

/// Life of a token, in seconds.
const LIFE: u64 = 16;

/// librdkafka's own properties, with this client secret in TOML.
fn properties(endpoint: &TokenEndpoint, secret: &str) -> String {
    format!(
        "\"security.protocol\" = \"sasl_plaintext\", \"sasl.mechanism\" = \"OAUTHBEARER\", \
         \"sasl.oauthbearer.method\" = \"oidc\", \"sasl.oauthbearer.client.id\" = \"outlierd\", \
         \"sasl.oauthbearer.client.secret\" = {secret}, \"sasl.oauthbearer.scope\" = \"kafka\", \
         \"sasl.oauthbearer.token.endpoint.url\" = {:?}",
        endpoint.url()
    )
}

/// A broker that takes the tokens of an endpoint, and ends sessions whose tokens have expired.
fn broker_of(endpoint: &TokenEndpoint) -> OwnBroker {
    let keys = endpoint.keys();
    let jvm = format!(
        "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{}",
        keys.display()
    );
    let listener = ("SASL_PLAINTEXT", "127.0.0.1");
    OwnBroker::start_with_listener(listener, &[SUBJECT], &listener_lines(&keys), &jvm)
}

#[test]
fn tokens_are_renewed_and_an_endpoint_that_is_away_loses_nothing() {
    let endpoint = TokenEndpoint::start(LIFE);
    let broker = broker_of(&endpoint);
    let stream = Stream::on(&broker.address(), "oidc", "exactly_once");
    let secret = stream.folder.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    let properties = properties(&endpoint, &format!("{{ file = {secret:?} }}"));
    let config = stream.config_with("oidc", &broker.secured_address(), &properties);

    // rdkafka's client that creates topics takes no token.
    let mut daemon = Daemon::start(&config, "no-topics");
    let line = daemon.await_line("with OIDC outlierd cannot do so itself");
    assert!(
        line.contains(&format!("{}.control", stream.topic)),
        "{line}"
    );
    assert_ne!(daemon.wait(), 0);
    for ending in [
        "bundles", "control", "events", "alerts", "dead", "scores", "states",
    ] {
        let topic = format!("{}.{ending}", stream.topic);
        create_topic(&broker.address(), &topic, 1);
    }

    let records = records();
    stream.send(&records[..TRAIN + 50]);
    let path = config.display().to_string();
    outlierd(&["check", "--connect", "--config", &path]);
    let mut daemon = Daemon::start(&config, "daemon");
    stream.await_scores(TRAIN + 50);

    // Beyond the end of the first token.
    let given = endpoint.tokens();
    wait_for("tokens", || (endpoint.tokens() >= given + 3).then_some(()));
    stream.send(&records[TRAIN + 50..TRAIN + 150]);
    stream.await_scores(TRAIN + 150);

    // The old token is used while it is valid: for long enough that a busy machine scores meanwhile.
    endpoint.set_life(3 * LIFE);
    let given = endpoint.tokens();
    wait_for("a token", || (endpoint.tokens() > given).then_some(()));
    endpoint.set_away(true);
    daemon.await_metric("outlierd_tokens_not_renewed_total", "", 1.0);
    stream.send(&records[TRAIN + 150..TRAIN + 200]);
    stream.await_scores(TRAIN + 200);
    daemon.await_readiness(" 503 ", "no token from");
    stream.send(&records[TRAIN + 200..TRAIN + 250]);
    endpoint.set_away(false);
    daemon.await_readiness(" 200 ", "ready");
    stream.send(&records[TRAIN + 250..]);
    let total = stream.assert_same_as_replay(&records);
    assert_eq!(total, stream.alerts().0.len());
    stream.await_delivered(&config);
    daemon.stop();
}

#[test]
fn an_endpoint_that_gives_no_token_is_reported_with_its_reason() {
    let endpoint = TokenEndpoint::start(3_600);
    let stream = Stream::on(&broker(), "no-token", "exactly_once");
    for (name, secret, is_away, reason) in [
        (
            "secret",
            "not-the-secret",
            false,
            "HTTP 401: invalid_client: the client or its secret is not known",
        ),
        ("away", "secret", true, "no token from http://127.0.0.1:"),
    ] {
        endpoint.set_away(is_away);
        let properties = properties(&endpoint, &format!("{secret:?}"));
        let config = stream.config_with(name, &broker(), &properties);
        let mut daemon = Daemon::start(&config, name);
        let line = daemon.await_line("waiting for the brokers");
        assert!(line.contains(reason), "{name}: {line}");
        daemon.await_readiness(" 503 ", reason);
        assert!(!daemon.log().contains("not-the-secret"), "{}", daemon.log());
        daemon.stop();
    }
}
