"""Whether speed follows arithmetic in every family: documents a second times FLOPs a document, beside BART-base's in the same
rounds.

families.py [--rounds 9] [--documents 8] [--beams 4] [--source 512] [--out 32] [--models DIR] [NAME...]
Makes checkpoints with random weights in DIR (what they say does not matter, the length of the answers is forced) and runs
engine_bench on each in turn, round after round. A figure is the median over the rounds of the ratio within the round; by processor
time, it says something on a machine that has other work too.
"""
import argparse
import json
import os
import statistics

import harness

# Of a layer: d wide, heads x width of a head = inner, f in the feed-forward's middle. config: transformers' class and what is
# set in it beside these.
MODELS = {
    "BART-base": dict(d=768, inner=768, f=3072, layers=6, vocab=50265, config=("BartConfig", dict(
        encoder_attention_heads=12, decoder_attention_heads=12))),
    "T5-base": dict(d=768, inner=768, f=3072, layers=12, vocab=32128, config=("T5Config", dict(
        d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, decoder_start_token_id=0))),
    "Pegasus-large": dict(d=1024, inner=1024, f=4096, layers=16, vocab=96103, config=("PegasusConfig", dict(
        encoder_attention_heads=16, decoder_attention_heads=16, scale_embedding=True))),
    "Marian, 6+6 layers of 512": dict(d=512, inner=512, f=2048, layers=6, vocab=58101, config=("MarianConfig", dict(
        encoder_attention_heads=8, decoder_attention_heads=8, activation_function="swish", scale_embedding=True,
        pad_token_id=58100, eos_token_id=0, decoder_start_token_id=58100))),
}


def write_checkpoint(name, path):
    import torch
    import transformers
    m = MODELS[name]
    config_class, values = m["config"]
    if config_class != "T5Config":
        values = values | dict(d_model=m["d"], encoder_layers=m["layers"], decoder_layers=m["layers"], encoder_ffn_dim=m["f"],
                               decoder_ffn_dim=m["f"], max_position_embeddings=1024)
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(vocab_size=m["vocab"], **values)
    transformers.AutoModelForSeq2SeqLM.from_config(config).to(torch.bfloat16).save_pretrained(path)


def flops(m, source, beams, out):
    """Of a document, in the K/V form: twice the multiplications of its products and of attention."""
    d, inner, f, layers = m["d"], m["inner"], m["f"], m["layers"]
    positions = beams * out
    encoder = source * (4 * d * inner + 2 * d * f) + 2 * source * source * inner
    keys_and_values = source * 2 * d * inner
    decoder = positions * (6 * d * inner + 2 * d * f + 2 * inner * (source + out / 2))
    return 2 * (layers * (encoder + keys_and_values + decoder) + positions * d * m["vocab"])


def measure(a, name, precision):
    """Of one run: GFLOP a second, GFLOP a second of processor time, the form of attention."""
    command = [a.bench, f"{a.models}/{name}", "--precision", precision, "--documents", a.documents, "--beams", a.beams,
               "--least", a.source, "--out", a.out, "--max-rows", a.documents * a.beams, "--warm-documents", 1, "--memory-gib", 2,
               "--json"]
    line = json.loads(harness.output_of([str(word) for word in command], 1200))
    work = line["documents"] * flops(MODELS[name], a.source, a.beams, a.out) / 1e9
    return work / line["seconds"], work / line["processor_seconds"], line["attention"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, value in (("--rounds", 9), ("--documents", 8), ("--beams", 4), ("--source", 512), ("--out", 32)):
        parser.add_argument(option, type=int, default=value)
    parser.add_argument("--bench", default=f"{harness.ROOT}/build/release/tests/bench/engine_bench")
    parser.add_argument("--models", default=f"{harness.ROOT}/build/bench/families")
    parser.add_argument("--precisions", default="float32,bfloat16")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    a = parser.parse_args()
    names = ["BART-base"] + [n for n in a.names or MODELS if n != "BART-base"]
    precisions = a.precisions.split(",")
    for name in names:
        if not os.path.exists(f"{a.models}/{name}/config.json"):
            write_checkpoint(name, f"{a.models}/{name}")
    ratios, forms = {}, {}
    for number in range(a.rounds):
        for precision in precisions:
            base = None
            for name in names:
                rate, processor_rate, forms[name, precision] = measure(a, name, precision)
                base = base or (rate, processor_rate)
                ratios.setdefault((name, precision), []).append((rate / base[0], processor_rate / base[1]))
                print(f"round {number + 1}: {name}, {precision}, {forms[name, precision]}: {rate:.1f} GFLOP/s, {processor_rate:.1f} "
                      f"by processor time", flush=True)
    heads = "".join(f" {p} | by processor time |" for p in precisions)
    print(f"\n{harness.processor()}\n\n| model | GFLOP a document |{heads}")
    print("| --- | --- |" + " --- | --- |" * len(precisions))
    for name in names:
        cells = ""
        for p in precisions:
            wall, processor = (statistics.median(values) for values in zip(*ratios[name, p]))
            cells += f" {wall:.2f}, {forms[name, p]} | {processor:.2f} |"
        print(f"| {name} | {flops(MODELS[name], a.source, a.beams, a.out) / 1e9:.0f} |{cells}")


if __name__ == "__main__":
    main()
