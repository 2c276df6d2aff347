# make demo      builds everything, starts the local enclave, and chats with it from C
# make demo-all  does the same with every example, also in other languages, and restarts the enclave
# make test      runs all tests whose tools are installed, and lists the skipped ones
#
# The other targets are for work on the library. Output goes to build/ and cargo's target folders.

CARGO    ?= cargo
CC       ?= cc
CXX      ?= c++
CFLAGS   ?= -O2 -g
CXXFLAGS ?= -O2 -g
PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib
DESTDIR  ?=
STRIP    ?= strip

VERSION  := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# Only the tests set WERROR=-Werror: a newer compiler's warnings must not break a user's build.
WARNINGS := -Wall -Wextra -Wpedantic $(WERROR)
LIB      := build/lib/libconfer.so
ENCLAVE  := build/bin/confer-enclave
EXAMPLES := $(patsubst examples/%.c,build/examples/%,$(wildcard examples/c/*.c))

.PHONY: all lib enclave header examples demo demo-all test bench limits docs toolchains cross xcframework cross-toolchains install dist deb clean FORCE

all: lib examples

# The settings of .cargo/config.toml, which cargo does not read when called from another folder.
export AWS_LC_SYS_NO_JITTER_ENTROPY := 1
export AWS_LC_SYS_SMALL := 0

# --- the library ----------------------------------------------------------------------------------

lib: $(LIB)

# Always runs cargo, which knows what is out of date. --target-dir overrides the environment. The
# copies have the names of installed files. The crate types leave out the tests' rlib, because with
# an rlib cargo silently drops link-time optimisation.
$(LIB): FORCE
	$(CARGO) rustc --release --lib --locked --target-dir target --crate-type cdylib,staticlib
	@mkdir -p build/lib
	@cmp -s target/release/libconfer.so build/lib/libconfer.so.$(VERSION) || \
	  { cp target/release/libconfer.so build/lib/new && mv build/lib/new build/lib/libconfer.so.$(VERSION); }
	@ln -sf libconfer.so.$(VERSION) build/lib/libconfer.so.0
	@ln -sf libconfer.so.0 build/lib/libconfer.so
	@for from in target/release/libconfer.a scripts/static-library docs/symbols-in-versions; do \
	  [ build/lib/libconfer.a -nt $$from ] || exec scripts/static-library target/release/libconfer.a build/lib/libconfer.a; \
	done

header:
	CONFER_UPDATE_HEADER=1 $(CARGO) test --quiet --locked --test header committed_header

enclave: $(ENCLAVE)

$(ENCLAVE): FORCE
	$(CARGO) build --locked --manifest-path tests/enclave/Cargo.toml --target-dir tests/enclave/target
	@mkdir -p build/bin
	@ln -sf ../../tests/enclave/target/debug/confer-enclave $@

# --- examples -------------------------------------------------------------------------------------

examples: $(EXAMPLES)

build/examples/c/%: examples/c/%.c $(wildcard examples/c/*.h) include/confer.h $(LIB)
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARNINGS) $(CFLAGS) -Iinclude $< -o $@ -Lbuild/lib -lconfer -lm -pthread -Wl,-rpath,'$$ORIGIN/../../lib'

demo: $(EXAMPLES) $(ENCLAVE)
	@scripts/demo

demo-all: $(EXAMPLES) $(ENCLAVE)
	@scripts/demo-all

# --- tests ----------------------------------------------------------------------------------------

test:
	@scripts/test

bench: $(LIB) $(ENCLAVE)
	@scripts/bench

limits: $(LIB) $(ENCLAVE)
	@scripts/bench memory limits

toolchains:
	@scripts/toolchains

# --- the documentation site: build/docs -------------------------------------------------------------

docs:
	@scripts/docs

# --- other platforms: docs/targets.md ---------------------------------------------------------------

cross: $(ENCLAVE)
	scripts/cross
	tests/cross/test.sh

# Confer.xcframework, of static frameworks for iOS, its simulator and macOS, also for the Swift package.
xcframework:
	scripts/cross macos ios
	rm -rf bindings/swift/Confer.xcframework
	cp -R build/cross/Confer.xcframework bindings/swift/

cross-toolchains:
	@scripts/cross-toolchains

# --- packaging ------------------------------------------------------------------------------------

# Libraries that a program needs with the static library. A test links with these. The unwinder is
# not listed: compilers add -lgcc_s, or -lgcc_eh to a fully static program.
LIBS_PRIVATE := -lutil -lrt -lpthread -lm -ldl

# Fills in a file of packaging/. The path from a CMake package to its prefix depends on LIBDIR.
TO_PREFIX = $(shell realpath --canonicalize-missing --relative-to='$(LIBDIR)/cmake/confer' '$(PREFIX)')
FILL = sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
       -e 's|@LIBS_PRIVATE@|$(LIBS_PRIVATE)|' -e 's|@TO_PREFIX@|$(TO_PREFIX)|'

# The folder of the libraries to install; also build/cross/TARGET/lib.
BUILT ?= build/lib

# Documents that the header names, and those that they name.
DOCUMENTS := $(addprefix docs/,limits.md policy.md report.md threat-model.md symbols-in-versions numbers-in-versions)

# Builds nothing, so that `sudo make install` runs no compiler as root.
install:
	@test -e "$(BUILT)/libconfer.so.$(VERSION)" || { echo "nothing is built yet: make lib" >&2; exit 1; }
	install -d "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(LIBDIR)/cmake/confer" "$(DESTDIR)$(PREFIX)/include" \
	  "$(DESTDIR)$(PREFIX)/share/confer" "$(DESTDIR)$(PREFIX)/share/doc/libconfer/docs"
	install -m 755 "$(BUILT)/libconfer.so.$(VERSION)" "$(DESTDIR)$(LIBDIR)/"
	install -m 644 "$(BUILT)/libconfer.a" "$(DESTDIR)$(LIBDIR)/"
	$(STRIP) --strip-unneeded "$(DESTDIR)$(LIBDIR)/libconfer.so.$(VERSION)"
	$(STRIP) --strip-debug "$(DESTDIR)$(LIBDIR)/libconfer.a"
	ln -sf libconfer.so.$(VERSION) "$(DESTDIR)$(LIBDIR)/libconfer.so.0"
	ln -sf libconfer.so.0 "$(DESTDIR)$(LIBDIR)/libconfer.so"
	install -m 644 include/confer.h include/confer.hpp "$(DESTDIR)$(PREFIX)/include/"
	install -m 644 tests/c/valgrind.supp "$(DESTDIR)$(PREFIX)/share/confer/"
	install -m 644 $(DOCUMENTS) "$(DESTDIR)$(PREFIX)/share/doc/libconfer/docs/"
	$(FILL) packaging/confer.pc.in > "$(DESTDIR)$(LIBDIR)/pkgconfig/confer.pc"
	$(FILL) packaging/confer-config.cmake.in > "$(DESTDIR)$(LIBDIR)/cmake/confer/confer-config.cmake"
	$(FILL) packaging/confer-config-version.cmake.in > "$(DESTDIR)$(LIBDIR)/cmake/confer/confer-config-version.cmake"

# The packages of a release, in build/dist: an archive and a Python wheel.
dist: $(LIB)
	@scripts/dist

# build/deb/*.deb, for the Debian release of this machine.
deb: $(LIB)
	@scripts/deb

clean:
	rm -rf build
	$(CARGO) clean --target-dir target
	$(CARGO) clean --manifest-path tests/enclave/Cargo.toml --target-dir tests/enclave/target

FORCE:
