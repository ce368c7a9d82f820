#!/usr/bin/env bash
# Static checks of the tree.
#
#   tests/check.sh [--format] [--shell] [--tidy=all|changed|N] BUILD
#
#   --format         clang-format on every tracked C++ file
#   --shell          shellcheck on our scripts
#   --tidy=all       clang-tidy on every source file of ours in BUILD/compile_commands.json
#   --tidy=changed   on those that differ from the last commit
#   --tidy=N         on every Nth of them, starting at a place that moves with the commit
#
# BUILD is a configured build directory in which the generated headers exist (target slipway_proto).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=$(nproc)
format=no
shell=no
tidy=
build=
for argument in "$@"; do
  case "$argument" in
    --format) format=yes ;;
    --shell) shell=yes ;;
    --tidy=*) tidy=${argument#--tidy=} ;;
    -*)
      sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
      exit 2
      ;;
    *) build=$argument ;;
  esac
done

sources() { git ls-files -- '*.cc' '*.h' '*.cu' '*.cuh'; }

if [[ $format == yes ]]; then
  sources | xargs -r clang-format --dry-run -Werror
  echo "format: $(sources | wc -l) files"
fi

if [[ $shell == yes ]]; then
  mapfile -t scripts < <(git ls-files -- '*.sh' '.ci/run')
  shellcheck "${scripts[@]}"
  echo "shellcheck: ${#scripts[@]} scripts"
fi

[[ -n $tidy ]] || exit 0
[[ -f $build/compile_commands.json ]] || { echo "check.sh: no compile_commands.json in '$build'" >&2; exit 2; }
# Every .cc of ours that this build compiles; and a copy of the commands without GCC's precompiled headers, which clang
# cannot read and nothing needs.
database=$build/tidy
mapfile -t files < <(python3 - "$build/compile_commands.json" "$PWD" "$database" <<'PYTHON'
import json, os, re, sys
root = sys.argv[2]
with open(sys.argv[1]) as commands:
    entries = json.load(commands)
for entry in entries:
    entry["command"] = re.sub(r"-Winvalid-pch|-include \S*/cmake_pch\.hxx", "", entry["command"])
os.makedirs(sys.argv[3], exist_ok=True)
with open(os.path.join(sys.argv[3], "compile_commands.json"), "w") as stripped:
    json.dump(entries, stripped)
paths = {os.path.relpath(entry["file"], root) for entry in entries}
print("\n".join(sorted(path for path in paths
                       if path.endswith(".cc") and path.split("/")[0] in ("common", "server", "worker", "client", "tests"))))
PYTHON
)
case "$tidy" in
  all) ;;
  changed) mapfile -t files < <(comm -12 <(printf '%s\n' "${files[@]}") <(git diff --name-only HEAD -- '*.cc' | sort)) ;;
  *)
    start=$((16#$(git rev-parse --short=6 HEAD) % tidy))
    mapfile -t files < <(printf '%s\n' "${files[@]}" | awk -v every="$tidy" -v start="$start" 'NR % every == start')
    ;;
esac
[[ ${#files[@]} -gt 0 ]] || { echo "clang-tidy: nothing to check"; exit 0; }
printf '%s\n' "${files[@]}" |
  xargs -P "$jobs" -n 2 clang-tidy --quiet -p "$database" --extra-arg=-Wno-unknown-warning-option
echo "clang-tidy: ${#files[@]} files"
