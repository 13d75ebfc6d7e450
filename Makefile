# SPDX-License-Identifier: GPL-2.0
#
# What people type. The work is in scripts/, qemu/ and cargo; caches are outside the
# repository, in ${XDG_CACHE_HOME:-~/.cache}/smapp.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# Which of the kernels the guest boots: gcc, debug, or one of Debian as it is
# (scripts/debian-kernel --list).
KERNEL ?= gcc
# What tests and demo use of it: module or stock (default: the module where it is).
INTERFACE ?=
CHOICE = $(addprefix SMAPP_KERNEL_INTERFACE=,$(INTERFACE))
# Passed to the guest tests, a part of a test's name for example.
ARGS ?=
# How long each of the races goes on, in seconds of real time; the debug kernel is slower.
RACE ?= $(if $(filter debug,$(KERNEL)),30,10)

# Any cargo from 1.85 on; scripts/setup installs Debian's.
CARGO ?= cargo
BIN := target/x86_64-unknown-linux-gnu/release
GUEST := target/guest
# cargo runs every test binary as the payload of a guest.
RUNNER := CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$(CURDIR)/qemu/run
# Programs and tests are built at once: the same packages have the same features.
FOR_GUEST := -p smapp-cli -p smapp-init -p smapp-tests -p smapp-measure
# Or here, in namespaces; built without optimisation, for a short way to it.
HERE := target/x86_64-unknown-linux-gnu/debug/here
RUN_HERE := CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(CURDIR)/$(HERE) test"
FOR_HERE := -p smapp-cli -p smapp-tests

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing (scripts/setup --list shows what is needed)
	@scripts/setup

kernel: setup ## fetch, patch and build the kernel of the guest
	@scripts/kernel gcc

kernel-debug: setup ## the same with KASAN, lockdep, kmemleak ..
	@scripts/kernel debug

# What packs the guest and the programs in it comes from the kernel that is built here.
module: setup ## build smapp_pm.ko, and the kernel if need be
	@scripts/module $(if $(filter debian-%,$(KERNEL)),gcc,$(KERNEL))
	@$(if $(filter debian-%,$(KERNEL)),scripts/debian-kernel $(KERNEL))

programs: setup
	@$(CARGO) build --release $(FOR_GUEST) --bins

IN_GUEST := smapp smapp-init topology here
# Packed anew if the list or a program has changed.
$(addprefix $(BIN)/,$(IN_GUEST)): programs ;
$(GUEST)/base.cpio: qemu/initramfs qemu/initramfs.list qemu/python-modules spec/smapp_pm.yaml \
		$(addprefix $(BIN)/,$(IN_GUEST)) | module
	@qemu/initramfs $(GUEST)/gen_init_cpio $(BIN) $@

guest: module $(GUEST)/base.cpio ## build everything that qemu/run needs

# What runs on this machine's own kernel needs no guest, and less to be installed.
here:
	@scripts/setup --try
	@$(CARGO) build $(FOR_HERE) --bin smapp --bin here --bin demo

try: here ## watch it on this machine's own kernel, as root, in namespaces: two minutes
	@if $(HERE) check; then $(HERE) run $(dir $(HERE))demo; else \
		echo "Going on in a guest (make demo), whose kernel is to be built first: half an hour on 2 CPUs."; \
		$(MAKE) --no-print-directory demo; fi

demo: guest ## watch a policy keep a download alive when its path dies
	@SMAPP_APPEND="$(CHOICE)" qemu/run --kernel $(KERNEL) $(BIN)/demo

shell: guest ## a prompt in the guest, inside a topology of two paths
	@qemu/run --kernel $(KERNEL) --shell

# A guest has one CPU: the other tests run meanwhile, and what it says is shown after them.
test: setup ## all tests: first what takes seconds, then those in the guest
	@$(MAKE) --no-print-directory test-host
	@$(MAKE) --no-print-directory here
	@if $(HERE) check; then $(MAKE) --no-print-directory test-here; \
	else echo "Not tested on this machine's own kernel: it lacks the above. The guest does not need it."; fi
	@echo "Next: the guest. The first time its kernel is fetched and built (half an hour on 2 CPUs);"
	@echo "then some 15 minutes for its tests, those of its runner, and the experiments in short."
	@$(MAKE) --no-print-directory guest
	@log=$$(mktemp); set -m; \
	$(MAKE) --no-print-directory test-guest >"$$log" 2>&1 & guest=$$!; set +m; \
	trap 'kill -- -$$guest 2>/dev/null || true; rm -f "$$log"' EXIT; \
	$(MAKE) --no-print-directory test-runner test-experiments; \
	tail --pid=$$guest -n +1 -f "$$log"; \
	wait $$guest

test-host: setup ## the tests that need no guest
	@$(CARGO) test -p smapp -p smapp-cli --all-features
	@$(CARGO) test -p smapp-tests -p smapp-measure --lib
	@$(CARGO) test -p smapp-lifecycle

