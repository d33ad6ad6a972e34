#!/bin/sh
# Builds the native tests with and without sanitizers and runs them. CXX chooses the compiler.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags="-std=c++17 -ffp-contract=off -Wall -Wextra -Werror"
kernels="$root/cpu/*.cc $root/cpu/isa/*.cc $root/reference/*.cc"
: "${CXX:=g++}"
build() { # name, flags
  # shellcheck disable=SC2086
  $CXX $flags $2 -o "$out/$1" "$root"/tests/test_*.cc $kernels
}
build test_kernels "-O2 -static"
build test_kernels_sanitized "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
"$out/test_kernels"
"$out/test_kernels_sanitized" --quick
QCOMPILER_CPU_PATH=nonsense "$out/test_kernels" --expect-path-error
