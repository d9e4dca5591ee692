//! Compiles what has to be C and names the shared library for the dynamic linker.

fn main() {
    println!("cargo:rerun-if-changed=src/c");
    cc::Build::new().files(["src/c/thread.c", "src/c/cxa.c"]).std("c11").warnings(true).compile("weald_c");
    // The soname changes with the ABI version, not with every release.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libweald.so.0");
}