# The stock interface has no tests but those of the network yet.
test-here: here ## the tests on this machine's own kernel, in namespaces, as root (ARGS=part-of-a-name)
	@$(CHOICE) $(RUN_HERE) $(CARGO) test $(FOR_HERE) --test guest -- $(or $(ARGS),network::)

test-runner: guest ## qemu/run fails where it must (KERNEL=debug: planted mistakes; debian-6.1 ..)
	@SMAPP_KERNEL=$(KERNEL) qemu/selftest

test-guest: guest ## the tests in the guest (ARGS=part-of-a-name, KERNEL=debug or debian-6.1 .., INTERFACE=stock)
	@SMAPP_KERNEL=$(KERNEL) SMAPP_APPEND="smapp.tests $(CHOICE) $(if $(filter stock,$(INTERFACE)),smapp.no-module)" \
		$(RUNNER) $(CARGO) test --release $(FOR_GUEST) --test guest -- $(ARGS)

test-kernels: guest ## the tests in the guest on Debian's kernels as they are (KERNELS="debian-6.1 ..", ARGS=part)
	@scripts/test-kernels $(KERNELS) $(if $(ARGS),-- $(ARGS))

kernels-page: ## write the tables of docs/kernels.md from the last whole runs of test-kernels
	@scripts/kernels-page

test-races: guest ## what happens at the same time, on 2 CPUs (RACE=seconds each, KERNEL=debug)
	@SMAPP_KERNEL=$(KERNEL) SMAPP_TIME=real SMAPP_APPEND=SMAPP_RACE_SECONDS=$(RACE) \
		SMAPP_TIMEOUT=$${SMAPP_TIMEOUT:-$$((1200 + 8 * $(RACE)))} $(RUNNER) \
		$(CARGO) test --release $(FOR_GUEST) --test race -- --nocapture $(ARGS)

test-debug: ## the tests in the guest and the races, on the debug kernel
	@SMAPP_TIMEOUT=10800 $(MAKE) --no-print-directory test-guest KERNEL=debug
	@SMAPP_TIMEOUT=10800 $(MAKE) --no-print-directory test-races KERNEL=debug

test-upstream: guest ## the kernel's own MPTCP tests, with the series and without (ARGS=suite)
	@scripts/upstream $(ARGS)

lint: guest ## formats, clippy for user space and kernel, shellcheck, checkpatch, dependencies
	@CARGO=$(CARGO) scripts/lint

WHOLE = $(if $(QUICK)$(ONLY),,yes)
experiments: guest $(GUEST)/hops.so ## the paper's evaluation, into report/ (ONLY=name,.. SEEDS=n QUICK=1)
	@$(if $(WHOLE),mkdir -p report; $(HOPS) >report/hops.txt)
	@$(BIN)/report $(if $(WHOLE),--hops report/hops.txt) \
		$(if $(QUICK),--quick --directory target/quick) \
		$(if $(ONLY),--only $(ONLY)) $(if $(SEEDS),--seeds $(SEEDS))

test-experiments: ## the experiments in short: who wins, and the same again for a seed
	@$(MAKE) --no-print-directory experiments QUICK=1

fuzz: setup ## fuzz the parsers and the policies (ARGS=SECONDS for each target)
	@CARGO=$(CARGO) fuzz/run $(ARGS)

fuzz-guest: guest ## a million mutated messages to the family (ARGS=MESSAGES SEED)
	@SMAPP_TIMEOUT=$${SMAPP_TIMEOUT:-14400} qemu/run --kernel $(KERNEL) $(BIN)/fuzz $(ARGS)

# The kernel's table of tokens grows with its memory.
scale: guest ## 10,000 connections of four subflows, and the death of their path (ARGS=CONNECTIONS)
	@SMAPP_TIMEOUT=$${SMAPP_TIMEOUT:-3600} qemu/run --kernel $(KERNEL) --qemu "-m 12G" $(BIN)/scale $(ARGS)

bench: guest ## measure what the module costs, and the delay of a second subflow
	@qemu/run --kernel $(KERNEL) $(BIN)/cost
	@for shift in 0 1; do \
		echo "1 instruction = $$((1 << shift)) ns"; \
		qemu/run --kernel $(KERNEL) --shift $$shift $(BIN)/latency; \
	done

# Counts in the guest by a plugin of qemu; needs the one of Debian's backports.
$(GUEST)/hops.so: qemu/hops.c
	@mkdir -p $(GUEST)
	@gcc -O2 -Wall -shared -fPIC -o $@ $<

HOPS = $(BIN)/hops $(GUEST)/hops.so "$$(scripts/kernel --print-dir gcc)/System.map" $(BIN)
hops: guest $(GUEST)/hops.so ## count the instructions of each event, and from a hook to a SYN
	@$(HOPS) $(ARGS)

clean: ## remove what was built here (the caches stay)
	rm -rf target

# Whatever -j says: the stages use all CPUs themselves.
.NOTPARALLEL:
.PHONY: help setup kernel kernel-debug module programs guest here try demo shell test \
	test-host test-here test-runner test-guest test-kernels kernels-page test-races test-debug \
	test-upstream test-experiments experiments lint fuzz fuzz-guest scale bench hops clean
