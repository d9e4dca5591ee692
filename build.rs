//! Compiles the one C file and names the shared library for the dynamic linker.

fn main() {
    println!("cargo:rerun-if-changed=src/c/tls.c");
    cc::Build::new().file("src/c/tls.c").std("c11").warnings(true).compile("weald_tls");
    // The soname changes with the ABI version, not with every release.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libweald.so.0");
}
