//! A loaded program or library, by the names that it goes by.

use super::elf::Image;
use crate::sys::loader::Object;
use std::ops::Range;

/// What must block when it says so: the C library and its parts, what it loads for names
/// (NSS), the loader, allocators, and those who watch over a process.
const NEVER: [&str; 33] = [
    "ld-linux",
    "linux-vdso",
    "libc.so",
    "libpthread.so",
    "libdl.so",
    "librt.so",
    "libm.so",
    "libmvec.so",
    "libutil.so",
    "libanl.so",
    "libresolv.so",
    "libnsl.so",
    "libnss_",
    "libBrokenLocale.so",
    "libthread_db",
    "libc_malloc_debug",
    "libmemusage.so",
    "libpcprofile.so",
    "libSegFault.so",
    "libgcc_s.so",
    "libjemalloc.so",
    "libtcmalloc",
    "libmimalloc.so",
    "libasan.so",
    "libtsan.so",
    "liblsan.so",
    "libubsan.so",
    "libhwasan.so",
    "libclang_rt.",
    "vgpreload_",
    "libprofiler.so",
    "libfakeroot",
    "libeatmydata",
];

#[derive(Clone, Debug)]
pub struct Library {
    /// Empty for the program.
    pub path: String,
    pub soname: String,
    pub base: usize,
    pub range: Range<usize>,
}

impl Library {
    pub fn new(object: &Object, image: &Image) -> Library {
        Library {
            path: object.path.to_string_lossy().into_owned(),
            soname: image.soname().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default(),
            base: object.base,
            range: image.range(),
        }
    }

    /// What people call it.
    pub fn label(&self) -> &str {
        if self.path.is_empty() { "(the program)" } else { file_of(&self.path) }
    }

    /// Whether `name` means it: its path, its file's name or its soname; none means the program.
    pub fn is_called(&self, name: Option<&str>) -> bool {
        match name {
            None => self.path.is_empty(),
            Some(name) => [self.path.as_str(), file_of(&self.path), &self.soname].contains(&name),
        }
    }

    /// Never patched: see NEVER, and whatever holds this very code.
    pub fn must_block(&self) -> bool {
        let ours = Library::must_block as fn(&Library) -> bool as usize;
        let is_one = |name: &str| NEVER.iter().any(|start| name.starts_with(start));
        self.range.contains(&ours) || is_one(file_of(&self.path)) || is_one(&self.soname)
    }
}

fn file_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(path: &str, soname: &str) -> Library {
        Library { path: path.into(), soname: soname.into(), base: 0, range: 0..1 }
    }

    #[test]
    fn a_library_goes_by_its_path_its_file_and_its_soname() {
        let pq = library("/usr/lib/libpq.so.5.16", "libpq.so.5");
        for name in ["/usr/lib/libpq.so.5.16", "libpq.so.5.16", "libpq.so.5"] {
            assert!(pq.is_called(Some(name)), "{name}");
        }
        for name in [Some("libpq.so"), Some("libpq"), Some(""), None] {
            assert!(!pq.is_called(name));
        }
        assert!(library("", "").is_called(None));
    }

    #[test]
    fn the_c_library_and_its_parts_are_left_alone() {
        for path in ["/lib64/ld-linux-x86-64.so.2", "/lib/libc.so.6", "/lib/libnss_dns.so.2", "/usr/lib/libasan.so.8"] {
            assert!(library(path, "").must_block(), "{path}");
        }
        assert!(library("/opt/renamed.so", "libc.so.6").must_block());
        for path in ["/usr/lib/libcurl.so.4", "/usr/lib/libcrypto.so.3", "/usr/lib/libmariadb.so.3", ""] {
            assert!(!library(path, "").must_block(), "{path}");
        }
    }
}
