#!/bin/sh
# Builds the native tests, with and without sanitizers, and runs them. CXX chooses the compiler.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
begin=$(date +%s)
flags="-std=c++17 -ffp-contract=off -Wall -Wextra -Werror"
kernels="$root/cpu/*.cc $root/cpu/isa/*.cc $root/reference/*.cc"
tests="$root/tests/test_*.cc"
# What threads share; the others would only be slow under the thread sanitizer.
shared="$root/tests/threads_main.cc"
for name in threads packed_cache samples; do shared="$shared $root/tests/test_$name.cc"; done
: "${CXX:=g++}"
# The CUDA kernels, thread by thread on the processor.
cuda="$root/cuda/emulator/*.cc -x c++ $root/tests/cuda/*.cc $root/tests/test_samples.cc $root/reference/*.cc"
for name in checks error quantizer weights; do cuda="$cuda $root/cpu/$name.cc"; done
for name in linear attention memory; do cuda="$cuda $root/cuda/$name.cu"; done
build_cuda() { # name, flags
  # shellcheck disable=SC2086
  $CXX $flags -Wno-unknown-pragmas $2 -o "$out/$1" $cuda
}
build() { # name, flags, tests
  # shellcheck disable=SC2086
  $CXX $flags $2 -o "$out/$1" $3 $kernels
}
build test_kernels "-O2 -static" "$tests" &
plain=$!
build test_kernels_sanitized "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" "$tests" &
addresses=$!
build test_threads_sanitized "-O1 -g -fsanitize=thread" "$shared" &
threads=$!
build_cuda test_cuda "-O2" &
cuda_plain=$!
build_cuda test_cuda_sanitized "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all" &
cuda_addresses=$!
for job in $plain $addresses $threads $cuda_plain $cuda_addresses; do wait "$job"; done
"$out/test_kernels"
"$out/test_kernels_sanitized" --quick
"$out/test_threads_sanitized"
"$out/test_cuda"
"$out/test_cuda_sanitized" --quick
QCOMPILER_CPU_PATH=nonsense "$out/test_kernels" --expect-path-error
echo "native tests: $(($(date +%s) - begin)) s"
