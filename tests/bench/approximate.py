"""What approximate attention costs in answers and gains in time on debian-synopsis. What came out stands in approximate.md.

Usage, in an environment with rouge_requirements.txt:
  python3 approximate.py --elserve BINARY [--work DIR] [--limit N] [--beams N] [--weights N] [SETTING...]
  python3 approximate.py --engine-bench BINARY [--work DIR] [--rounds N]

Texts: rouge.py's held-out ones, N summaries and N questions, the longest sources first. Each setting, such as attention_top_k=16 or
attention_values=pruned,attention_threshold=0.01, is a server of its own with these keys, in float32; the first is the exact one.

1. Of each setting: ROUGE-1, -2 and -L against the texts' own summaries and questions; the share of answers that are the exact
   server's to the letter; and ROUGE-L against the exact answers, whatever the texts say.
2. The weights themselves, by transformers with the exact answers given, over the same texts: which share is below a threshold, and how
   much weight that is; and how much weight is not among the k largest. Thresholds are of a source of 384 tokens, as the
   configuration's.

With --engine-bench, time and memory at T5-base's shape instead, whose positions end nowhere: random weights, one document of 1024 to
16384 tokens, 4 beams, 16 new tokens. The settings take turns within a round, and a figure is the median over the rounds of the ratio to
the exact one.
"""
import argparse
import json
import os
import statistics

import families
import harness
import rouge

DEFAULT = ["attention_top_k=64", "attention_top_k=32", "attention_top_k=16", "attention_top_k=8", "attention_top_k=4", "attention_top_k=1",
           "attention_values=pruned,attention_threshold=0.0001", "attention_values=pruned,attention_threshold=0.001",
           "attention_values=pruned,attention_threshold=0.003", "attention_values=pruned,attention_threshold=0.01",
           "attention_values=pruned,attention_threshold=0.03",
           "attention_values=log3bit,attention_threshold=0.001", "attention_values=log3bit,attention_threshold=0.01"]
THRESHOLDS = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
LARGEST = [64, 32, 16, 8, 4, 1]
THRESHOLD_TOKENS = 384


def keys_of(setting):
    """attention_top_k=16,... as YAML's keys and values."""
    pairs = (pair.split("=") for pair in setting.split(",")) if setting else ()
    return {key: value if key == "attention_values" else json.loads(value) for key, value in pairs}


def scores(scorer, rows, texts):
    """ROUGE-1, -2, -L of summaries and of questions, in percent."""
    result = {}
    for task in ("sum", "qg"):
        found = [scorer.score(r["target"], t) for r, t in zip(rows, texts) if r["task"] == task]
        result[task] = [100 * sum(s[kind].fmeasure for s in found) / len(found) for kind in ("rouge1", "rouge2", "rougeL")]
    return result


def answers_table(a, rows, scorer, modules):
    """Prints part 1; returns the exact answers."""
    exact = None
    print("| setting | summaries: ROUGE-1, -2, -L | questions | answers equal to exact | ROUGE-L against exact |\n|" + " --- |" * 5)
    for setting in [""] + (a.settings or DEFAULT):
        more = keys_of(setting) | {"defaults": {"num_beams": a.beams}}
        with rouge.Server(a.elserve, "float32", a.work, more) as address:
            texts, _, _ = rouge.ask(address, rows, modules)
        exact = exact or texts
        found = scores(scorer, rows, texts)
        equal = 100 * sum(x == y for x, y in zip(texts, exact)) / len(rows)
        like = 100 * sum(scorer.score(y, x)["rougeL"].fmeasure for x, y in zip(texts, exact)) / len(rows)
        cells = " | ".join(", ".join(f"{x:.2f}" for x in found[task]) for task in ("sum", "qg"))
        print(f"| {setting.replace(',', ', ') or 'exact'} | {cells} | {equal:.1f} % | {like:.1f} |", flush=True)
    return exact


class Weights:
    """Sums over rows of attention's weights."""

    def __init__(self):
        self.rows, self.number = 0, 0
        self.below = {t: [0.0, 0.0] for t in THRESHOLDS}  # how many, and their weight
        self.left_out = dict.fromkeys(LARGEST, 0.0)

    def add(self, weights):
        """[..., queries, tokens] of one text."""
        tokens = weights.shape[-1]
        rows = weights.reshape(-1, tokens)
        self.rows += len(rows)
        self.number += rows.numel()
        for threshold, sums in self.below.items():
            low = rows < threshold * THRESHOLD_TOKENS / tokens
            sums[0] += low.sum().item()
            sums[1] += rows[low].sum().item()
        largest = rows.sort(-1, descending=True).values.cumsum(-1)
        for k in self.left_out:
            self.left_out[k] += (1 - largest[:, min(k, tokens) - 1]).clamp(min=0).sum().item()


