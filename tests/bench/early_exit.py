"""Whether leaving the decoder early would pay on debian-synopsis: how often a layer's own prediction is the last layer's, what
ROUGE is left when tokens leave early, and what time that would save. What came out stands in early_exit.md.

Usage, in an environment with rouge_requirements.txt:
  python3 early_exit.py [--work DIR] [--limit N] [--beams 1 4] [--engine-bench BINARY] [--thresholds MEASURE:THRESHOLD[@LAYERS] ...]

Texts: rouge.py's, the test split of Debian's package descriptions, fetched into DIR once; the parameters are the checkpoint's, with
4 beams and with 1. All in float32 on one thread, in a decode loop of this script; some of its answers without exits are compared with
those of transformers' generate. Three parts, on standard output:

1. Teacher-forced on the model's own answers: the share of tokens for which the product of each layer's output with the vocabulary has
   the last layer's best token (BART has no norm behind its last layer, so there is none to apply). The oracle leaves at the first
   layer from which on all layers have that token.
2. Time. A decode step in numbers of multiplications and bytes, and, by engine_bench on the same texts, the shares of a document's
   time that go to encoding, the decoder's layers and the vocabulary. From these alone follows what is possible at most, whatever the
   model and the measure of confidence: if all tokens leave after the first layer and checks are free; and how many tokens have to
   leave at a single check, which is one more product with the vocabulary for those that stay.
3. Exits. A row leaves the step after the first layer whose confidence reaches the threshold, and its logits are that layer's. Its
   hidden state is copied to the layers that it skips: their keys and values are made of it, which later tokens attend to. Confidence is
   taken from the softmax before the rules: its maximum ("max"), or the maximum less the second ("margin"), the softmax response of
   Schuster et al., Confident Adaptive Language Modeling, NeurIPS 2022; exits by confidence, for classification, are of Schuster et al.,
   Consistent Accelerated Inference via Confident Adaptive Transformers, EMNLP 2021. Both train the layers for it; this decoder is as it
   is. max:0.2@2,3 checks after layers 2 and 3 only; max:0@3 runs three layers, always. Documents a second relative to the full
   model are bounds by the shares of part 2: a row that leaves is gone from the batch at once, time falls with rows, and copying is free;
   checks are free too, or cost what the vocabulary's product and candidates cost now. "layers of a step of 32 rows" is what such a step
   runs if it ends with its last row: the mean of the most layers of 32 rows (with beams, of whole documents) drawn at random.
"""
import argparse
import datetime
import json
import os
import random
import re
import statistics
import subprocess

os.environ.setdefault("OMP_NUM_THREADS", "1")

import harness
import rouge

BATCH = 64  # documents decoded at once, of like length
DEFAULT = ["max:0.7", "max:0.5", "max:0.3", "margin:0.5", "margin:0.2", "max:0.2@3", "max:0.1@3", "max:0.05@3", "max:0@3"]
# README.md's milliseconds a document of the engine with random weights: encoding, layers, vocabulary; and how many layers.
LARGER = {"BART-base, 1024 tokens, 4 beams": ((317, 123, 58), 6), "BART-base, 256 tokens, 4 beams": ((71, 90, 57), 6),
          "BART-base, 1024 tokens, 1 beam": ((321, 67, 21), 6)}
WANTED = 1.2  # times documents a second, from which on exits would be built


class Exits:
    """max or margin, the threshold, and after how many layers it is asked."""

    def __init__(self, text, layers):
        self.text = text
        self.measure, rest = text.split(":")
        threshold, _, after = rest.partition("@")
        self.threshold = float(threshold)
        self.after = [int(x) for x in after.split(",")] if after else list(range(1, layers))
        if self.measure not in ("max", "margin") or not all(0 < x < layers for x in self.after):
            raise SystemExit(f"{text}: max or margin, a threshold, and layers from 1 to {layers - 1}")

    def confident(self, torch, logits):
        best = torch.topk(torch.softmax(logits, -1), 2, -1).values
        return (best[:, 0] if self.measure == "max" else best[:, 0] - best[:, 1]) >= self.threshold


