# make demo needs Go and nothing else; the tests need gcc too (race detector).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export GOWORK := off

# Every test runs under the race detector and in random order.
GOTEST := go test -race -shuffle=on
# Suites that need more than a host have targets of their own.
OTHER_SUITES := /tests/(attacks|aws|azure|gcp|kubernetes|ssh|pki)$$

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## the plugin, in bin/plugins
	@scripts/build.sh plain

.PHONY: host
host: ## the host binary that demo and tests use (built once when none is installed)
	@scripts/host.sh

.PHONY: demo
demo: ## the whole story on a real host, with the refusals
	@scripts/demo.sh

.PHONY: dev
dev: ## the same set-up, left running until Ctrl-C
	@scripts/dev.sh

.PHONY: check
check: ## formatting, vet, staticcheck, import arrows; seconds
	@scripts/check.sh

.PHONY: lint
lint: ## golangci-lint over all modules
	@scripts/lint.sh

.PHONY: test
test: export FUZZTIME := 2s
test: export ATTACKS_FLOOD := 2000
test: test-unit test-acceptance attacks fuzz test-ssh test-kubernetes test-aws test-azure test-gcp test-bench ## everything that proves it

.PHONY: test-unit
test-unit: ## tests of the plugin's own packages
	$(GOTEST) ./...

.PHONY: test-acceptance
test-acceptance: ## tests against a real host with the plugin as a process
	@scripts/build.sh plain race faults
	@scripts/host.sh >/dev/null
	cd tests && $(GOTEST) -timeout 20m $$(go list ./... | grep -vE '$(OTHER_SUITES)')

.PHONY: attacks
attacks: ## hostile people with real tokens on a real host; the table goes to dist/attacks.md
	@scripts/attacks.sh

.PHONY: fuzz
fuzz: ## every fuzz target for $$FUZZTIME (10s); what was found before runs with test-unit
	@scripts/fuzz.sh

.PHONY: faults
faults: ## every fault of docs/faults.md on real hosts, at most 20 minutes (FULL=1: the soak)
	@scripts/faults.sh

.PHONY: test-ssh
test-ssh: ## SSH and X.509 certificates on a real sshd and with openssl
	@scripts/test-ssh.sh

.PHONY: test-kubernetes
test-kubernetes: ## the Kubernetes provider against a real API server and etcd
	@scripts/test-kubernetes.sh

.PHONY: test-gcp
test-gcp: ## the Google Cloud provider, its calls judged by Google's descriptions
	@scripts/test-gcp.sh

.PHONY: test-aws
test-aws: ## the AWS provider against moto, and its policies before a judge
	@scripts/test-aws.sh

.PHONY: test-azure
test-azure: ## the Azure provider, every call held to Microsoft's own descriptions
	@scripts/test-azure.sh

.PHONY: test-bench
test-bench: ## that make bench works: some seconds of it, and no time is asserted
	@scripts/build.sh bench plain
	@for tool in host.sh cluster.sh engines.sh "test-aws.sh --tools"; do scripts/$$tool >/dev/null; done
	cd tests/bench && $(GOTEST) -tags bench ./...

.PHONY: bench
bench: ## measure it beside a floor, a probe and the host's engines (see scripts/bench.sh)
	@scripts/bench.sh

.PHONY: docs
docs: ## docs/api.md, from the OpenAPI document of the running plugin
	@scripts/docs.sh

.PHONY: clean
clean: ## remove what was built here (the cached host stays)
	rm -rf bin dist
