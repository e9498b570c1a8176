//! The secrets of the schema registry.

use super::file;

#[test]
fn secrets_of_the_registry_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "of the file\n").unwrap();
    let text = |password: &str| {
        format!(
            "registry = {{ urls = [\"http://r\"], username = \"anna\", password = {password} }}\n"
        )
    };
    let stream = "[streams.pumps]\ninput.topic = \"t\"\nrecord.fields = [\"a\", \"b\", \"c\"]\n";
    let password = |text: String, environment: &[(&str, &str)]| {
        let settings = file(&(text + stream), environment, &[]).unwrap();
        assert!(!format!("{settings:?}").contains("of the"));
        settings.registry.password.unwrap()
    };
    let from_file = text(&format!("{{ file = {secret:?} }}"));
    assert_eq!(password(from_file, &[]), "of the file");
    let folder = folder.path().display().to_string();
    let from_credential = text("{ credential = \"secret\" }");
    assert_eq!(
        password(from_credential, &[("CREDENTIALS_DIRECTORY", &folder)]),
        "of the file"
    );
    let number = [("OUTLIERD__REGISTRY__PASSWORD", "0123")];
    assert_eq!(password(text("\"x\""), &number), "0123", "no number");
    let variable = [(
        "OUTLIERD__REGISTRY__PASSWORD__FILE",
        secret.to_str().unwrap(),
    )];
    assert_eq!(password(text("{}"), &variable), "of the file");
}