class Decoder:
    """The decoder of a BartForConditionalGeneration, with the weights of transformers' model, for rows that may leave early."""

    def __init__(self, torch, model):
        self.torch, self.model, self.body = torch, model, model.model.decoder
        self.layers = list(self.body.layers)
        self.heads, self.width = model.config.decoder_attention_heads, model.config.d_model // model.config.decoder_attention_heads
        self.vocabulary, self.bias = model.lm_head.weight, model.final_logits_bias[0]

    def cut(self, x, groups):
        """[groups * n, d] as [groups, heads, n, width]."""
        return x.view(groups, -1, self.heads, self.width).transpose(1, 2)

    def encode(self, ids, mask):
        """The documents' keys and values by layer, and what to add to the scores of padding."""
        states = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        flat, n = states.reshape(-1, states.shape[-1]), len(ids)
        cross = [(self.cut(w.encoder_attn.k_proj(flat), n), self.cut(w.encoder_attn.v_proj(flat), n)) for w in self.layers]
        return cross, self.torch.where(mask.bool(), 0.0, float("-inf"))[:, None, None, :]

    def attend(self, query, keys, values, mask=None):
        """[n, heads, queries, width] each; [n * queries, d] comes back."""
        out = self.torch.nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return out.transpose(1, 2).reshape(-1, self.heads * self.width)

    def logits(self, x):
        return self.torch.nn.functional.linear(x, self.vocabulary, self.bias)

    def embed(self, tokens, position):
        # BART's positions begin at 2.
        x = self.body.embed_tokens(tokens) + self.body.embed_positions.weight[position + 2]
        return self.body.layernorm_embedding(x)

    def finish(self, w, x, attended, documents, keys, values, mask):
        """What stands behind self-attention in a layer, for rows `x` whose self-attention gave `attended`."""
        x = w.self_attn_layer_norm(x + w.self_attn.out_proj(attended))
        query = self.cut(w.encoder_attn.q_proj(x), documents)
        x = w.encoder_attn_layer_norm(x + w.encoder_attn.out_proj(self.attend(query, keys, values, mask)))
        return w.final_layer_norm(x + w.fc2(self.torch.nn.functional.gelu(w.fc1(x))))

    def step(self, tokens, position, past, cross, mask, exits):
        """One token of each row. `past`: keys and values by layer, which grow. Returns logits and, of each row, the layers that it ran."""
        torch, rows, documents = self.torch, len(tokens), len(mask)
        x = self.embed(tokens, position)
        ran = torch.full((rows,), len(self.layers))
        inside = torch.ones(rows, dtype=torch.bool)
        logits = torch.empty(rows, len(self.bias))
        for i, w in enumerate(self.layers):
            # Of a row that has left, x is still the state that it left with: so that is what is copied.
            k, v = self.cut(w.self_attn.k_proj(x), rows), self.cut(w.self_attn.v_proj(x), rows)
            past[i] = (k, v) if past[i] is None else tuple(torch.cat(pair, 2) for pair in zip(past[i], (k, v)))
            attended = self.attend(self.cut(w.self_attn.q_proj(x), rows), *past[i])
            x = torch.where(inside[:, None], self.finish(w, x, attended, documents, *cross[i], mask), x)
            last = i + 1 == len(self.layers)
            if not last and (exits is None or i + 1 not in exits.after):
                continue
            asked = inside.nonzero()[:, 0]
            if not len(asked):
                continue
            some = self.logits(x[asked])
            leave = torch.ones(len(asked), dtype=torch.bool) if last else exits.confident(torch, some)
            gone = asked[leave]
            logits[gone], ran[gone], inside[gone] = some[leave], i + 1, False
        return logits, ran

    def forced(self, tokens, cross, mask):
        """The best token of each layer for [documents, length] tokens, [layers, documents, length]."""
        torch, (documents, length) = self.torch, tokens.shape
        x = self.embed(tokens, torch.arange(length)).view(documents * length, -1)
        causal = torch.full((length, length), float("-inf")).triu(1)
        best = []
        for i, w in enumerate(self.layers):
            q, k, v = (self.cut(p(x), documents) for p in (w.self_attn.q_proj, w.self_attn.k_proj, w.self_attn.v_proj))
            x = self.finish(w, x, self.attend(q, k, v, causal), documents, *cross[i], mask)
            best.append(self.logits(x).argmax(-1).view(documents, length))
        return torch.stack(best)


