# `make help` says what there is. Needs GNU make and, for `deps`, Debian's apt.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help deps build test test-gpu demo bench bench-gpu gpu-bundle rouge format check-format lint asan tsan clean

BUILD := build/release

# Everything that build, test and demo need on Debian 12.
PACKAGES := g++ cmake ninja-build ccache pkg-config \
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev \
  libspdlog-dev nlohmann-json3-dev libyaml-cpp-dev libpcre2-dev libicu-dev libminizip-dev prometheus-cpp-dev \
  libcpp-httplib-dev libcli11-dev libgtest-dev libgmock-dev libbenchmark-dev
PYTHON_PACKAGES := python3 python3-venv
CLANG_PACKAGES := clang-format clang-tidy

# $(call install,packages): installs those that are missing, as root or through sudo, and says so.
define install
missing=; \
for package in $(1); do \
  dpkg-query -W -f '$${db:Status-Abbrev}' $$package 2>/dev/null | grep -q '^.i' || missing+=" $$package"; \
done; \
if [ -n "$$missing" ]; then \
  if ! command -v apt-get >/dev/null; then echo "deps: no apt-get here; needed are:$$missing" >&2; exit 1; fi; \
  root=; \
  if [ "$$(id -u)" != 0 ]; then \
    if ! command -v sudo >/dev/null; then echo "deps: as root, run: apt-get install$$missing" >&2; exit 1; fi; \
    root=sudo; \
  fi; \
  get() { $$root env DEBIAN_FRONTEND=noninteractive apt-get -q "$$@"; }; \
  echo "deps: installing$$missing"; \
  if ! apt-get install -s --no-install-recommends $$missing >/dev/null 2>&1; then \
    echo "deps: fetching the package lists first"; get update; \
  fi; \
  if ! get install -y --no-install-recommends $$missing; then \
    echo "deps: once more, with fresh package lists"; get update && get install -y --no-install-recommends $$missing; \
  fi; \
else \
  echo "deps: everything is there"; \
fi
endef

help: ## show this
	@echo "elserve: a server for encoder-decoder models. On a fresh Debian 12: make demo, make test."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install the Debian packages that are missing (as root, or through sudo)
	@set -e; $(call install,$(PACKAGES))

build: deps ## build the release preset: build/release/server/elserve
	@echo "build: compiling into $(BUILD)"
	@cmake --preset release
	@cmake --build --preset release

test: build ## build, then run every test
	@ctest --preset release -j "$$(nproc)"

demo: build ## build, start the server, summarize texts and ask questions about them, stop it
	@demo/run.sh $(BUILD)/server/elserve

# $(call python,folder,requirements): an environment of its own with pinned packages.
define python
$(call install,$(PYTHON_PACKAGES)); \
if ! [ build/$(1)/requirements -nt $(2) ]; then \
  echo "python: $(2) into build/$(1)"; \
  python3 -m venv build/$(1) && build/$(1)/bin/pip install -q -r $(2) && touch build/$(1)/requirements; \
fi
endef

bench: build ## measure the served system against its peers (Python in build/bench-venv; over an hour)
	@set -e; $(call python,bench-venv,tests/bench/requirements.txt); \
	if [ -n "$(OPENVINO)" ]; then $(call python,openvino-venv,tests/bench/openvino_requirements.txt); fi; \
	build/bench-venv/bin/python tests/bench/run.py $(BENCH) $(if $(OPENVINO),--openvino build/openvino-venv/bin/python)

test-gpu: build ## the cuda backend on a GPU: every operation, golden parity, batch properties; fails where there is none
	@cmake --build --preset release --target gpu_tests && tests/bench/gpu.sh test

bench-gpu: build ## measure the cuda backend: operations, steps, and the engine beside transformers (Python with torch)
	@tests/bench/gpu.sh operations && tests/bench/gpu.sh figures $(BENCH)

gpu-bundle: deps ## what a bare GPU machine needs for the two above: build/gpu/gpu-bundle, run by its gpu.sh
	@cmake -G Ninja -B build/gpu -DCMAKE_BUILD_TYPE=Release -DELSERVE_CUDA=on -DELSERVE_CPU=OFF -DELSERVE_STATIC=ON \
	  -DELSERVE_TEST_DATA=. && cmake --build build/gpu --target gpu_bundle && du -sh build/gpu/gpu-bundle

rouge: build ## compare answers to held-out texts with transformers', and int8's with float32's (Python in build/rouge-venv)
	@set -e; $(call python,rouge-venv,tests/bench/rouge_requirements.txt); \
	build/rouge-venv/bin/python tests/bench/rouge.py --elserve $(BUILD)/server/elserve $(ROUGE); \
	build/rouge-venv/bin/python tests/bench/int8.py --elserve $(BUILD)/server/elserve --ctranslate2 $(ROUGE)

format: ## rewrite the sources in the project's format
	@set -e; $(call install,$(CLANG_PACKAGES))
	@git ls-files '*.cc' '*.h' '*.cu' '*.cuh' | xargs clang-format -i

check-format: ## fail where `make format` would change something
	@set -e; $(call install,$(CLANG_PACKAGES))
	@git ls-files '*.cc' '*.h' '*.cu' '*.cuh' | xargs clang-format --dry-run -Werror

lint: build ## run clang-tidy over engine/ and server/; any finding fails
	@set -e; $(call install,$(CLANG_PACKAGES))
	@# Without the files of a backend that is not part of this build.
	@for file in $$(git ls-files 'engine/*.cc' 'server/*.cc'); do \
	  if grep -q "/$$file\"" $(BUILD)/compile_commands.json; then echo $$file; fi; \
	done | xargs -P "$$(nproc)" -n 1 clang-tidy --quiet -p $(BUILD)

asan: deps ## the tests under the address and undefined-behaviour sanitizers
	@cmake --preset asan && cmake --build --preset asan && ctest --preset asan -j "$$(nproc)"

tsan: deps ## the tests under the thread sanitizer
	@cmake --preset tsan && cmake --build --preset tsan && ctest --preset tsan -j "$$(nproc)"

clean: ## remove everything that was built
	@rm -rf build
