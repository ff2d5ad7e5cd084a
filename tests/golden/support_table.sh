#!/bin/bash
# The README's table of families: what is read and computed, with the number of golden cases behind each cell.
#
#   tests/golden/support_table.sh BUILD            prints it
#   tests/golden/support_table.sh BUILD --check    fails where README.md has another
#   tests/golden/support_table.sh BUILD --write    puts it into README.md
#
# The families are those of engine/model/families/family.cc. The cases are those that the tests themselves list, with the filters
# that ctest runs them with; the formats are read from the files of the checkpoints.
set -euo pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/../.."

# "PLACE PRECISION FORM FILE CASES" of each golden test that ctest knows. PLACE: cpu, grpc, cuda (emulated) or isa (emulated).
listed() {
  ctest --test-dir "$build" -N -V -R '^(golden|e2e|emulated|engine_backend_cuda_emulation)_golden_test' |
    sed -n 's/^[0-9]*: Test command: //p' | while IFS= read -r command; do
      case $command in
        */golden_golden_test*) place=cpu ;;
        */e2e_golden_test*) place=grpc ;;
        */emulated_golden_test*) place=isa ;;
        *) place=cuda ;;
      esac
      # A line is "  Test/bart_odd_cpu_el  # GetParam() = bart-odd, 252 cases"; through gRPC, which gets all of a file,
      # "  Test/bart_odd_el  # GetParam() = bart-odd-el".
      eval "$command --gtest_list_tests" | awk -v place=$place '
        /^[^ ]/ { precision = /BFloat16/ ? "bfloat16" : "float32"; text = /Text|Question/ }
        /GetParam/ && !text && $1 !~ /^Scores/ {
          file = $5; sub(",", "", file); name = $1; sub(".*/", "", name)
          if (name ~ /_reference_/ || (place == "cpu" && name ~ /_cuda_/)) next  # the oracle; a card
          form = name ~ /_cross_/ ? "mixed" : name ~ /_el$/ ? "el" : "kv"
          sub("-(el|kv)$", "", file)
          print place, precision, form, file, $6
        }'
    done
}

# "FILE|FAMILY|TOKENIZER FILES|WEIGHT FILES|CASES" of each file of cases, which has one a line.
described() {
  local cases file checkpoint tokenizer family weights types
  for cases in tests/golden/cases/*.json; do
    file=$(basename "$cases" .json)
    checkpoint=$(sed -n '1s/.*"checkpoint":"\([^"]*\)".*/\1/p' "$cases")
    tokenizer=$(sed -n '1s/.*"tokenizer":"\([^"]*\)".*/\1/p' "$cases")
    family=$(sed -n 's/.*"model_type": *"\([^"]*\)".*/\1/p' "$checkpoint/config.json")
    if grep -q '"feed_forward_proj": *"gated' "$checkpoint/config.json"; then family="$family, gated"; fi
    if grep -q '"attention_type": *"favor"' "$checkpoint/config.json"; then family="$family, favor"; fi
    tokenizer=$(cd "${tokenizer:-$checkpoint}" && ls | grep -E '^tokenizer\.json$|\.model$|\.spm$|^vocab\.json$' | sed 's/.*/`&`/' |
      paste -sd, | sed 's/,/, /g')
    types=$(head -qc 65536 "$checkpoint"/*.safetensors | grep -aoE '"dtype":"B?F[0-9]+"' | cut -d'"' -f4 | sort -u | paste -sd' ')
    weights="safetensors $types"
    if [ -e "$checkpoint/model.safetensors.index.json" ]; then weights+=", shards"; fi
    printf '%s|%s|%s|%s|%s\n' "$file" "$family" "$tokenizer" "$weights" "$(grep -c '"sequences":' "$cases")"
  done
}

table() {
  cat <<'END'
| family | tokenizer | weights | float32 | bfloat16 | above AVX2, emulated | CUDA, emulated | over gRPC |
| --- | --- | --- | --- | --- | --- | --- | --- |
END
  awk -F'|' '
    FNR == NR { row[$1] = $2 " | " $3 " | " $4; all[$1] = $5; next }
    {
      split($0, l, " ")
      if (!(l[4] in row)) { print "no cases/" l[4] ".json" > "/dev/stderr"; exit 1 }
      r = row[l[4]]
      if (l[1] == "isa") { sum[r, "isa"] += l[5]; next }
      sum[r, l[1], l[2], l[3]] += l[1] == "grpc" ? all[l[4]] : l[5]
    }
    function cell(r, place, precision,   el, kv) {
      el = sum[r, place, precision, "el"]; kv = sum[r, place, precision, "kv"]
      return " " (el ? el " el" : "") (el && kv ? ", " : "") (kv ? kv " kv" : "") (el || kv ? " |" : "|")
    }
    END {
      for (file in row) rows[row[file]]
      for (r in rows) {
        print "| " r " |" cell(r, "cpu", "float32") cell(r, "cpu", "bfloat16") " " sum[r, "isa"] " |" \
          cell(r, "cuda", "float32") cell(r, "grpc", "float32")
      }
    }' <(described) <(listed) | LC_ALL=C sort
}

all=$(table)
for family in $(sed -n '/kFamilies = {/,/};/p' engine/model/families/family.cc | grep -o 'Family{"[a-z0-9]*' | cut -d'"' -f2); do
  grep -qE "^\| $family[ ,]" <<<"$all" || { echo "support_table.sh: $family has no golden cases" >&2; exit 1; }
done

# README.md with the table between its marks.
with_table() {
  awk -v table="$all" '/<!-- families: end -->/ { hidden = 0 } !hidden { print }
    /<!-- families: begin -->/ { print table; hidden = 1 }' README.md
}

case ${2:-} in
  "") echo "$all" ;;
  --write) with_table >"$build/README.md" && cp "$build/README.md" README.md ;;
  --check) diff README.md <(with_table) || { echo "README.md is stale: support_table.sh BUILD --write" >&2; exit 1; } ;;
  *) echo "usage: support_table.sh BUILD [--check|--write]" >&2; exit 1 ;;
esac