def banned(tokens, n):
    """The tokens that would repeat an n-gram."""
    last = tokens[len(tokens) - n + 1:]
    return [tokens[i + n - 1] for i in range(len(tokens) - n + 1) if tokens[i:i + n - 1] == last]


def search(decoder, settings, beams, cross, mask, exits):
    """transformers' beam search with early_stopping; with one beam it is its greedy search. Returns, of each document, the answer's tokens
    behind the first, and for each step the layers that its rows ran."""
    torch, count = decoder.torch, len(mask)
    eos, start = settings.eos_token_id, settings.decoder_start_token_id
    assert settings.early_stopping is True and settings.length_penalty == 1.0
    live = list(range(count))  # documents
    tokens = [[[start]] * beams for _ in live]
    scores = torch.full((count, beams), -1e9)
    scores[:, 0] = 0
    ended, ran = [[] for _ in range(count)], [[] for _ in range(count)]
    past = [None] * len(decoder.layers)
    for length in range(1, settings.max_length):
        given = torch.tensor([row[-1] for d in live for row in tokens[d]])
        logits, layers = decoder.step(given, length - 1, past, cross, mask, exits)
        values = torch.log_softmax(logits, -1)
        if length < settings.min_length:
            values[:, eos] = float("-inf")
        for r, row in enumerate(row for d in live for row in tokens[d]):
            values[r, banned(row, settings.no_repeat_ngram_size)] = float("-inf")
        values = (values.view(len(live), beams, -1) + scores[:, :, None]).view(len(live), -1)
        top = torch.topk(values, 2 * beams)
        vocabulary, layers = logits.shape[1], layers.view(len(live), beams).tolist()
        kept, parents, next_scores, stay = [], [], [], []
        for at, d in enumerate(live):
            ran[d].append(layers[at][:1 if length == 1 else beams])  # the first step has one row
            rows, sources, row_scores = [], [], []
            for rank, (value, index) in enumerate(zip(top.values[at].tolist(), top.indices[at].tolist())):
                source, token = divmod(index, vocabulary)
                row = tokens[d][source] + [token]
                if token == eos or length + 1 == settings.max_length:
                    if rank < beams:
                        ended[d].append((value / length, row[1:]))
                elif len(rows) < beams:
                    rows.append(row), sources.append(at * beams + source), row_scores.append(value)
            ended[d].sort(key=lambda e: -e[0])
            del ended[d][beams:]
            if len(ended[d]) < beams and rows:
                tokens[d] = rows
                kept.append(d), stay.append(at), parents.extend(sources), next_scores.append(row_scores)
        if not kept:
            break
        if len(kept) < len(live):
            at = torch.tensor(stay)
            cross, mask = [(k[at], v[at]) for k, v in cross], mask[at]
        if beams > 1 or len(kept) < len(live):
            at = torch.tensor(parents)
            past = [(k[at], v[at]) for k, v in past]
        live, scores = kept, torch.tensor(next_scores)
    return [e[0][1] for e in ended], ran


