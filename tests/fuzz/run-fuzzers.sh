#!/usr/bin/env bash
# Runs every fuzz target for a bounded time, from its corpus in tests/fuzz/corpus/TARGET.
#
#   tests/fuzz/run-fuzzers.sh BUILD [SECONDS]      BUILD: configured with -DSLIPWAY_FUZZERS=ON; 20 s for each target
#
# New inputs stay in BUILD/corpus; what crashes a target lies in BUILD/crashes and is worth a unit test.
set -uo pipefail

build=${1:?run-fuzzers.sh BUILD [SECONDS]}
seconds=${2:-20}
seeds=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/corpus
passed=0
failed=0
mkdir -p "$build/crashes"
# Targets do little but parse: leave a core for the next one.
jobs=$(nproc)
run_one() {
  local target=$1 name directories
  name=$(basename "$target")
  mkdir -p "$build/corpus/$name"
  directories=("$build/corpus/$name")
  [[ -d $seeds/$name ]] && directories+=("$seeds/$name")
  "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=10 -print_final_stats=1 \
    -artifact_prefix="$build/crashes/$name-" "${directories[@]}" >"$build/$name.log" 2>&1
}
shopt -s nullglob
targets=("$build"/bin/*_fuzzer)
for ((first = 0; first < ${#targets[@]}; first += jobs)); do
  batch=("${targets[@]:first:jobs}")
  processes=()
  for target in "${batch[@]}"; do
    run_one "$target" &
    processes+=($!)
  done
  for i in "${!batch[@]}"; do
    name=$(basename "${batch[i]}")
    if wait "${processes[i]}"; then
      passed=$((passed + 1))
      printf '%-32s ok      %s runs\n' "$name" "$(sed -n 's/stat::number_of_executed_units: *//p' "$build/$name.log")"
    else
      failed=$((failed + 1))
      printf '%-32s FAILED\n' "$name"
      tail -n 40 "$build/$name.log"
    fi
  done
done
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
