//! Compiles what has to be C and names the shared library for the dynamic linker.

fn main() {
    println!("cargo:rerun-if-changed=src/c");
    let mut build = cc::Build::new();
    build.file("src/c/cxa.c").std("c11").warnings(true);
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch != "x86_64") {
        build.file("src/c/thread.c");
    }
    build.compile("weald_c");
    // The soname changes with the ABI version, not with every release.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libweald.so.0");
}
