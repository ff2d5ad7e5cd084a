#!/bin/bash
# Starts a server on the embedded model, summarizes the texts of demo/texts, asks questions about them, stops the server.
#
#   demo/run.sh [ELSERVE]      the binary; build/release/server/elserve where it is not given
#
# The texts are descriptions of Debian packages as Debian has them, from those that the model did not see in training.
# TEXT.answers holds, a line each, parts of TEXT.txt for which the model writes a question.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
elserve=$(realpath "${1:-$here/../build/release/server/elserve}")
work=$(mktemp -d)
server=

cleanup() {
  if [[ -n $server ]]; then kill -KILL "$server" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s\n' "$*"; }
fail() {
  echo "demo: $*; the server's log:" >&2
  cat "$work/log" >&2
  exit 1
}

say "Starting elserve on configs/demo.yaml, on free ports"
"$elserve" serve --config "$here/../configs/demo.yaml" --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 \
  --port-file "$work/ports" >"$work/log" 2>&1 &
server=$!
# The file appears once the model is loaded and the port is open.
for ((i = 0; i < 1200; ++i)); do
  [[ -s $work/ports ]] && break
  kill -0 "$server" 2>/dev/null || { wait "$server" || true; server=; fail "the server ended before it served"; }
  sleep 0.1
done
[[ -s $work/ports ]] || fail "the server did not serve within two minutes"
read -r port <"$work/ports"
address=127.0.0.1:$port
echo "process $server serves on $address"

say "What it serves: elserve models"
"$elserve" models --server "$address" --timeout 30 || fail "the server does not answer"

cd "$here/texts"
say "Summaries, all texts at once: elserve summarize --timings"
"$elserve" summarize --server "$address" --timings --timeout 120 -- *.txt || fail "a summary failed"

say "Questions for parts of the texts: elserve questions --answer ... --timings"
for text in *.txt; do
  answers=()
  while IFS= read -r answer; do answers+=(--answer "$answer"); done <"${text%.txt}.answers"
  echo "$text"
  "$elserve" questions --server "$address" --timings --timeout 120 "${answers[@]}" -- "$text" |
    sed 's/^/  /' || fail "a question failed"
done

say "Stopping the server: SIGTERM"
kill -TERM "$server"
wait "$server" || { server=; fail "the server did not end well"; }
server=
echo "it finished what it had and exited with 0"
