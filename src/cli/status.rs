//! `outlierd status`: what the running daemon does, by its HTTP server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::config_args::ConfigArgs;
use super::table;
use crate::http;

/// How long the daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Show what the running daemon does: each stream's phase, series, open alerts and what fails. Exit code 1
/// where it does not score all that comes.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  outlierd status --config outlierd.toml\n  outlierd status --address 10.0.0.7:9464 --json"
)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where the daemon listens [default: service.http_listen of the configuration]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Print the daemon's answers as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let address = match &args.address {
        Some(address) => address.clone(),
        None => match args.config.load()?.service.http_listen {
            Some(listens) => reached(listens).to_string(),
            None => bail!("service.http_listen is empty: the daemon has no HTTP server to ask"),
        },
    };
    let (is_ready, readiness) = get(&address, "readyz")?;
    let (_, streams) = get(&address, "status")?;
    let streams: Value = serde_json::from_str(&streams)
        .with_context(|| format!("{address} is not an outlierd: /status is no JSON"))?;
    let readiness = readiness.trim();
    if args.json {
        let answer = serde_json::json!({ "ready": is_ready, "reason": (!is_ready).then_some(readiness), "streams": streams });
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        show(&streams, readiness);
    }
    Ok(ExitCode::from(u8::from(!is_ready)))
}

/// Where a client reaches a server that listens on an address; "all addresses" is none of them.
fn reached(mut listens: SocketAddr) -> SocketAddr {
    if listens.ip().is_unspecified() {
        listens.set_ip(match listens {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    listens
}

/// Whether the answer is one of success, and its text.
fn get(address: &str, page: &str) -> anyhow::Result<(bool, String)> {
    let url = format!("http://{address}/{page}");
    let asked = http::agent(None, TIMEOUT).get(&url).call();
    let mut answer = asked
        .map_err(|error| anyhow::anyhow!("{}", http::cause(&error)))
        .with_context(|| format!("no daemon answers at {url}"))?;
    let text = answer.body_mut().read_to_string();
    let text = text.with_context(|| format!("the answer of {url} cannot be read"))?;
    Ok((answer.status().is_success(), text))
}

fn show(streams: &Value, readiness: &str) {
    let mut table = table([
        "stream",
        "phase",
        "model",
        "partitions",
        "series",
        "open alerts",
        "last record",
    ]);
    for stream in streams.as_array().into_iter().flatten() {
        let model = &stream["model"];
        let lanes = || stream["lanes"].as_array().into_iter().flatten();
        let sum = |key: &str| -> u64 { lanes().filter_map(|lane| lane[key].as_u64()).sum() };
        let detail = match (model["records"].as_u64(), model["wanted"].as_u64()) {
            (Some(done), Some(wanted)) => format!("{done} of {wanted} records"),
            _ => model["bundle"].as_str().unwrap_or("-").to_owned(),
        };
        table.add_row([
            stream["stream"].as_str().unwrap_or_default().to_owned(),
            model["phase"].as_str().unwrap_or_default().to_owned(),
            detail,
            sum("partitions").to_string(),
            sum("series").to_string(),
            sum("open_alerts").to_string(),
            stream["last_record"].as_str().unwrap_or("-").to_owned(),
        ]);
    }
    println!("{table}");
    for stream in streams.as_array().into_iter().flatten() {
        let name = stream["stream"].as_str().unwrap_or_default();
        let parts = ["lanes", "destinations"].map(|key| stream[key].as_array());
        for part in parts.into_iter().flatten().flatten() {
            if let Some(failure) = part["failure"].as_str() {
                println!("{name}: {failure}");
            }
        }
        for key in ["missing", "unusable"] {
            if let Some(text) = stream[key].as_str().or(stream["model"][key].as_str()) {
                println!("{name}: {text}");
            }
        }
    }
    println!("{readiness}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_reached_on_the_loopback_interface() {
        for (listens, due) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ] {
            assert_eq!(reached(listens.parse().unwrap()).to_string(), due);
        }
    }
}
