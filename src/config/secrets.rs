//! librdkafka properties and secrets of the registry that are read from files, so that passwords are
//! neither in the configuration nor in the environment: `sasl.password = { file =
//! "/run/secrets/kafka" }`, or `{ credential = "kafka" }` for a credential of systemd.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::problems::{ConfigProblem, KeyPath, PROPERTY_TABLES, REGISTRY_SECRETS};

/// Where systemd puts the credentials of a unit.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Largest file: far above any password, key or chain of certificates.
const BYTES_MAX: u64 = 1 << 20;
/// What librdkafka itself reads from a file.
const OWN_FILES: &str = "sasl.oauthbearer.assertion.";

/// Where a property is read from, by the end of its key. A table in TOML and a key with dots are
/// the same here: `sasl.password = { file = "..." }` is `sasl.password.file = "..."`, which a
/// variable of the environment can set too.
#[derive(Clone, Copy)]
enum SecretSource {
    File,
    Credential,
}

impl SecretSource {
    /// The property that a key sets, and where it is read from; `None` for other keys.
    fn of(key: &str) -> Option<(&str, Self)> {
        let file = key.strip_suffix(".file").map(|key| (key, Self::File));
        let credential = key.strip_suffix(".credential");
        file.filter(|_| !key.starts_with(OWN_FILES))
            .or_else(|| credential.map(|key| (key, Self::Credential)))
    }
}

/// Puts the content of the files in place of their names. What cannot be read is reported and left
/// out.
pub fn resolve(
    tree: &mut Value,
    environment: &[(OsString, OsString)],
    problems: &mut Vec<ConfigProblem>,
) {
    let folder = environment.iter().find(|(name, _)| name == CREDENTIALS);
    let folder = folder.map(|(_, folder)| Path::new(folder));
    for table in PROPERTY_TABLES {
        let Some(Value::Object(properties)) = tree.pointer_mut(&format!("/kafka/{table}")) else {
            continue;
        };
        let keys: Vec<String> = properties.keys().cloned().collect();
        for key in keys {
            let Some((property, source)) = SecretSource::of(&key) else {
                continue;
            };
            let found = properties.remove(&key).unwrap_or_default();
            match read(properties, property, source, &found, folder) {
                Ok(secret) => drop(properties.insert(property.to_owned(), secret.into())),
                Err((fault, fix)) => {
                    let at = KeyPath::of("kafka").key(table).key(&key);
                    problems.push(ConfigProblem::new(at, fault, fix));
                }
            }
        }
    }
    if let Some(Value::Object(registry)) = tree.get_mut("registry") {
        resolve_registry(registry, folder, problems);
    }
}

/// The same for the secrets of the registry, which are tables of their own.
fn resolve_registry(
    registry: &mut Map<String, Value>,
    folder: Option<&Path>,
    problems: &mut Vec<ConfigProblem>,
) {
    for key in REGISTRY_SECRETS {
        let Some(Value::Object(source)) = registry.get(key) else {
            continue;
        };
        let found = match (source.get("file"), source.get("credential"), source.len()) {
            (Some(file), None, 1) => Ok((SecretSource::File, file)),
            (None, Some(credential), 1) => Ok((SecretSource::Credential, credential)),
            _ => {
                let fix = "write { file = \"/run/secrets/registry\" }";
                Err(("must be text, a file or a credential".to_owned(), fix))
            }
        };
        let secret = found.and_then(|(source, name)| read(&Map::new(), key, source, name, folder));
        match secret {
            Ok(secret) => drop(registry.insert(key.to_owned(), secret.into())),
            Err((fault, fix)) => {
                let at = KeyPath::of("registry").key(key);
                problems.push(ConfigProblem::new(at, fault, fix));
            }
        }
    }
}