class Texts:
    """The held-out texts of a task, tokenized, in batches of like length."""

    def __init__(self, a, reference, task):
        rows = [r for r in rouge.fetch_pairs(a.work) if r["task"] == task]
        for row in rows:
            row["prompt"] = (rouge.PREFIX if row["task"] == "qg" else "") + row["source"]
        self.rows = sorted(rows, key=lambda r: len(r["prompt"]))
        if a.limit and a.limit < len(rows):
            self.rows = [self.rows[i * len(rows) // a.limit] for i in range(a.limit)]
        self.tokenizer = reference.tokenizer
        self.parts = [range(i, min(i + BATCH, len(self.rows))) for i in range(0, len(self.rows), BATCH)]

    def ids(self, part):
        x = self.tokenizer([self.rows[i]["prompt"] for i in part], truncation=True, max_length=rouge.MAX_SOURCE, padding=True,
                           return_tensors="pt")
        return x["input_ids"], x["attention_mask"]

    def text(self, tokens):
        return self.tokenizer.decode(tokens, skip_special_tokens=True)


def decode_all(texts, decoder, settings, beams, exits):
    answers, ran = [], []
    for part in texts.parts:
        part_answers, part_ran = search(decoder, settings, beams, *decoder.encode(*texts.ids(part)), exits)
        answers += part_answers
        ran += part_ran
    return answers, ran


def rouge_of(scorer, texts, answers):
    scores = [scorer.score(r["target"], texts.text(t)) for r, t in zip(texts.rows, answers)]
    return [100 * statistics.mean(s[kind].fmeasure for s in scores) for kind in ("rouge1", "rouge2", "rougeL")]


def agreement(full, other):
    """Percent of tokens that are the same at the same place, of the longer answer's."""
    same = sum(a == b for x, y in zip(full, other) for a, b in zip(x, y))
    return 100 * same / sum(max(len(x), len(y)) for x, y in zip(full, other))


def forced_row(texts, decoder, answers, settings):
    """Of part 1: how many tokens, the percentage of each layer, and the oracle's layers a token."""
    torch, layers = decoder.torch, len(decoder.layers)
    total, equal, needed = 0, [0] * layers, 0
    for part in texts.parts:
        length = max(len(answers[i]) for i in part)
        start, padding = [settings.decoder_start_token_id], [settings.pad_token_id] * length
        given = torch.tensor([(start + answers[i][:-1] + padding)[:length] for i in part])
        counts = torch.tensor([[j < len(answers[i]) for j in range(length)] for i in part])
        best = decoder.forced(given, *decoder.encode(*texts.ids(part)))
        same = best == best[-1]
        for i in range(layers):
            equal[i] += int((same[i] & counts).sum())
        agreed = same.flip(0).int().cumprod(0).sum(0)  # how many layers, the last ones, have the same token
        needed += int(((layers + 1 - agreed) * counts).sum())
        total += int(counts.sum())
    return total, [100 * e / total for e in equal], needed / total


def together(ran, rows, draws=20000):
    """The mean over random steps of `rows` rows, by whole documents, of the most layers that one of them ran."""
    rng = random.Random(1)
    steps = [max(step) for document in ran for step in document]
    beams = max(len(step) for step in ran[0])
    return statistics.mean(max(rng.choices(steps, k=max(1, rows // beams))) for _ in range(draws))


def checks(ran, exits, layers):
    """Products with the vocabulary a token, the one that it is chosen by included."""
    each = [layer for document in ran for step in document for layer in step]
    return statistics.mean(sum(x <= r for x in exits.after) + (r == layers) for r in each)


def engine_times(a, texts, beams, out, rows):
    """Milliseconds a document of encoding, the decoder's layers and the vocabulary, by engine_bench: of each round."""
    path = f"{a.work}/early_exit_ids.jsonl"
    some = random.Random(1).sample(texts.rows, min(256, len(texts.rows)))
    with open(path, "w") as file:
        for row in some:
            json.dump(texts.tokenizer(row["prompt"], truncation=True, max_length=rouge.MAX_SOURCE)["input_ids"], file)
            file.write("\n")
    command = [a.engine_bench, rouge.MODEL, path, "--documents", "256", "--beams", beams, "--out", out, "--max-rows", rows,
               "--memory-gib", "0.5", "--warm-documents", "4", "--precision", a.precision]
    processor = [max(os.sched_getaffinity(0))]  # one thread, which does not wait for others on a busy machine
    seen = []
    for _ in range(a.rounds):
        text = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True, timeout=1200,
                              preexec_fn=lambda: os.sched_setaffinity(0, processor)).stdout
        seen.append([float(x) for x in re.search(r"encode ([\d.]+) +decode ([\d.]+) +vocabulary\+select ([\d.]+)", text).groups()])
    return seen, text.split("\n")[1].partition(" (")[0]


def engine_shares(a, texts, beams, out, rows):
    """The shares of encoding, layers and vocabulary, and the layers' in each round."""
    seen, how = engine_times(a, texts, beams, out, rows)
    # The median of shares: what else the machine does slows all three alike, in the mean.
    each = [[x / sum(s) for x in s] for s in seen]
    medians = [statistics.median(column) for column in zip(*each)]
    return [m / sum(medians) for m in medians], sorted(s[1] for s in each), how


def bounds(share, layers):
    """Cells: documents a second if all tokens leave after layer 1 and checks are free; and, with one check which costs what the vocabulary
    does now, the percentage of tokens that has to leave after each layer for WANTED."""
    _, decode, vocabulary = share
    cells = [f"{1 / (1 - decode * (layers - 1) / layers):.2f}x"]
    for layer in range(1, layers):
        saved = decode * (layers - layer) / layers
        left = (1 - 1 / WANTED + vocabulary) / (saved + vocabulary)
        cells.append(f"{layer}: {100 * left:.0f} %" if left <= 1 else f"{layer}: never")
    return f"{cells[0]} | {', '.join(cells[1:])}"


def analytic(config, source, at):
    """Of one row's step: multiplications of a layer in the K/V form and in EL's, of the vocabulary, of the keys and values that copying
    takes a layer. `source`: tokens of the document, `at`: of the answer so far."""
    d, f, heads = config.d_model, config.decoder_ffn_dim, config.decoder_attention_heads
    return {"layer, kv": 6 * d * d + 2 * d * f + 2 * d * (source + at), "layer, el": 8 * d * d + 2 * d * f + 2 * d * heads * (source + at),
            "vocabulary": d * config.vocab_size, "copy, kv": 2 * d * d,
            "bytes of a layer": 2 * (6 * d * d + 2 * d * f), "bytes of the vocabulary": 2 * d * config.vocab_size}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work", default=f"{rouge.ROOT}/build/rouge", help="folder for texts and transformers' answers; rouge.py's")
    ap.add_argument("--limit", type=int, default=0, help="at most so many texts of each task, spread over all lengths")
    ap.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    ap.add_argument("--thresholds", nargs="+", default=DEFAULT, metavar="MEASURE:THRESHOLD[@LAYERS]", help=" ".join(DEFAULT))
    ap.add_argument("--engine-bench", help="measure the shares of time by this program; else no part 2 and no bounds")
    ap.add_argument("--precision", default="auto", help="of engine_bench")
    ap.add_argument("--rounds", type=int, default=3, help="of engine_bench")
    a = ap.parse_args()
    os.makedirs(a.work, exist_ok=True)
    import torch
    from rouge_score import rouge_scorer
    torch.set_num_threads(1)
    reference = rouge.Reference(a.work)
    model = reference.model("float32")
    settings, decoder = model.generation_config, Decoder(torch, model)
    layers = len(decoder.layers)
    rules = [Exits(t, layers) for t in a.thresholds]
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    tasks = {"summaries": Texts(a, reference, "sum"), "questions": Texts(a, reference, "qg")}
    print(f"{datetime.date.today()}, {harness.processor()}; "
          + ", ".join(f"{len(texts.rows)} {task}" for task, texts in tasks.items()), flush=True)
    cases = [(task, beams) for task in tasks for beams in a.beams]
    full, shares, lines = {}, {}, []
    with torch.inference_mode():
        heads = " | ".join(f"layer {i + 1}" for i in range(layers - 1))
        print(f"\n| answers | as transformers' | tokens | {heads} | oracle's layers a token |")
        print("| --- " * (layers + 3) + "|")
        for task, beams in cases:
            texts = tasks[task]
            full[task, beams] = answers, _ = decode_all(texts, decoder, settings, beams, None)
            total, equal, needed = forced_row(texts, decoder, answers, settings)
            some = range(0, len(answers), max(1, len(answers) // 32))
            ids, mask = texts.ids(some)
            theirs = model.generate(input_ids=ids, attention_mask=mask, num_beams=beams, early_stopping=beams > 1 or None)
            same = sum(texts.text(answers[i]) == texts.text(t) for i, t in zip(some, theirs))
            print(f"| {task}, {beams} beam{'s' * (beams > 1)} | {same} of {len(some)} | {total} | "
                  + " | ".join(f"{e:.1f} %" for e in equal[:-1]) + f" | {needed:.2f} |", flush=True)

        for task, texts in tasks.items():
            source = statistics.mean(len(texts.tokenizer(r["prompt"])["input_ids"]) for r in texts.rows)
            outs = {beams: round(statistics.mean(map(len, full[task, beams][0]))) for beams in a.beams}
            numbers = analytic(model.config, round(source), statistics.mean(outs.values()) / 2)
            print(f"\n{task}: {source:.0f} tokens a source, " + ", ".join(f"{o} an answer (beams {b})" for b, o in outs.items())
                  + "; thousands a row and step: " + ", ".join(f"{name} {value / 1000:.0f}" for name, value in numbers.items()))
            for beams, out in outs.items() if a.engine_bench else ():
                for rows in (beams, 32):
                    share, rounds, how = engine_shares(a, texts, beams, out, rows)
                    shares[task, beams, rows] = share
                    lines.append(f"| {task}, {beams} beam{'s' * (beams > 1)} | {rows} | {100 * share[0]:.0f} % | {100 * share[1]:.0f} % "
                                 f"({', '.join(f'{100 * r:.0f}' for r in rounds)}) | {100 * share[2]:.0f} % | {bounds(share, layers)} |")
        for name, (times, its_layers) in LARGER.items() if lines else ():
            share = [x / sum(times) for x in times]
            lines.append(f"| {name} | full | " + " | ".join(f"{100 * x:.0f} %" for x in share) + f" | {bounds(share, its_layers)} |")
        if lines:
            print(f"\n{how}, {a.rounds} rounds, one thread; BART-base: README.md's figures\n\n| answers | rows in a step | encode | layers (in "
                  f"each round) | vocabulary | all leave after layer 1, checks free | to leave at one check after layer n, for {WANTED}x |\n"
                  + "| --- " * 7 + "|\n" + "\n".join(lines), flush=True)

        print("\n| answers | exits | ROUGE-1, 2, L | ROUGE-L less the full model's | tokens as the full model's | texts | layers a token | "
              "products with the vocabulary a token | layers of a step of 32 rows | documents a second, checks free: alone, 32 rows | "
              "checks paid |\n" + "| --- " * 11 + "|")
        for task, beams in cases:
            texts, (whole, whole_ran) = tasks[task], full[task, beams]
            for exits in [None] + rules:
                answers, ran = decode_all(texts, decoder, settings, beams, exits) if exits else (whole, whole_ran)
                scores = rouge_of(scorer, texts, answers)
                base = scores if exits is None else base
                mean = statistics.mean(layer for document in ran for step in document for layer in step)
                asked = checks(ran, exits, layers) if exits else 1
                cells = [f"{task}, {beams} beam{'s' * (beams > 1)}", exits.text if exits else "none", ", ".join(f"{s:.2f}" for s in scores),
                         f"{scores[2] - base[2]:+.2f}", f"{agreement(whole, answers):.1f} %",
                         f"{100 * statistics.mean(x == y for x, y in zip(whole, answers)):.1f} %", f"{mean:.2f}", f"{asked:.2f}",
                         f"{together(ran, 32):.2f}"]
                for products in (1, asked):
                    all_shares = [shares[task, beams, rows] for rows in (beams, 32)] if shares else []
                    cells.append(", ".join(f"{1 / (encode + layer * mean / layers + vocabulary * products):.2f}x"
                                           for encode, layer, vocabulary in all_shares))
                print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
