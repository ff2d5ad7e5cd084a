"""What int8 loses on debian-synopsis, beside bfloat16 and CTranslate2's int8. What came out stands in int8.md. `make rouge`
runs it.

Usage, in an environment with rouge_requirements.txt:
  python3 int8.py --elserve BINARY [--work DIR] [--limit N] [--beams 1 4] [--ctranslate2] [--values FACTOR] [--states FACTOR]

Texts: rouge.py's held-out summaries and questions, all of them or N of each. Of each way to compute: ROUGE-1, -2 and -L against the
texts' own summaries and questions; the share of answers that are elserve's float32 ones to the letter; and ROUGE-L against these,
whatever the texts say. CTranslate2 decodes the same prompts with the checkpoint's parameters, in float32 and in int8, each compared with its
own float32 as well.

--values, --states: of a checkpoint that is the same model in float32, with two value channels of each attention, or columns of the
encoder's output, so many times as large, and what reads them as much smaller.

Of all texts it fails if int8, of weights or states or both and with nothing kept, is more than 0.3 below float32 in ROUGE-L. Ways that
keep weights are printed beside it: they are nearer, and what ROUGE says of them is chance. On a processor without VNNI there is
nothing to compare.
"""
import argparse
import json
import os
import subprocess
import sys

import approximate
import rouge

STATES = {"memory_precision": "int8"}
WAYS = {"float32": ("float32", {}), "bfloat16": ("bfloat16", {}), "bfloat16, states in int8": ("bfloat16", STATES),
        "int8": ("int8", {}), "int8, states in int8": ("int8", STATES), "int8, head kept": ("int8", {"int8": {"keep": ["head"]}}),
        "int8, first and last layers kept": ("int8", {"int8": {"keep": ["first_layer", "last_layer"]}})}
LOSS = 0.3


def ctranslate2_answers(work, dtype, beams, rows, tokenizer):
    import ctranslate2
    path = f"{work}/synopsis-ct2-{dtype}"
    if not os.path.isdir(path):
        # ctranslate2's converter reads keys that newer transformers no longer writes.
        copy = f"{work}/synopsis"
        subprocess.run(["cp", "-r", rouge.MODEL, copy], check=True)
        values = json.load(open(f"{copy}/config.json"))
        values.update(normalize_before=False, normalize_embedding=True, add_final_layer_norm=False)
        json.dump(values, open(f"{copy}/config.json", "w"))
        subprocess.run([os.path.join(os.path.dirname(sys.executable), "ct2-transformers-converter"), "--model", copy, "--output_dir", path,
                        "--quantization", dtype, "--force"], check=True, stdout=subprocess.DEVNULL)
    translator = ctranslate2.Translator(path, device="cpu", inter_threads=1, intra_threads=len(os.sched_getaffinity(0)))
    generation = json.load(open(f"{rouge.MODEL}/generation_config.json"))
    sources = [tokenizer.convert_ids_to_tokens(tokenizer(r["prompt"], truncation=True, max_length=rouge.MAX_SOURCE)["input_ids"]) for r in rows]
    results = translator.translate_batch(sources, beam_size=beams, max_batch_size=32, max_input_length=0,
                                         max_decoding_length=generation.get("max_length", 128),
                                         no_repeat_ngram_size=generation.get("no_repeat_ngram_size", 0),
                                         length_penalty=generation.get("length_penalty", 1.0))
    return [tokenizer.decode(tokenizer.convert_tokens_to_ids(r.hypotheses[0]), skip_special_tokens=True) for r in results]