/// The secret, or what is wrong and what to do: with the name of the file, never with what is in it.
fn read(
    properties: &Map<String, Value>,
    property: &str,
    source: SecretSource,
    found: &Value,
    credentials: Option<&Path>,
) -> Result<String, (String, &'static str)> {
    if properties.contains_key(property) {
        let fault = format!("is set a second time by {property}");
        return Err((fault, "remove one of the two"));
    }
    let Some(name) = found.as_str().filter(|name| !name.is_empty()) else {
        let fix = "write { file = \"/run/secrets/kafka-password\" }";
        return Err(("must be text".into(), fix));
    };
    let path = match (source, credentials) {
        (SecretSource::File, _) => PathBuf::from(name),
        (SecretSource::Credential, Some(folder)) => folder.join(name),
        (SecretSource::Credential, None) => {
            let fault =
                format!("needs the credential {name:?} of systemd, and ${CREDENTIALS} is not set");
            let fix = "add LoadCredential=NAME:PATH to the unit, or name a file instead";
            return Err((fault, fix));
        }
    };
    let text = contents(&path).map_err(|error| {
        let fault = format!("cannot be read from {}: {error}", path.display());
        (
            fault,
            "correct the path, or allow outlierd to read the file",
        )
    })?;
    // Editors and `echo` add a line break.
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() || secret.contains('\0') {
        let fault = format!(
            "is read from {}, which is empty or not text",
            path.display()
        );
        return Err((fault, "write the secret to the file"));
    }
    Ok(secret.to_owned())
}

fn contents(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    match text.len() as u64 > BYTES_MAX {
        true => Err(io::Error::other(format!(
            "it has more than {BYTES_MAX} bytes"
        ))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The properties after reading, and the problems, with a file `secret` in a folder that is also
    /// that of the credentials.
    fn resolved(properties: &str, has_credentials: bool) -> (Value, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "  of \"quotes\"\r\n").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        let here = folder.path().display().to_string();
        let properties: Value = serde_json::from_str(&properties.replace("HERE", &here)).unwrap();
        let mut tree = json!({ "kafka": { "properties": properties } });
        let set = has_credentials.then(|| (CREDENTIALS.into(), folder.path().into()));
        let mut problems = Vec::new();
        resolve(&mut tree, set.as_slice(), &mut problems);
        let problems = problems.iter().map(ToString::to_string);
        let problems = problems.map(|text| text.replace(&here, "HERE")).collect();
        (tree["kafka"]["properties"].take(), problems)
    }

    #[test]
    fn a_property_is_the_content_of_its_file() {
        for from in [
            r#""sasl.password.file": "HERE/secret""#,
            r#""sasl.password.credential": "secret""#,
        ] {
            let text = format!(r#"{{ {from}, "sasl.username": "anna" }}"#);
            let due = json!({ "sasl.password": "  of \"quotes\"", "sasl.username": "anna" });
            assert_eq!(resolved(&text, true), (due, Vec::new()));
        }
    }

    #[test]
    fn what_librdkafka_reads_itself_stays_a_path() {
        let own = r#"{"sasl.oauthbearer.assertion.private.key.file":"/etc/key.pem"}"#;
        let due = serde_json::from_str(own).unwrap();
        assert_eq!(resolved(own, false), (due, Vec::new()));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_file_and_never_with_its_value() {
        for (properties, fault) in [
            (
                r#"{"sasl.password.file":"HERE/none"}"#,
                "cannot be read from HERE/none: No such file",
            ),
            (
                r#"{"sasl.password.file":"HERE/empty"}"#,
                "HERE/empty, which is empty",
            ),
            (r#"{"sasl.password.file":3}"#, "must be text"),
            (
                r#"{"sasl.password.file":"HERE/secret","sasl.password":"x"}"#,
                "a second time",
            ),
            (
                r#"{"sasl.password.credential":"secret"}"#,
                "$CREDENTIALS_DIRECTORY is not set",
            ),
        ] {
            let (_, problems) = resolved(properties, false);
            let [problem] = problems.as_slice() else {
                panic!("{properties}: {problems:?}");
            };
            assert!(
                problem.starts_with("kafka.properties.\"sasl.password."),
                "{problem}"
            );
            assert!(problem.contains(fault), "{problem}");
            assert!(!problem.contains("quotes"), "{problem}");
        }
    }
}
