# weald: build, show, test, measure, install. `make help` lists what there is.

PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR     ?= $(PREFIX)/share/man
DESTDIR    ?=

SOAK_SECONDS ?= 600
FUZZ_SECONDS ?= 60

CARGO      ?= cargo
PYTHON     ?= python3
CC         ?= cc
CFLAGS     ?= -O2 -g -Wall -Wextra

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME  := libweald.so.0
LIBFILE := libweald.so.$(VERSION)

TARGET  := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
SHARED  := $(TARGET)/release/libweald.so
STATIC  := $(TARGET)/release/libweald.a
SOURCES := Cargo.toml Cargo.lock build.rs $(shell find src -type f)
STAGE   := $(CURDIR)/target/stage

MAN     := $(TARGET)/man
CPP     := $(wildcard bindings/cpp/weald.hpp)

EXAMPLES := $(sort $(patsubst examples-c/%.c,%,$(wildcard examples-c/*.c)))

.PHONY: all help python bench-python header man stage install uninstall examples demo test bench lint codes fuzz older asan valgrind loom soak gevent-tests clean
.DELETE_ON_ERROR:

all: $(SHARED)

# One run of cargo makes both libraries.
$(SHARED): $(SOURCES)
	$(CARGO) build --release
	@touch $(SHARED) $(STATIC)

help:
	@echo 'make            the shared and the static library, in $(TARGET)/release'
	@echo 'make demo       runs every program of examples-c and shows what it prints'
	@echo 'make test       every test; SUITE="c:queue" chooses some (see tests/run.py --help)'
	@echo 'make bench      this library and its peers side by side'
	@echo 'make header     writes include/weald.h from src/ffi, and docs/reference.md from that'
	@echo 'make man        the man pages, in $(MAN); make install does it as well'
	@echo 'make install    PREFIX=$(PREFIX) LIBDIR=$(LIBDIR) DESTDIR=$(DESTDIR)'
	@echo 'make uninstall  takes the same variables'
	@echo 'make examples   builds examples-c into target/examples'
	@echo 'make lint       rustfmt and clippy'
	@echo 'make codes      whether the C tests provoke every code that the header lists'
	@echo 'make python     the package weald for Python, in bindings/python/.venv'
	@echo 'make bench-python  weald and gevent side by side; ROUNDS=3, ROWS="queue echo" chooses some'
	@echo 'make fuzz       libFuzzer on what reads HTTP and WebSocket, FUZZ_SECONDS=$(FUZZ_SECONDS) for each target'
	@echo 'make older      the C tests as on Linux 5.10: what is newer is taken from the kernel'
	@echo 'make asan       the C and C++ tests under AddressSanitizer'
	@echo 'make valgrind   the C and C++ tests under valgrind'
	@echo 'make loom       the thread-crossing parts, every interleaving'
	@echo 'make soak       everything at once for SOAK_SECONDS=$(SOAK_SECONDS): nothing lost, and memory stays flat'
	@echo 'make gevent-tests  gevent'"'"'s own tests on the Python binding; MODULES="queue event" runs those; PYTHON=python3.12'
	@echo 'make clean      removes what was built'

# ---- the header, and what is written from it ----

header:
	WEALD_WRITE_HEADER=1 $(CARGO) test --test header
	$(PYTHON) docs/reference.py

man: $(MAN)/weald.7

# A page for each function; the overview is written last, and stands for all.
$(MAN)/weald.7: include/weald.h docs/man.py docs/header.py
	$(PYTHON) docs/man.py '$(MAN)'

# ---- Python ----

PYVENV ?= bindings/python/.venv

python: $(SHARED)
	test -x $(PYVENV)/bin/python || $(PYTHON) -m venv $(PYVENV)
	CARGO_TARGET_DIR='$(abspath $(TARGET))' $(PYVENV)/bin/python -m pip install --quiet --force-reinstall --no-deps ./bindings/python
	$(PYVENV)/bin/python -c 'import weald; weald.sleep(0); print("weald", weald.weald_version)'

bench-python: python
	$(PYVENV)/bin/python -m pip install --quiet gevent
	$(PYVENV)/bin/python bindings/python/bench/bench.py $(if $(ROUNDS),--rounds $(ROUNDS)) $(ROWS)

# ---- install ----

# A relative name would be resolved by the program that reads weald.pc, not by us.
# What lies below the prefix is named by it, and CMake's files find the rest by where they are: an install may be moved.
BELOW = $(patsubst $(abspath $(PREFIX))/%,$${prefix}/%,$(abspath $(1)))
FILL = sed -e 's|@PREFIX@|$(abspath $(PREFIX))|g' -e 's|@LIBDIR@|$(call BELOW,$(LIBDIR))|g' \
           -e 's|@INCLUDEDIR@|$(call BELOW,$(INCLUDEDIR))|g' -e 's|@VERSION@|$(VERSION)|g' \
           -e "s|@FROM_LIBDIR@|$$(realpath -ms --relative-to='$(LIBDIR)' '$(INCLUDEDIR)')|g" \
           -e 's|@LIBFILE@|$(LIBFILE)|g' -e 's|@SONAME@|$(SONAME)|g'

install: $(SHARED) $(MAN)/weald.7
	install -d '$(DESTDIR)$(LIBDIR)/pkgconfig' '$(DESTDIR)$(LIBDIR)/cmake/weald' '$(DESTDIR)$(INCLUDEDIR)'
	install -m 755 $(SHARED) '$(DESTDIR)$(LIBDIR)/$(LIBFILE)'
	ln -sf $(LIBFILE) '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(LIBDIR)/libweald.so'
	install -m 644 $(STATIC) '$(DESTDIR)$(LIBDIR)/libweald.a'
	install -m 644 include/weald.h $(CPP) '$(DESTDIR)$(INCLUDEDIR)'
	$(FILL) packaging/weald.pc.in > '$(DESTDIR)$(LIBDIR)/pkgconfig/weald.pc'
	$(FILL) packaging/weald-config.cmake.in > '$(DESTDIR)$(LIBDIR)/cmake/weald/weald-config.cmake'
	$(FILL) packaging/weald-config-version.cmake.in > '$(DESTDIR)$(LIBDIR)/cmake/weald/weald-config-version.cmake'
	install -d '$(DESTDIR)$(MANDIR)/man3' '$(DESTDIR)$(MANDIR)/man7'
	install -m 644 '$(MAN)'/weald_*.3 '$(DESTDIR)$(MANDIR)/man3'
	install -m 644 '$(MAN)/weald.7' '$(DESTDIR)$(MANDIR)/man7'

uninstall:
	rm -f '$(DESTDIR)$(LIBDIR)/$(LIBFILE)' '$(DESTDIR)$(LIBDIR)/$(SONAME)' '$(DESTDIR)$(LIBDIR)/libweald.so'
	rm -f '$(DESTDIR)$(LIBDIR)/libweald.a' '$(DESTDIR)$(LIBDIR)/pkgconfig/weald.pc'
	rm -f '$(DESTDIR)$(INCLUDEDIR)/weald.h' '$(DESTDIR)$(INCLUDEDIR)/weald.hpp'
	rm -rf '$(DESTDIR)$(LIBDIR)/cmake/weald'
	rm -f '$(DESTDIR)$(MANDIR)'/man3/weald_*.3 '$(DESTDIR)$(MANDIR)/man7/weald.7'

# An install of our own, which examples and tests are built against; one at a time.
stage: $(SHARED)
	@flock $(TARGET)/release/.stage.lock $(MAKE) --no-print-directory install PREFIX='$(STAGE)' LIBDIR='$(STAGE)/lib' \
	    INCLUDEDIR='$(STAGE)/include' MANDIR='$(STAGE)/share/man' DESTDIR= > /dev/null

# ---- examples ----

# What pkg-config says of the staged install; spelled out where there is no pkg-config.
FLAGS = $(if $(shell command -v pkg-config), \
    $(shell PKG_CONFIG_PATH='$(STAGE)/lib/pkgconfig' pkg-config --cflags --libs weald), \
    -I'$(STAGE)/include' -L'$(STAGE)/lib' -lweald)

examples: $(EXAMPLES:%=target/examples/%)

target/examples/%: examples-c/%.c $(SHARED) | stage
	@mkdir -p target/examples
	$(CC) -std=c11 $(CFLAGS) -pthread $< $(FLAGS) -Wl,-rpath,'$(STAGE)/lib' -o $@

demo: examples
	@for name in $(EXAMPLES); do \
	    printf '\n==== '; head -n 1 "examples-c/$$name.c" | sed -e 's|^/\* *||' -e 's| *\*/$$||'; \
	    "target/examples/$$name" || exit 1; \
	done
	@echo
	@echo 'That was examples-c, in reading order: $(words $(EXAMPLES)) programs, each opening with what it shows.'
	@echo 'Go on with:'
	@echo '  make test                    every test, on this machine'
	@echo '  make bench                   this library and its peers, side by side'
	@echo '  make install && ldconfig     as root; then: cc hello.c $$(pkg-config --cflags --libs weald)'
	@echo '  include/weald.h              the whole API, in reading order'

# ---- tests, benches, checks ----

test:
	$(PYTHON) tests/run.py $(SUITE)

bench:
	$(PYTHON) benches/run.py

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings

codes:
	$(PYTHON) tests/run.py codes

fuzz:
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTHON) tests/run.py fuzz

older:
	$(PYTHON) tests/run.py older

asan:
	$(PYTHON) tests/run.py asan

valgrind:
	$(PYTHON) tests/run.py valgrind

loom:
	$(PYTHON) tests/run.py loom

# WEALD_TEST_SEED=n draws from that seed; SUITE=soak:asan runs it under AddressSanitizer.
soak:
	SOAK_SECONDS=$(SOAK_SECONDS) $(PYTHON) tests/run.py $(or $(filter soak:%,$(SUITE)),soak)

# MODULES="queue event" runs those; without it all, which takes a while.
gevent-tests:
	$(PYTHON) bindings/python/tests/gevent_tests.py $(MODULES)

clean:
	$(CARGO) clean
	rm -rf target
