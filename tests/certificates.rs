//! The certificates that tests of TLS show each other, made anew for each run: WEALD_CERTIFICATES names the folder.
//!
//! ```text
//! root --> server (oak.test, localhost, 127.0.0.1), second (elm.test, *.elm.test), expired, early, client
//! other root --> stranger (oak.test), intruder (a client)
//! ```
//! Each has NAME.pem and NAME.key; root.pem and other.pem are whom to trust, and both.pem has certificate and key.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::path::Path;
use std::{env, fs};

const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;
const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;

type Root = CertifiedIssuer<'static, KeyPair>;

fn params(common: &str, names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|n| n.to_string()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params
}

fn root(common: &str) -> Root {
    let mut params = params(common, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn write(folder: &Path, name: &str, root: &Root, usage: ExtendedKeyUsagePurpose, mut params: CertificateParams) {
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, root).unwrap();
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    if name == "server" {
        fs::write(folder.join("both.pem"), certificate.pem() + &key.serialize_pem()).unwrap();
    }
}

#[test]
fn certificates() {
    let Some(folder) = env::var_os("WEALD_CERTIFICATES") else { return };
    let folder = Path::new(&folder);
    fs::create_dir_all(folder).unwrap();
    let (ours, other) = (root("weald test root"), root("somebody else's root"));
    fs::write(folder.join("root.pem"), ours.pem()).unwrap();
    fs::write(folder.join("other.pem"), other.pem()).unwrap();

    let oak = ["oak.test", "localhost", "127.0.0.1"];
    write(folder, "server", &ours, SERVER, params("oak", &oak));
    write(folder, "renewed", &ours, SERVER, params("oak again", &oak));
    write(folder, "second", &ours, SERVER, params("elm", &["elm.test", "*.elm.test"]));
    write(folder, "stranger", &other, SERVER, params("not oak", &oak));
    write(folder, "client", &ours, CLIENT, params("ash", &["ash.test"]));
    write(folder, "intruder", &other, CLIENT, params("ivy", &["ivy.test"]));
    let mut expired = params("old oak", &oak);
    expired.not_after = date_time_ymd(2021, 1, 1);
    write(folder, "expired", &ours, SERVER, expired);
    let mut early = params("oak to be", &oak);
    early.not_before = date_time_ymd(2080, 1, 1);
    write(folder, "early", &ours, SERVER, early);
}
