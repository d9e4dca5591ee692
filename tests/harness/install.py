"""Suite `install`: what `make install` lays down, and that the usual build systems find it."""
import os
import shutil

import weald_h
from . import build, process, tools

SOURCE = build.ROOT / "tests" / "install"


def run(report, options):
    with report.group("install") as group:
        for check in (_layout, _pkg_config, _static, _exceptions, _cmake, _moved, _destdir_and_uninstall):
            if options.wants(check.__name__.strip("_")):
                check(group)


def _layout(group):
    lib = build.STAGE / "lib"
    group.check("libweald.so leads to libweald.so.0", _link(lib / "libweald.so") == "libweald.so.0")
    real = _link(lib / "libweald.so.0")
    group.check("libweald.so.0 leads to the versioned file", real == f"libweald.so.{_version()}", str(real))
    for name in ("lib/libweald.a", "include/weald.h", "include/weald.hpp", "lib/pkgconfig/weald.pc",
                 "lib/cmake/weald/weald-config.cmake"):
        group.check(f"{name} is there", (build.STAGE / name).is_file())
    left = [str(path) for path in build.STAGE.rglob("*") if path.suffix in (".pc", ".cmake")
            and "@" in path.read_text(encoding="utf-8")]
    group.check("no placeholder is left", not left, "\n".join(left))


def _man_pages(group, man):
    pages = {path.stem for path in (man / "man3").glob("*.3")}
    functions = {function.name for function in weald_h.read(build.header()).functions}
    group.check("every function has a man page, and nothing else", pages == functions, str(sorted(pages ^ functions)))
    group.check("weald(7) is there", (man / "man7" / "weald.7").is_file())
    reason = tools.missing("groff")
    if reason:
        group.skipped("man pages", reason)
        return
    read = process.run(["groff", "-man", "-ww", "-z", "-Tutf8", *sorted(man.glob("man*/*"))], 60)
    group.check("groff finds nothing to say of them", read.status == 0 and not read.output.strip(), read.output)


def _pkg_config(group):
    reason = tools.missing("pkg-config")
    if reason:
        group.skipped("pkg-config", reason)
        return
    group.check("pkg-config tells the version", build.flags("--modversion") == [_version()])
    program = build.BUILT / "install" / "shared"
    _compile_and_run(group, "a program built with pkg-config runs", program,
                     [*build.flags("--cflags", "--libs"), f"-Wl,-rpath,{build.STAGE / 'lib'}"])
    reason = tools.missing("g++")
    if reason:
        group.skipped("a C++ program built with pkg-config runs", reason)
        return
    _compile_and_run(group, "a C++ program built with pkg-config runs", build.BUILT / "install" / "cpp",
                     [*build.flags("--cflags", "--libs"), f"-Wl,-rpath,{build.STAGE / 'lib'}"], "main.cpp")


def _static(group):
    """The static library, with the system libraries that weald.pc names."""
    reason = tools.missing("pkg-config")
    if reason:
        group.skipped("static", reason)
        return
    words = build.flags("--static", "--cflags", "--libs")
    words = [str(build.STAGE / "lib" / "libweald.a") if word == "-lweald" else word for word in words]
    program = build.BUILT / "install" / "static"
    if _compile_and_run(group, "a program linked statically runs", program, words):
        needs = process.run(["ldd", program], 20)
        group.check("it does not need libweald.so", "libweald" not in needs.output, needs.output)
    reason = _no_static_libc()
    if reason:
        group.skipped("a program without shared libraries runs", reason)
    else:
        words = build.flags("--static", "--cflags", "--libs")
        _compile_and_run(group, "a program without shared libraries runs", program.with_name("whole"),
                         ["-static", *words])


def _exceptions(group):
    """Greenlets keep their C++ exceptions apart wherever the C++ runtime is."""
    reason = tools.missing("g++", "pkg-config")
    if reason:
        group.skipped("exceptions", reason)
        return
    source, folder = build.ROOT / "tests" / "c" / "exceptions.cpp", build.BUILT / "install"
    shared = [*build.flags("--cflags", "--libs"), f"-Wl,-rpath,{build.STAGE / 'lib'}"]
    _exceptions_in(group, "with libstdc++ inside", source, folder / "inside", ["-static-libstdc++", *shared])
    reason = _no_static_libc()
    if reason:
        group.skipped("exceptions without shared libraries", reason)
    else:
        words = build.flags("--static", "--cflags", "--libs")
        _exceptions_in(group, "without shared libraries", source, folder / "static_cpp", ["-static", *words])
    loader, plugin = folder / "loader", folder / "plugin.so"
    words = ["-std=c11", *build.WARNINGS, SOURCE / "loader.c", *shared, "-ldl", "-o", loader]
    group.ran("a program that loads plugins is built", process.run([build.CC, *words], 180))
    _exceptions_in(group, "in a plugin", source, plugin, ["-shared", "-fPIC", *shared], [loader, plugin])