def weights_tables(reference, rows, texts):
    """Prints part 2."""
    torch, model = reference.torch, reference.model("float32")
    kinds = {"encoder": Weights(), "cross": Weights()}
    for row, text in zip(rows, texts):
        source = reference.tokenizer(row["prompt"], truncation=True, max_length=rouge.MAX_SOURCE, return_tensors="pt")["input_ids"]
        answer = reference.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            out = model(input_ids=source, decoder_input_ids=answer, output_attentions=True)
        for layer in out.encoder_attentions:
            kinds["encoder"].add(layer)
        for layer in out.cross_attentions:
            kinds["cross"].add(layer)
    print("\n| threshold | encoder: weights below it, their sum in a row | cross-attention |\n| --- | --- | --- |")
    for t in THRESHOLDS:
        cells = " | ".join(f"{100 * w.below[t][0] / w.number:.1f} %, {w.below[t][1] / w.rows:.4f}" for w in kinds.values())
        print(f"| {t:g} | {cells} |")
    print("\n| tokens | encoder: weight that is left out of a row | cross-attention |\n| --- | --- | --- |")
    for k in LARGEST:
        print(f"| {k} | " + " | ".join(f"{w.left_out[k] / w.rows:.4f}" for w in kinds.values()) + " |")


TIMED = ["", "attention_top_k=64", "attention_values=pruned,attention_threshold=0.01", "attention_values=log3bit"]
LENGTHS = [1024, 4096, 16384]


def timed_table(a):
    model = f"{a.work}/T5-base"
    if not os.path.exists(f"{model}/config.json"):
        families.write_checkpoint("T5-base", model)
    print(f"{harness.processor()}\n\n| tokens | setting | encoding, times exact | whole document | resident memory at most, MiB |\n|"
          + " --- |" * 5)
    for length in LENGTHS:
        found = {}
        for _ in range(a.rounds):
            for setting in TIMED:
                options = [word for key, value in keys_of(setting).items() for word in ("--" + key.replace("_", "-"), value)]
                command = [a.engine_bench, model, "--device", "cpu", "--precision", "bfloat16", "--documents", 1, "--beams", 4, "--out", 16,
                           "--least", length, "--max-source-tokens", length, "--encode-tokens-per-step", 2048, "--max-rows", 4,
                           "--memory-gib", 2, "--json", *options]
                found.setdefault(setting, []).append(json.loads(harness.output_of([str(word) for word in command], 1200)))
        for setting, lines in found.items():
            ratio = {key: statistics.median(line[key] / exact[key] for line, exact in zip(lines, found[""]))
                     for key in ("encode_seconds", "seconds")}
            cells = "".join(f" {ratio[key]:.2f} ({statistics.median(x[key] for x in lines):.2f} s) |" for key in ratio)
            print(f"| {length} | {setting.replace(',', ', ') or 'exact'} |{cells} {max(x['peak_resident_bytes'] for x in lines) >> 20} |",
                  flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--elserve")
    what.add_argument("--engine-bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", default=f"{rouge.ROOT}/build/rouge")
    parser.add_argument("--limit", type=int, default=400, help="summaries, and questions, at most")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--weights", type=int, default=100, help="summaries, and questions, whose weights are looked at")
    parser.add_argument("settings", nargs="*", metavar="SETTING")
    a = parser.parse_args()
    os.makedirs(a.work, exist_ok=True)
    if a.engine_bench:
        return timed_table(a)
    from rouge_score import rouge_scorer
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    reference = rouge.Reference(a.work)
    rows = rouge.usable(rouge.fetch_pairs(a.work), reference)
    rows = [r for task in ("sum", "qg") for r in sorted((r for r in rows if r["task"] == task), key=lambda r: -len(r["source"]))[:a.limit]]
    lengths = sorted(reference.length(r["prompt"]) for r in rows)
    print(f"{len(rows)} texts, of {lengths[0]} to {lengths[-1]} tokens, median {lengths[len(lengths) // 2]}; {a.beams} beams\n")
    exact = answers_table(a, rows, scorer, rouge.stubs(a.work))
    some = [i for task in ("sum", "qg") for i in [i for i, r in enumerate(rows) if r["task"] == task][:a.weights]]
    weights_tables(reference, [rows[i] for i in some], [exact[i] for i in some])


if __name__ == "__main__":
    main()
