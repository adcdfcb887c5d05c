# The commands of the README. The work is done by tools/setup, CMake (see CMakePresets.json) and
# tools/demo; this file only puts them in order.
PRESET ?= release
JOBS ?= $(shell nproc)
TEST_JOBS ?= 2
BUILD = build/$(PRESET)

.PHONY: help setup build demo test clean

help:
	@echo "make demo    set up, build, then train, sample and export a small model"
	@echo "make test    set up, build, then run every test"
	@echo "make build   set up, then build $(BUILD)/bin/headway"
	@echo "make setup   only fetch what the build needs"
	@echo "make clean   remove build/ (keeps .deps/ and runs/)"
	@echo "Options: PRESET=release|debug|asan|cuda JOBS=N TEST_JOBS=N"

setup:
	@tools/setup

build: setup
	@cmake --preset $(PRESET)
	@cmake --build $(BUILD) --parallel $(JOBS)

demo: build
	@tools/demo $(BUILD)/bin/headway

test: build
	@ctest --test-dir $(BUILD) --output-on-failure --parallel $(TEST_JOBS)

clean:
	@rm -rf build
