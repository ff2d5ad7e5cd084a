#!/bin/bash
# Tests and measures the cuda backend on a machine with a GPU, with the programs beside this script: `make gpu-bundle` puts them
# there, build/release has them too. Run it from anywhere; the checkout's top folder is found from where the script is, or
# given by ELSERVE_ROOT.
#
#   gpu.sh test [FILTER]     every operation against the reference, golden parity, batch properties (GoogleTest's filter)
#   gpu.sh operations        TFLOP/s and GB/s of each operation, and where a step's time goes
#   gpu.sh model             makes the random BART-large of the figures below (torch and transformers; 2 GB)
#   gpu.sh figures [...]     documents and tokens a second beside transformers (arguments: gpu_figures.py --help)
#   gpu.sh sanitize [FILTER] compute-sanitizer's memcheck and racecheck over the operations' tests
#   gpu.sh all               test, operations, model, figures
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
find_root() {
  local folder=$here
  while [ "$folder" != / ] && ! [ -f "$folder/tests/golden/README.md" ]; do folder=$(dirname "$folder"); done
  echo "$folder"
}
root=${ELSERVE_ROOT:-$(find_root)}
[ -f "$root/tests/golden/README.md" ] || { echo "gpu.sh: no checkout above $here; set ELSERVE_ROOT" >&2; exit 1; }
cd "$root" || exit 1
model=${ELSERVE_BENCH_MODEL:-/tmp/elserve-bart-large}
python=${PYTHON:-python3}
# Where the toolkit's libraries are not on the loader's path.
for folder in "${CUDA_HOME:-/usr/local/cuda}/lib64" "${CUDA_HOME:-/usr/local/cuda}/lib"; do
  [ -e "$folder/libcublasLt.so.13" ] && export LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" && break
done

# The program of this name, beside the script or in a build folder.
program() {
  local found
  for found in "$here/$1" $(find "$root/${ELSERVE_BUILD:-build/release}" -name "$1" -type f -perm -u+x 2>/dev/null); do
    [ -x "$found" ] && { echo "$found"; return; }
  done
  echo "gpu.sh: $1 is not there; make build or make gpu-bundle makes it" >&2
  return 1
}

run_tests() {
  local path
  path=$(program gpu_tests) || return 1
  if ELSERVE_NEED_GPU=1 "$path" --gtest_brief=1 ${1:+--gtest_filter="$1"}; then
    echo "gpu.sh: all tests passed"
  else
    echo "gpu.sh: FAILED"
    return 1
  fi
}

sanitize() {
  local tool path failed=0
  path=$(program gpu_tests) || return 1
  for tool in memcheck racecheck; do
    echo "== $tool"
    ELSERVE_NEED_GPU=1 compute-sanitizer --tool "$tool" --error-exitcode 1 "$path" --gtest_brief=1 \
      --gtest_filter="${1:-Backend*}" || failed=1
  done
  return $failed
}

make_model() {
  [ -f "$model/config.json" ] || "$python" tests/bench/make_model.py large "$model" models/debian-synopsis
}

figures() {
  local bench
  bench=$(program engine_bench) && make_model && "$python" tests/bench/gpu_figures.py --bench "$bench" --model "$model" "$@"
}

command=${1:-all}
shift || true
case $command in
  test) run_tests "$@" ;;
  operations) path=$(program cuda_bench) && "$path" "$@" ;;
  model) make_model ;;
  figures) figures "$@" ;;
  sanitize) sanitize "$@" ;;
  all)
    result=0
    run_tests || result=1
    path=$(program cuda_bench) && "$path" || result=1
    figures "$@" || result=1
    exit $result
    ;;
  *)
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