def with_outliers(work, values, states):
    """A folder with the model, channels scaled."""
    import torch
    from safetensors.torch import load_file, save_file
    path = f"{work}/synopsis-outliers-{values:g}-{states:g}"
    subprocess.run(["rm", "-rf", path], check=True)
    subprocess.run(["cp", "-r", rouge.MODEL, path], check=True)
    weights = {name: x.float() for name, x in load_file(f"{path}/model.safetensors").items()}
    generator = torch.Generator().manual_seed(1)

    def some(width):
        return torch.randperm(width, generator=generator)[:2]
    for name in [n for n in weights if n.endswith("v_proj.weight")]:
        attention, channels = name.removesuffix("v_proj.weight"), some(len(weights[name]))
        weights[name][channels] *= values
        weights[attention + "v_proj.bias"][channels] *= values
        weights[attention + "out_proj.weight"][:, channels] /= values
    last = max(n for n in weights if "encoder.layers." in n and n.endswith("final_layer_norm.weight") and "decoder" not in n)
    columns = some(len(weights[last]))
    weights[last][columns] *= states
    weights[last.replace("weight", "bias")][columns] *= states
    for name in [n for n in weights if n.endswith(("encoder_attn.k_proj.weight", "encoder_attn.v_proj.weight"))]:
        weights[name][:, columns] /= states
    save_file({name: x.contiguous() for name, x in weights.items()}, f"{path}/model.safetensors", metadata={"format": "pt"})
    return path


def has_int8(binary, work):
    """Whether the processor has int8; where the server cannot start for another reason, this ends as it does."""
    try:
        with rouge.Server(binary, "int8", work):
            return True
    except SystemExit:
        if "needs a processor with VNNI" not in open(f"{work}/int8.log").read():
            raise
        return False


def print_row(name, rows, texts, exact, scorer):
    found = approximate.scores(scorer, rows, texts)
    equal = 100 * sum(x == y for x, y in zip(texts, exact)) / len(rows)
    like = 100 * sum(scorer.score(y, x)["rougeL"].fmeasure for x, y in zip(texts, exact)) / len(rows)
    cells = " | ".join(", ".join(f"{x:.2f}" for x in found[task]) for task in ("sum", "qg"))
    print(f"| {name} | {cells} | {equal:.1f} % | {like:.1f} |", flush=True)
    return [found[task][2] for task in ("sum", "qg")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elserve", required=True)
    parser.add_argument("--work", default=f"{rouge.ROOT}/build/rouge")
    parser.add_argument("--limit", type=int, default=0, help="summaries, and questions, at most; 0: all")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--ctranslate2", action="store_true")
    parser.add_argument("--values", type=float, default=1.0, metavar="FACTOR")
    parser.add_argument("--states", type=float, default=1.0, metavar="FACTOR")
    a = parser.parse_args()
    os.makedirs(a.work, exist_ok=True)
    if not has_int8(a.elserve, a.work):
        print("int8: this processor has none of the instructions that it needs")
        return
    from rouge_score import rouge_scorer
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    reference = rouge.Reference(a.work)
    rows = rouge.usable(rouge.fetch_pairs(a.work), reference)
    if a.limit:
        rows = [r for task in ("sum", "qg") for r in [r for r in rows if r["task"] == task][:a.limit]]
    modules = rouge.stubs(a.work)
    if a.values != 1 or a.states != 1:
        rouge.MODEL = with_outliers(a.work, a.values, a.states)
    failures = []
    for beams in a.beams:
        print(f"\n{len(rows)} texts, {beams} beams\n\n| | summaries: ROUGE-1, -2, -L | questions | answers equal to float32's | "
              f"ROUGE-L against float32's |\n|" + " --- |" * 5)
        exact, rouge_l = None, {}
        for name, (precision, keys) in WAYS.items():
            with rouge.Server(a.elserve, precision, a.work, keys | {"defaults": {"num_beams": beams}}) as address:
                texts, _, _ = rouge.ask(address, rows, modules)
            exact = exact or texts
            rouge_l[name] = print_row(name, rows, texts, exact, scorer)
            lost = max(x - y for x, y in zip(rouge_l["float32"], rouge_l[name]))
            if lost > LOSS and not a.limit and "int8" not in keys:
                failures.append(f"{name}, {beams} beams: {lost:.2f} below float32")
        if a.ctranslate2:
            theirs = {dtype: ctranslate2_answers(a.work, dtype, beams, rows, reference.tokenizer) for dtype in ("float32", "int8")}
            print_row("CTranslate2 float32", rows, theirs["float32"], exact, scorer)
            print_row("CTranslate2 int8", rows, theirs["int8"], exact, scorer)
            print_row("CTranslate2 int8, against its own float32", rows, theirs["int8"], theirs["float32"], scorer)
    sys.exit("FAILED: " + "; ".join(failures) if failures else 0)


if __name__ == "__main__":
    main()
