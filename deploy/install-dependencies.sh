#!/usr/bin/env bash
# Installs what Slipway is built from, on Debian 12, from Debian's own packages. Idempotent: installs only what is
# missing, and says what. Runs apt-get with sudo where it does not run as root.
#
#   deploy/install-dependencies.sh [--list] [build|test ...]      without a group: build
#
#   build    compilers, build tools and libraries of the three programs
#   test     build, and what the tests and checks need besides
#   --list   print the packages of the groups and install nothing
#
# The CUDA toolkit is not installed: it is used where it is found.
set -euo pipefail

build_packages=(
  g++ cmake ninja-build pkg-config mold ccache
  protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libgrpc++-dev libabsl-dev
  libboost-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev libyaml-cpp-dev
  prometheus-cpp-dev libsqlitecpp-dev libsqlite3-dev libssl-dev libxxhash-dev libhwy-dev
)
test_packages=(
  libgtest-dev libgmock-dev libbenchmark-dev
  clang clang-format clang-tidy libclang-rt-14-dev
  python3 shellcheck curl procps util-linux
)

list_only=no
packages=()
for argument in "$@"; do
  case "$argument" in
    build) packages+=("${build_packages[@]}") ;;
    test) packages+=("${build_packages[@]}" "${test_packages[@]}") ;;
    --list) list_only=yes ;;
    -h | --help)
      sed -n '2,11s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *)
      echo "install-dependencies.sh: unknown argument '$argument' (see --help)" >&2
      exit 2
      ;;
  esac
done
if [[ ${#packages[@]} -eq 0 ]]; then
  packages=("${build_packages[@]}")
fi
if [[ $list_only == yes ]]; then
  printf '%s\n' "${packages[@]}" | sort -u
  exit 0
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "install-dependencies.sh: this script knows Debian's apt only; install by hand: ${packages[*]}" >&2
  exit 1
fi

# What of the given packages is not installed.
missing_of() {
  local installed
  installed=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
    sed -n 's/^installed //p' || true)
  comm -23 <(printf '%s\n' "$@" | sort -u) <(printf '%s\n' "$installed" | sort -u)
}

mapfile -t missing < <(missing_of "${packages[@]}")
if [[ ${#missing[@]} -eq 0 ]]; then
  echo "Everything that is needed is installed."
  exit 0
fi

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "install-dependencies.sh: not root and no sudo here; as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing from Debian: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}"

mapfile -t missing < <(missing_of "${packages[@]}")
if [[ ${#missing[@]} -ne 0 ]]; then
  echo "install-dependencies.sh: still missing: ${missing[*]}" >&2
  exit 1
fi
echo "Installed."
