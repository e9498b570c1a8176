//! A Kerberos realm that one test has for itself: MIT's KDC on a free port, with its database, keys
//! and configuration in a temporary folder.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{program, wait_for};

const REALM: &str = "PLANT.EXAMPLE";

pub struct OwnRealm {
    folder: tempfile::TempDir,
    kdc: Child,
}

impl OwnRealm {
    /// With these principals, whose keys are in files `NAME.keytab`; a host is left out of the name.
    pub fn start(principals: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let client = format!(
            "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\ndns_lookup_realm = false\n\
             rdns = false\ndns_canonicalize_hostname = false\n\
             [realms]\n{REALM} = {{\n kdc = {address}\n}}\n"
        );
        let server = format!(
            "[kdcdefaults]\nkdc_listen = {address}\nkdc_tcp_listen = {address}\n\
             [realms]\n{REALM} = {{\n database_name = {}\n key_stash_file = {}\n}}\n\
             [logging]\nkdc = FILE:{}\n",
            at("principal"),
            at("stash"),
            at("kdc.log"),
        );
        fs::write(at("krb5.conf"), client).unwrap();
        fs::write(at("kdc.conf"), server).unwrap();
        let run = |name: &str, arguments: &[&str]| {
            let mut command = program(name);
            command.env("KRB5_CONFIG", at("krb5.conf"));
            command.env("KRB5_KDC_PROFILE", at("kdc.conf"));
            command.args(["-r", REALM]).args(arguments);
            command.stdout(Stdio::null());
            command
        };
        let done = |mut command: Command| {
            let status = command.status();
            assert!(status.expect("scripts/setup --test installs it").success());
        };
        done(run("kdb5_util", &["-P", "master", "create", "-s"]));
        for name in principals {
            let keytab = at(&format!("{}.keytab", name.split('/').next().unwrap()));
            done(run("kadmin.local", &["addprinc", "-randkey", name]));
            done(run("kadmin.local", &["ktadd", "-k", &keytab, name]));
        }
        let kdc = run("krb5kdc", &["-n"]).spawn().unwrap();
        wait_for("the KDC", || std::net::TcpStream::connect(address).ok());
        Self { folder, kdc }
    }

    /// A file of the realm: `krb5.conf`, or a keytab.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for OwnRealm {
    fn drop(&mut self) {
        let _ = self.kdc.kill();
        let _ = self.kdc.wait();
    }
}
