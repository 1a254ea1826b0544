# `make` lists the targets. Each does its own set-up, so any of them works in a fresh clone.

PYTHON       ?= python3
PREFIX       ?= /usr/local
SYSCONFDIR   ?= /etc
DESTDIR      ?=
# What starts the daemon: any of systemd, openrc, sysv (for BusyBox, too); nothing for none.
INIT         ?= systemd
# For packages: byte code that is made at build time (yes or nothing), the interpreter to name in
# the first line, where shells and systemd look.
COMPILE      ?= yes
SHEBANG      ?= $$("$(PYTHON)" -I -c 'import sys; print(sys.executable)')
BASHDIR      ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR       ?= $(PREFIX)/share/zsh/site-functions
UNITDIR      ?= $(PREFIX)/lib/systemd/system
FUZZ_SECONDS ?= 600
SOAK_SECONDS ?= 600

IN_VENV  := .venv/bin/python
ABI      := mptcpd/nl/_attrs_abi.py
LIB      := $(PREFIX)/lib/mptcpd
CONF     := $(SYSCONFDIR)/mptcpd/mptcpd.conf
LAUNCHER := $(PREFIX)/sbin/mptcpd
# Programs for everybody, each with its module in mptcpd/cli.
TOOLS    := mptcpize:mptcpize mptcpctl:ctl.main mptcp-get-debug:get_debug
PAGES    := $(notdir $(wildcard man/*.[1-8]))
SHELLS   := $(filter-out _%,$(notdir $(wildcard completion/*)))
# Init system -> its files: source, place, mode.
systemd  := mptcpd.service:$(UNITDIR)/mptcpd.service:644 mptcpd.socket:$(UNITDIR)/mptcpd.socket:644
sysv     := sysv/mptcpd:$(SYSCONFDIR)/init.d/mptcpd:755
openrc   := openrc/mptcpd.initd:$(SYSCONFDIR)/init.d/mptcpd:755
INITS    := $(foreach init,$(INIT),$($(init)))
# Its own settings file is the administrator's, and stays.
openrc_conf := $(SYSCONFDIR)/conf.d/mptcpd

WITHOUT_KERNEL := tests/nl tests/core tests/plugins tests/fuzz tests/test_fake_kernel.py \
	tests/test_scenarios.py tests/test_whole.py \
	--ignore=tests/fuzz/test_fuzz_linear.py
# What turns bytes and text into values. No sockets and no processes, which the emulator lacks.
CODEC := $(patsubst %,tests/fuzz/test_fuzz_%.py,nl nl_ways byte_order config options) \
	tests/nl tests/core/test_config.py tests/fuzz/test_regressions.py \
	--ignore=tests/nl/test_sock.py --ignore=tests/nl/test_sock_events.py \
	--deselect=tests/fuzz/test_regressions.py::test_what_breaks_is_kept_and_breaks_again \
	--deselect=tests/nl/test_seccomp.py::test_the_kernel_takes_and_obeys_it

.DEFAULT_GOAL := help
.PHONY: help venv demo check check-packages fuzz coverage big-endian mutate bench soak pages deb install \
	uninstall clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make venv       .venv with the project and the test tools; then .venv/bin/mptcpd runs'
	@echo 'make demo       one connection over two paths on this kernel, in namespaces of its own'
	@echo 'make check      lint, types and all tests; before every commit'
	@echo 'make check-packages   builds, installs, runs and removes the packages, where tools are there'
	@echo 'make pages      manual pages and shell completion anew from the tables of options'
	@echo 'make deb        a Debian package in dist, with Debian'"'"'s tools'
	@echo 'make fuzz       look for input that breaks the parsers, for FUZZ_SECONDS (600)'
	@echo 'make coverage   what the tests without privilege leave out of mptcpd/nl and mptcpd/core'
	@echo 'make big-endian the codec on a big-endian Python, under emulation; needs apt and network'
	@echo 'make mutate     break the parsers and state machines on purpose; the tests must see it'
	@echo 'make bench      what it costs, in numbers; root, a few minutes'
	@echo 'make soak       a day in the life of a daemon in SOAK_SECONDS (600); root'
	@echo 'make install    into PREFIX (/usr/local) and SYSCONFDIR (/etc), below DESTDIR; no network'
	@echo 'make uninstall  remove what install put there, except the configuration'
	@echo 'make clean      remove what the other targets made in this folder'
	@echo
	@echo 'PYTHON=... names the interpreter to use (python3)'

venv:
	@sh tools/need.sh venv "$(PYTHON)" >/dev/null
	@sh tools/venv.sh "$(PYTHON)"
	@$(MAKE) -s $(ABI)

# cffi's description of the structs as plain Python; needs cffi, but no compiler.
$(ABI): mptcpd/nl/_attrs_build.py
	@builder=$$(sh tools/need.sh cffi $(IN_VENV) "$(PYTHON)") && "$$builder" $<

demo: venv
	@$(IN_VENV) demo/two_paths.py

check: venv
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m mypy
	$(IN_VENV) -m pytest

check-packages: venv
	MPTCPD_TEST_PACKAGES=1 $(IN_VENV) -m pytest tests/packages

pages: venv
	@$(IN_VENV) tools/pages.py

deb:
	sh packaging/debian/build.sh

fuzz: venv
	@$(IN_VENV) tests/fuzz/hunt.py $(FUZZ_SECONDS)

# Tests of whole programs are left out: what runs there is not counted.
coverage: venv
	@$(IN_VENV) -c 'import coverage' 2>/dev/null || $(IN_VENV) -m pip -q install 'coverage>=7.10'
	$(IN_VENV) -m coverage erase
	$(IN_VENV) -m coverage run -m pytest -q $(WITHOUT_KERNEL)
	$(IN_VENV) -m coverage combine -q
	$(IN_VENV) -m coverage report -m --skip-covered --include='mptcpd/core/*' --fail-under=95
	$(IN_VENV) -m coverage report -m --skip-covered --include='mptcpd/nl/*' --fail-under=100

big-endian: $(ABI)
	@GATE_EXAMPLES=15 sh tools/big_endian.sh .big-endian -q $(CODEC)

mutate: venv
	@$(IN_VENV) -m tests.mutations

bench: venv
	@$(IN_VENV) -m bench.start
	@$(IN_VENV) -m bench.sockets
	@$(IN_VENV) -m bench
	@$(IN_VENV) -m bench.hostile

soak: venv
	@$(IN_VENV) -m bench.soak $(SOAK_SECONDS)

# The installed daemon is found by its launcher's own place, so the tree under DESTDIR runs as well.
install: $(ABI)
	@sh tools/need.sh run "$(PYTHON)" >/dev/null
	rm -rf "$(DESTDIR)$(LIB)/mptcpd"
	find mptcpd -name '*.py' -exec install -D -m 644 '{}' "$(DESTDIR)$(LIB)/{}" ';'
	find plugins -name '*.py' -exec install -D -m 644 '{}' "$(DESTDIR)$(LIB)/{}" ';'
	sed -i 's|^SYSCONFDIR = .*|SYSCONFDIR = "$(SYSCONFDIR)"|' "$(DESTDIR)$(LIB)/mptcpd/cli/paths.py"
	[ -z "$(COMPILE)" ] || { umask 022; \
	    "$(PYTHON)" -I -m compileall -q -d "$(LIB)/mptcpd" "$(DESTDIR)$(LIB)/mptcpd"; }
	install -D -m 755 packaging/launcher.py "$(DESTDIR)$(LAUNCHER)"
	sed -i "1s|.*|#!$(SHEBANG) -I|" "$(DESTDIR)$(LAUNCHER)"
	for tool in $(TOOLS); do \
	    file="$(DESTDIR)$(PREFIX)/bin/$${tool%:*}" && \
	    install -D -m 755 "$(DESTDIR)$(LAUNCHER)" "$$file" && \
	    sed -i "s|mptcpd\.cli\.daemon|mptcpd.cli.$${tool#*:}|; s|the mptcpd that|the $${tool%:*} that|" \
	        "$$file" || exit 1; \
	done
	for page in $(PAGES); do \
	    file="$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$page" && \
	    install -D -m 644 "man/$$page" "$$file" && \
	    sed -i 's|/etc/mptcpd|$(SYSCONFDIR)/mptcpd|' "$$file" || exit 1; \
	done
	for name in $(SHELLS); do \
	    install -D -m 644 "completion/$$name" "$(DESTDIR)$(BASHDIR)/$$name" && \
	    install -D -m 644 "completion/_$$name" "$(DESTDIR)$(ZSHDIR)/_$$name" || exit 1; \
	done
	for entry in $(INITS); do \
	    source=$${entry%%:*} mode=$${entry##*:} && place=$${entry#*:} && \
	    file="$(DESTDIR)$${place%:*}" && \
	    install -D -m "$$mode" "packaging/$$source" "$$file" && \
	    sed -i 's|@LAUNCHER@|$(LAUNCHER)|; s|@SYSCONFDIR@|$(SYSCONFDIR)|g' "$$file" || exit 1; \
	done
	[ -z "$(filter openrc,$(INIT))" ] || [ -e "$(DESTDIR)$(openrc_conf)" ] || \
	    install -D -m 644 packaging/openrc/mptcpd.confd "$(DESTDIR)$(openrc_conf)"
	[ -e "$(DESTDIR)$(CONF)" ] || install -D -m 644 etc/mptcpd.conf "$(DESTDIR)$(CONF)"

# An administrator's own plugins, and so perhaps the folder, stay.
uninstall:
	rm -f "$(DESTDIR)$(LAUNCHER)"
	for tool in $(TOOLS); do rm -f "$(DESTDIR)$(PREFIX)/bin/$${tool%:*}"; done
	for page in $(PAGES); do rm -f "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$$page"; done
	for name in $(SHELLS); do rm -f "$(DESTDIR)$(BASHDIR)/$$name" "$(DESTDIR)$(ZSHDIR)/_$$name"; done
	for entry in $(INITS); do place=$${entry#*:} && rm -f "$(DESTDIR)$${place%:*}"; done
	rm -rf "$(DESTDIR)$(LIB)/mptcpd"
	find plugins -name '*.py' -exec rm -f "$(DESTDIR)$(LIB)/{}" ';'
	rm -rf "$(DESTDIR)$(LIB)/plugins/__pycache__"
	-rmdir --ignore-fail-on-non-empty "$(DESTDIR)$(LIB)/plugins" "$(DESTDIR)$(LIB)"
	@! [ -e "$(DESTDIR)$(CONF)" ] || echo 'kept $(DESTDIR)$(CONF)'

clean:
	rm -rf .venv .big-endian .coverage .coverage.* build dist mptcpd.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache $(ABI)
	find . -name .git -prune -o -name __pycache__ -prune -exec rm -rf '{}' +
