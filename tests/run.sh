#!/usr/bin/env bash
# Builds Slipway and runs every test and check; installs what is missing first (Debian 12).
#
#   tests/run.sh           everything
#   tests/run.sh --fast    for developers: build, unit tests and the quick end-to-end tests, format of the sources
#
# Build directories: build/ (RelWithDebInfo), build/asan, build/tsan, build/fuzz; logs in build/logs. Settings from the
# environment: SLIPWAY_CRASH_ROUNDS (50), SLIPWAY_FUZZ_SECONDS (20, for each target), SLIPWAY_TIDY (8: clang-tidy on
# every 8th source file, others with each commit; 'all': on all of them), SLIPWAY_TIME_LIMIT (3600: after so many
# seconds no further sanitizer, fuzzer or clang-tidy stage begins). The programs in build/ have the crash tests' kill
# points (SLIPWAY_TEST_HOOKS): they are not for use.
#
# Prints a table of stages with their times and, last, "N passed, N failed, N skipped".
# shellcheck disable=SC2317  # the functions are called through stage
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
fast=no
case "${1:-}" in
  "") ;;
  --fast) fast=yes ;;
  *)
    sed -n '2,14s/^# \{0,1\}//p' "$0"
    [[ $1 == -h || $1 == --help ]] && exit 0 || exit 2
    ;;
esac

build=$PWD/build
logs=$build/logs
mkdir -p "$logs"
jobs=$(nproc)
table=()
passed=0
failed=0
skipped=0

