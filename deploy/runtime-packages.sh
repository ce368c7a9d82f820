#!/usr/bin/env bash
# Prints the Debian packages of the shared libraries that programs load, one a line, without what every image has.
#
#   deploy/runtime-packages.sh PROGRAM...
set -euo pipefail

if [[ $# -eq 0 ]]; then
  sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
libraries=$(ldd "$@")
if grep 'not found' <<<"$libraries" >&2; then
  exit 1
fi
# dpkg knows a library below /usr/lib by that name, or by the name that it had below /lib.
awk '$3 ~ /^\// { print $3 }' <<<"$libraries" | sort -u | while read -r library; do
  real=$(realpath "$library")
  dpkg-query --search "$real" 2>/dev/null || dpkg-query --search "${real#/usr}"
done | sed 's/:.*//' | sort -u | grep -v -x -e libc6
