"""Documents and tokens a second of the cuda backend beside transformers, on one card in one run; prints tables.

gpu_figures.py --bench ENGINE_BENCH --model MODEL_DIR [--parts forms greedy peer] [--out 100] [--seconds 20]
MODEL_DIR is make_model.py's BART-large. Beams: sources of 1024 tokens, 4 beams, --out new tokens, by hidden states (el), by keys
and values that the beams share (kv), and by keys and values of each beam's own (per-beam: every beam is a document with one
row), at 32 documents in flight and at each one's best number. Greedy: sources of 260 to 440 tokens, 128 new tokens, 128 in
flight. Peer: the first work by transformers' generate in bfloat16 at its best batch.
"""
import argparse
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BEAMS = 4


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"# failed: {' '.join(command)}\n# {done.stderr.strip()[-400:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


class Bench:
    def __init__(self, args):
        self.args = args

    def engine(self, attention, beams, copies, in_flight, documents, out, least=1024, most=1024):
        # In flight are as many sequences as rows allow; memory is ample.
        return run([self.args.bench, self.args.model, "--device", "cuda", "--precision", "bfloat16", "--attention", attention,
                    "--beams", str(beams), "--copies", str(copies), "--max-rows", str(in_flight * beams * copies),
                    "--documents", str(documents), "--out", str(out), "--least", str(least), "--most", str(most),
                    "--memory-gib", str(self.args.memory_gib), "--warm-documents", str(min(in_flight, 32)),
                    "--encode-tokens-per-step", str(self.args.encode_tokens), "--json"])

    # Documents for about --seconds of work, and no fewer than three fillings.
    def enough(self, in_flight, rate):
        return max(3 * in_flight, int(self.args.seconds * rate))


CONTENDERS = {"el": ("el", BEAMS, 1), "kv": ("kv", BEAMS, 1), "per-beam kv": ("kv", 1, BEAMS)}


def forms(bench, args):
    print("\n| form | in flight | reached | documents/s | tokens/s | waiting for the device |\n| --- | --- | --- | --- | --- | --- |")
    rates, best = {}, {}
    for name, (attention, beams, copies) in CONTENDERS.items():
        rate = 10.0
        for in_flight in args.in_flight:
            if beams * copies * in_flight > 16384:
                continue
            got = bench.engine(attention, beams, copies, in_flight, bench.enough(in_flight, rate), args.out)
            if got is None:
                break
            rate = got["documents_per_second"]
            rates[name, in_flight] = rate
            best[name] = max(best.get(name, 0), rate)
            print(f"| {name} | {in_flight} | {got['most_in_flight'] // copies} | {rate:.1f} | {rate * args.out:.0f} | {100 * got['waiting_for_device']:.1f} % |",
                  flush=True)
    for name in CONTENDERS:
        if name in best:
            print(f"{name}: best {best[name]:.1f} documents/s")
    if ("per-beam kv", 32) in rates and "el" in best:
        print(f"el at its best to per-beam kv at 32 in flight: {best['el'] / rates['per-beam kv', 32]:.2f}x")
        print("(per-beam kv encodes each document once a beam; its decoding is what the comparison is about)")
    return best


def greedy(bench, args):
    print("\n| greedy, 260 to 440 source tokens, 128 new, 128 in flight | tokens/s |\n| --- | --- |")
    for attention in ("el", "kv"):
        got = bench.engine(attention, 1, 1, 128, bench.enough(128, 150), 128, 260, 440)
        if got is not None:
            print(f"| {attention} | {got['tokens_per_second']:.0f} |", flush=True)


def peer(args):
    print("\n| transformers generate, bfloat16 | documents/s |\n| --- | --- |")
    best = 0
    for batch in args.peer_batches:
        got = run([sys.executable, os.path.join(HERE, "peers.py"), "hf", args.model, "--device", "cuda", "--dtype", "bfloat16",
                   "--beam", str(BEAMS), "--batch", str(batch), "--docs", str(2 * batch), "--out", str(args.out), "--src", "1024"])
        if got is None:
            break
        best = max(best, got["docs_per_second"])
        print(f"| batch {batch} | {got['docs_per_second']:.2f} |", flush=True)
    return best


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--bench", required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--parts", nargs="*", default=["forms", "greedy", "peer"], choices=["forms", "greedy", "peer"])
    ap.add_argument("--out", type=int, default=100)
    ap.add_argument("--seconds", type=float, default=10, help="of each measurement, about")
    ap.add_argument("--in-flight", type=int, nargs="*", default=[32, 128, 256, 512])
    ap.add_argument("--peer-batches", type=int, nargs="*", default=[32, 128, 256])
    ap.add_argument("--memory-gib", type=float, default=60)
    ap.add_argument("--encode-tokens", type=int, default=8192)
    args = ap.parse_args()
    bench = Bench(args)
    best = forms(bench, args) if "forms" in args.parts else {}
    if "greedy" in args.parts:
        greedy(bench, args)
    if "peer" in args.parts:
        theirs = peer(args)
        if theirs and "el" in best:
            print(f"el at its best to transformers at its best: {best['el'] / theirs:.1f}x")


if __name__ == "__main__":
    main()