def _exceptions_in(group, where, source, program, words, command=None):
    built = process.run([build.CXX, "-std=c++17", "-g", "-O1", source, *words, "-o", program], 180)
    if built.status != 0:
        group.ran(f"{where} it is built", built)
        return
    for case in ("exceptions_caught_inside_interleave", "an_exception_on_its_way_is_its_greenlets_own",
                 "an_exception_is_rethrown_after_others_were_caught_meanwhile", "main_may_wait_in_a_catch_block"):
        group.ran(f"{where}: {case}", process.run([*(command or [program]), case], 20))


def _no_static_libc():
    """Why nothing can be linked without shared libraries here; "" if it can."""
    program = build.BUILT / "install" / "nothing"
    program.parent.mkdir(parents=True, exist_ok=True)
    source = program.with_suffix(".c")
    source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
    done = process.run([build.CC, "-static", source, "-o", program], 60)
    return "" if done.status == 0 else "there is no static C library"



def _compile_and_run(group, case, program, words, source="main.c"):
    program.parent.mkdir(parents=True, exist_ok=True)
    language = [build.CXX, "-std=c++17"] if source.endswith(".cpp") else [build.CC, "-std=c11"]
    done = process.run([*language, *build.WARNINGS, SOURCE / source, *words, "-o", program], 180)
    if done.status == 0:
        done = process.run([program], 20)
    group.ran(case, done)
    return done.status == 0


def _cmake(group):
    reason = tools.missing("cmake")
    if reason:
        group.skipped("cmake", reason)
        return
    folder = build.BUILT / "cmake"
    shutil.rmtree(folder, ignore_errors=True)
    done = process.run(["cmake", "-S", SOURCE, "-B", folder, f"-DCMAKE_PREFIX_PATH={build.STAGE}"], 120)
    if done.status == 0:
        done = process.run(["cmake", "--build", folder], 180)
    group.ran("find_package(weald) configures and builds", done)
    if done.status == 0:
        for name in ("shared", "static"):
            group.ran(f"the {name} program of CMake runs", process.run([folder / name], 20))


def _moved(group):
    """An install that lies elsewhere than it was told: in a DESTDIR, or copied to another machine."""
    reason = tools.missing("cmake", "pkg-config")
    if reason:
        group.skipped("a moved install", reason)
        return
    folder = build.BUILT / "moved"
    shutil.rmtree(folder, ignore_errors=True)
    words = ["make", "install", "PREFIX=/opt/wood", "LIBDIR=/opt/wood/lib/here", "INCLUDEDIR=/opt/wood/include",
             "MANDIR=/opt/wood/share/man", f"DESTDIR={folder}"]
    group.ran("make install DESTDIR", process.run(words, build.BUILD_LIMIT, {"CARGO_TARGET_DIR": build.TARGET}, build.ROOT))
    prefix, built = folder / "opt" / "wood", folder / "build"
    done = process.run(["cmake", "-S", SOURCE, "-B", built, f"-DCMAKE_PREFIX_PATH={prefix}",
                        f"-Dweald_DIR={prefix}/lib/here/cmake/weald"], 120)
    if done.status == 0:
        done = process.run(["cmake", "--build", built], 180)
    group.ran("find_package(weald) finds what was moved", done)
    if done.status == 0:
        group.ran("a program of CMake runs with it", process.run([built / "shared"], 20))
    done = process.run(["pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", "weald"], 20,
                       {"PKG_CONFIG_PATH": str(prefix / "lib" / "here" / "pkgconfig")})
    expected = [f"-I{prefix}/include", f"-L{prefix}/lib/here", "-lweald"]
    group.check("so does pkg-config with another prefix", done.output.split() == expected, done.output)


def _destdir_and_uninstall(group):
    root = build.BUILT / "destdir"
    shutil.rmtree(root, ignore_errors=True)
    words = ["PREFIX=/opt/wood", "LIBDIR=/opt/wood/lib64", "INCLUDEDIR=/opt/wood/include",
             "MANDIR=/opt/wood/share/man", f"DESTDIR={root}"]
    env = {"CARGO_TARGET_DIR": build.TARGET}
    done = process.run(["make", "install", *words], build.BUILD_LIMIT, env, build.ROOT)
    group.ran("make install takes PREFIX, LIBDIR and DESTDIR", done)
    _man_pages(group, root / "opt/wood/share/man")
    text = (root / "opt/wood/lib64/pkgconfig/weald.pc")
    group.check("weald.pc names the final place", text.is_file() and str(root) not in text.read_text(encoding="utf-8"))
    group.ran("make uninstall", process.run(["make", "uninstall", *words], 60, env, build.ROOT))
    left = [str(path) for path in root.rglob("*") if not path.is_dir()]
    group.check("uninstall leaves nothing", not left, "\n".join(left))


def _link(path):
    return os.readlink(path) if path.is_symlink() else None


def _version():
    for line in (build.ROOT / "Cargo.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("version = "):
            return line.split('"')[1]
    return ""
