#!/usr/bin/env bash
# From a fresh clone to an exported checkpoint: installs what is missing, builds the three programs, starts a
# coordinator and two workers, exports a real Megatron-Core checkpoint through them, and shows what came out.
#
#   deploy/quickstart.sh [OUTPUT]      OUTPUT is ./quickstart-output unless given
#
# An existing build/ keeps its settings; a new one becomes a release build without the tests. CHECKPOINT in the
# environment exports another checkpoint than the small one that comes with the tests.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case "${1:-}" in
  -h | --help)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
output=$(realpath -m "${1:-quickstart-output}")
checkpoint=$(realpath -m "${CHECKPOINT:-$repository/tests/data/checkpoints/llama3_tp2_pp2_torch_dist}")
build=$repository/build
bin=$build/bin

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[[ -t 1 ]] || say() { printf '\n== %s\n' "$*"; }
fail() {
  echo "quickstart: $*" >&2
  exit 1
}

overwrite=()
if [[ -e $output ]]; then
  [[ -f $output/manifest.json ]] ||
    fail "$output exists and is not an export of Slipway: move it away or name another directory"
  overwrite=(--overwrite)
fi

say "1. What the build needs"
"$repository/deploy/install-dependencies.sh" build

say "2. Building slipway, slipway-server and slipway-worker"
if [[ ! -f $build/CMakeCache.txt ]]; then
  cmake -S "$repository" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DSLIPWAY_TESTS=OFF -DSLIPWAY_PRECOMPILED_HEADERS=ON >"$build.log" 2>&1 ||
    { cat "$build.log" >&2; fail "the configuration failed"; }
  rm -f "$build.log"
fi
cmake --build "$build" --target slipway slipway-server slipway-worker

state=$(mktemp -d "${TMPDIR:-/tmp}/slipway-quickstart.XXXXXX")
processes=()
stop() {
  local process
  for process in "${processes[@]}"; do kill -TERM "$process" 2>/dev/null || true; done
  for process in "${processes[@]}"; do wait "$process" 2>/dev/null || true; done
  rm -rf "$state"
}
trap stop EXIT
trap 'exit 130' INT TERM

say "3. Starting a coordinator and two workers"
mkdir "$state/data" "$state/artifacts"
server=unix:$state/slipway.sock
"$bin/slipway-server" --listen "$server" --data "$state/data" --artifacts "$state/artifacts" >"$state/server.log" 2>&1 &
processes+=($!)
for worker in worker-1 worker-2; do
  "$bin/slipway-worker" --server "$server" --name "$worker" >"$state/$worker.log" 2>&1 &
  processes+=($!)
done
for ((try = 0; ; ++try)); do
  "$bin/slipway" list --server "$server" >/dev/null 2>&1 && break
  if ((try == 100)) || ! kill -0 "${processes[0]}" 2>/dev/null; then
    cat "$state/server.log" >&2
    fail "the coordinator did not start"
  fi
  sleep 0.1
done
echo "coordinator ${processes[0]}, workers ${processes[1]} and ${processes[2]}"

say "4. slipway export ${checkpoint#"$repository"/} ${output#"$PWD"/}"
"$bin/slipway" export "$checkpoint" "$output" --server "$server" "${overwrite[@]}" ||
  { tail -n 5 "$state"/*.log >&2; fail "the export failed"; }

say "5. What came out: ${output#"$PWD"/}"
(cd "$output" && find . -type f -printf '%12s  %P\n' | sort -k2)
echo
echo "config.json:"
head -n 12 "$output/config.json"
echo "  ..."

say "6. slipway verify ${output#"$PWD"/}"
"$bin/slipway" verify "$output"

say "Done. Load it with transformers, vLLM or SGLang from $output"