# Adds the counts that a log states in its last lines: ctest's, or "N passed, N failed[, N skipped]".
count() {
  local counts
  counts=$(awk '
    /tests failed out of/ { failed += $4; for (i = 1; i < NF; ++i) if ($i == "of") passed += $(i + 1) - $4 }
    /^[0-9]+ passed, [0-9]+ failed/ { passed += $1; failed += $3; if ($6 ~ /^skipped/) skipped += $5 }
    END { print passed + 0, failed + 0, skipped + 0 }' "$1")
  read -r stage_passed stage_failed stage_skipped <<<"$counts"
}

# stage NAME COMMAND...: runs it into a log, shows the end of the log where it fails, goes on either way.
stage() {
  local name=$1 log start status seconds
  shift
  log=$logs/${name// /-}.log
  printf -- '--- %s\n' "$name"
  start=$SECONDS
  "$@" >"$log" 2>&1
  status=$?
  seconds=$((SECONDS - start))
  count "$log"
  if ((status != 0)); then
    tail -n 60 "$log"
    ((stage_failed > 0)) || stage_failed=1
  elif ((stage_passed + stage_skipped == 0)); then
    stage_passed=1
  fi
  passed=$((passed + stage_passed))
  failed=$((failed + stage_failed))
  skipped=$((skipped + stage_skipped))
  table+=("$(printf '%-24s %-7s %5d s   %d passed, %d failed, %d skipped' "$name" \
    "$([[ $status -eq 0 ]] && echo ok || echo FAILED)" "$seconds" "$stage_passed" "$stage_failed" "$stage_skipped")")
  printf '    %s, %d s\n' "$([[ $status -eq 0 ]] && echo ok || echo FAILED)" "$seconds"
  return "$status"
}

skip() {
  table+=("$(printf '%-24s %-7s           %s' "$1" skipped "$2")")
  printf -- '--- %s: skipped: %s\n' "$1" "$2"
}

# Whether there is time for a stage; says so where there is not.
begins() {
  ((SECONDS < ${SLIPWAY_TIME_LIMIT:-3600})) && return
  skip "$1" "$SECONDS s are spent, the limit is ${SLIPWAY_TIME_LIMIT:-3600} s"
  return 1
}

finish() {
  printf '\n%-24s %-7s %7s   %s\n' stage result time counts
  printf '%s\n' "${table[@]}"
  printf 'total %d s, logs in %s\n\n' "$SECONDS" "${logs#"$PWD"/}"
  echo "$passed passed, $failed failed, $skipped skipped"
  ((failed == 0)) || exit 1
  exit 0
}

# configure DIRECTORY OPTIONS...
configure() {
  local directory=$1
  shift
  cmake -S . -B "$directory" -G Ninja -DSLIPWAY_PRECOMPILED_HEADERS=ON "$@"
}

compile() { cmake --build "$1" --parallel "$jobs" "${@:2}"; }

unit_tests() { ctest --test-dir "$1" --parallel "$jobs" --output-on-failure --no-tests=error "${@:2}"; }

main_build() {
  configure "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSLIPWAY_TESTS=ON -DSLIPWAY_BENCHMARKS=ON \
    -DSLIPWAY_TEST_HOOKS="$([[ $fast == yes ]] && echo OFF || echo ON)" && compile "$build"
}

# sanitizer_build DIRECTORY SANITIZER TARGET...: unoptimized, which compiles in half the time
sanitizer_build() {
  configure "$1" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O0 -g1" -DSLIPWAY_SANITIZE="$2" -DSLIPWAY_CUDA=OFF &&
    compile "$1" --target "${@:3}"
}

# Only the tests that were built: the rest are placeholders that ctest would call failed.
address_tests() { unit_tests "$build/asan" --exclude-regex _NOT_BUILT; }

# What goes through gRPC: Debian's library is not instrumented, so that ThreadSanitizer takes whatever it hands from
# thread to thread for a race.
through_grpc="AgentTest|ArtifactServiceTest|EphemeralTest|ImpatientEphemeralTest|ExportServiceTest|ServerTest"
through_grpc="$through_grpc|StandardServicesTest|WatchTest"

# Without those, and without one that has a single thread and a hundred thousand tensors, which takes minutes here.
thread_tests() {
  TSAN_OPTIONS="suppressions=$PWD/tests/sanitizers/thread.txt ignore_noninstrumented_modules=1 history_size=4" \
    setarch "$(uname -m)" -R ctest --test-dir "$build/tsan" --parallel "$jobs" --output-on-failure --no-tests=error \
    --exclude-regex "_NOT_BUILT|^($through_grpc)\.|QualityReport.ThePageOfAHundredThousandTensorsIsSmall"
}

fuzz_build() {
  configure "$build/fuzz" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" -DCMAKE_CXX_COMPILER=clang++ \
    -DSLIPWAY_FUZZERS=ON -DSLIPWAY_CUDA=OFF && compile "$build/fuzz" --target fuzzers
}

export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export PYTHONDONTWRITEBYTECODE=1
# So that another clone finds in the compiler cache what this one compiled.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros

stage "dependencies" deploy/install-dependencies.sh test || finish
stage "format" tests/check.sh --format
stage "shellcheck" tests/check.sh --shell
stage "build" main_build || finish
stage "unit tests" unit_tests "$build"
if [[ $fast == yes ]]; then
  stage "end-to-end" tests/e2e/run.py --fast
  finish
fi
stage "end-to-end" tests/e2e/run.py
if begins "address sanitizer" && stage "address build" sanitizer_build "$build/asan" address common_tests \
  engine_checkpoint_tests engine_plan_tests engine_quantize_tests engine_run_tests worker_tests server_tests; then
  stage "address unit tests" address_tests
fi
if begins "fuzzers" && stage "fuzz build" fuzz_build; then
  stage "fuzzers" tests/fuzz/run-fuzzers.sh "$build/fuzz" "${SLIPWAY_FUZZ_SECONDS:-20}"
fi
begins "clang-tidy" && stage "clang-tidy" tests/check.sh --tidy="${SLIPWAY_TIDY:-8}" "$build"
if begins "thread sanitizer" && stage "thread build" sanitizer_build "$build/tsan" thread engine_run_tests worker_tests \
  server_tests; then
  stage "thread unit tests" thread_tests
  skip "thread: through gRPC" "Debian's gRPC is not instrumented, what it does is taken for races: ${through_grpc//|/, }"
fi
if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L >/dev/null 2>&1; then
  skip "gpu" "no GPU on this machine"
fi
finish
