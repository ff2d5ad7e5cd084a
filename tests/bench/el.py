"""What EL-attention gains over keys and values: the part `el` of run.py. README.md here says what its tables mean."""
import json
import math
import os
import statistics
import subprocess
import sys
import threading

import harness
from harness import markdown

# Form -> attention of the engine, and whether each beam is a document of its own.
FORMS = {"per-beam K/V": ("kv", True), "shared K/V": ("kv", False), "EL": ("el", False)}
# Search -> beams, engine_bench's --decoding.
SEARCHES = {"1": (1, "plain"), "4": (4, "plain"), "8": (8, "plain"), "diverse": (4, "diverse")}
SIZES = ("base", "large")
SOURCES = (256, 512, 1024)
MOST_ROWS = 128  # beyond them more rows raise a processor's throughput little
EQUAL = 8  # documents of the equal batch
STATE_BYTES = 2  # bfloat16
PAGE, BLOCK = 64, 16  # source tokens and decoder positions that memory is given out by


def reserved_bytes(form, config, source, beams, out):
    """(encoder memory, decoder cells) of a document by the formula: n d s for EL, 2 L n d s for shared keys and values, b times
    that for those of each beam; and for each decoder position L d s or 2 L d s. `out` positions each beam, since the last token
    is not fed."""
    attention, own = FORMS[form]
    layers, d = config["decoder_layers"], config["d_model"]
    copies, rows = (beams, 1) if own else (1, beams)
    numbers = 2 * layers * d if attention == "kv" else d
    cell_numbers = layers * d * (2 if attention == "kv" else 1)
    encoder = copies * math.ceil(source / PAGE) * PAGE * numbers * STATE_BYTES
    return encoder, copies * math.ceil(rows * out / BLOCK) * BLOCK * cell_numbers * STATE_BYTES


class Engine:
    """An engine_bench that stays for the time of a `with`, and measures what it is asked for."""

    def __init__(self, binary, model, attention, encoder_tokens, out, timeout):
        decoder_tokens = MOST_ROWS * math.ceil(out / BLOCK) * BLOCK
        self.timeout = timeout
        self.command = [str(word) for word in (
            binary, model, "--device", "cpu", "--precision", "bfloat16", "--attention", attention, "--json", "--more",
            "--max-rows", MOST_ROWS, "--max-decoder-tokens", out + 1, "--encoder-memory-tokens", encoder_tokens,
            "--decoder-memory-tokens", max(out + BLOCK, decoder_tokens))]

    def __enter__(self):
        self.process = harness.start(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        harness.stop(self.process, 2)

    def ask(self, **run):
        self.process.stdin.write(json.dumps(run) + "\n")
        self.process.stdin.flush()
        limit = threading.Timer(self.timeout, self.process.kill)
        limit.start()
        line = self.process.stdout.readline()
        limit.cancel()
        if not line:
            raise RuntimeError(f"{' '.join(self.command)} ended, or took more than {self.timeout:g} s for {run}")
        return json.loads(line)


class Case:
    """One source length and search: batches that each form gets, and documents a second of each, round by round."""

    def __init__(self, a, config, source, search):
        self.source = source
        self.beams, self.decoding = SEARCHES[search]
        self.reserved = {form: reserved_bytes(form, config, source, self.beams, a.out) for form in FORMS}
        self.fit = {form: (a.el_memory << 20) // sum(self.reserved[form]) for form in FORMS}
        self.equal = min(EQUAL, a.docs, MOST_ROWS // self.beams)
        most = {form: min(fit, a.docs, MOST_ROWS // self.beams) for form, fit in self.fit.items()}
        # What memory allows is tried at its greatest, and at the equal batch.
        self.tried = {form: sorted({most[form], min(self.equal, most[form])} - {0}) for form in FORMS}
        self.rates = {form: {} for form in FORMS}  # batch -> of each round

    def same(self, form):
        """The equal batch, whatever the form."""
        return self.equal

    def best(self, form):
        """The batch that was best in the first round; 0: memory has no room for one document."""
        return max(self.tried[form], key=lambda batch: self.rates[form][batch][0], default=0)

    def batches(self, form, round_number):
        wanted = set(self.tried[form]) if round_number == 0 else {self.best(form)} - {0}
        return sorted(wanted | {self.equal})

    def documents(self, form, batch):
        """That the engine gets for a batch."""
        return batch * self.beams if FORMS[form][1] else batch

    def most_documents(self, attention):
        return max(self.documents(form, max(self.tried[form] + [self.equal])) for form in FORMS if FORMS[form][0] == attention)

    def measure(self, form, engine, batch, out):
        """Seconds of all steps of a batch whose documents are encoded already."""
        own = FORMS[form][1]
        done = engine.ask(documents=self.documents(form, batch), source=self.source, beams=1 if own else self.beams,
                          decoding="plain" if own else self.decoding, out=out)
        copies = self.beams if own else 1
        found = tuple(copies * done[f"{side}_bytes_per_document"] for side in ("encoder", "decoder"))
        if found != self.reserved[form]:
            raise RuntimeError(f"{form}: the engine reserves {found} bytes for a document, the formula says {self.reserved[form]}")
        if done["encoded_tokens"] != 0 or done["steps"] != out:
            raise RuntimeError(f"{form}: {batch} documents were not all decoded at once, and nothing else done: {done}")
        return done["seconds"]

    def ratio(self, other, batch_of):
        """EL to another form, each at its `same` or its `best` batch: the median of the rounds' ratios. None where memory has no
        room for one document."""
        ours, theirs = batch_of(self, "EL"), batch_of(self, other)
        if not ours or not theirs:
            return None
        return statistics.median(x / y for x, y in zip(self.rates["EL"][ours], self.rates[other][theirs]))

    def ratio_text(self, other, batch_of):
        value = self.ratio(other, batch_of)
        return "-" if value is None else ("≥ " if self.bound(other) else "") + f"{value:.2f}x"

    def bound(self, form):
        """Whether a form's rates are only known not to be passed: groups of beams cannot be spread over documents, so what is
        measured of them is as many plain rows, whose logits nobody ranks on the host."""
        return FORMS[form][1] and self.decoding == "diverse"

    def rate_text(self, form, batch_of):
        batch = batch_of(self, form)
        if not batch:
            return "-"
        text = ("≤ " if self.bound(form) else "") + f"{statistics.median(self.rates[form][batch]):.2f}"
        return f"{text} ({batch})" if batch_of is Case.best else text

    def name(self):
        return [self.source, f"diverse, {self.beams}" if self.decoding == "diverse" else self.beams]


class Gains:
    """The tables of one model."""

    def __init__(self, a, quiet, model):
        self.a, self.quiet, self.model = a, quiet, model
        self.config = json.load(open(f"{model}/config.json"))
        self.cases = {source: [Case(a, self.config, source, search) for search in a.searches] for source in a.sources}
        self.encoding = {}  # (source, attention) -> seconds a document, of each round

    def sample(self, source):
        """Documents whose encoding a round measures."""
        return max(2, 4096 // source)

    def engine(self, attention):
        tokens = max(source * (max(c.most_documents(attention) for c in cases) + self.a.rounds * self.sample(source))
                     for source, cases in self.cases.items())
        return Engine(f"{self.a.build}/tests/bench/engine_bench", self.model, attention, tokens + PAGE, self.a.out, 4 * self.a.timeout)

    def run(self):
        with self.engine("kv") as kv, self.engine("el") as el:
            engines = {"kv": kv, "el": el}
            for source, cases in self.cases.items():
                for attention, engine in engines.items():
                    engine.ask(documents=max(c.most_documents(attention) for c in cases), source=source, beams=1, out=1)
                for round_number in range(self.a.rounds):
                    self.round(engines, source, cases, round_number)
                print(f"  {os.path.basename(self.model)}, sources of {source} tokens done", file=sys.stderr, flush=True)
        return self

    def round(self, engines, source, cases, number):
        self.quiet.wait()
        for attention, engine in engines.items():  # documents that are new
            done = engine.ask(documents=self.sample(source), source=source, beams=1, out=1, seed=1000 + number)
            self.encoding.setdefault((source, attention), []).append(done["encode_seconds"] / self.sample(source))
        for case in cases:
            self.quiet.wait()
            for form, (attention, _) in FORMS.items():
                for batch in case.batches(form, number):
                    seconds = case.measure(form, engines[attention], batch, self.a.out)
                    rate = 1 / (self.encoding[source, attention][number] + seconds / batch)
                    case.rates[form].setdefault(batch, []).append(rate)

    def summary(self, other):
        """From the least to the greatest of all cases: how many more documents EL holds, and how many more a second it makes."""
        all_cases = [case for cases in self.cases.values() for case in cases]
        in_flight = [case.fit["EL"] / case.fit[other] for case in all_cases if case.fit[other]]
        words = [f"in flight {min(in_flight):.1f}x to {max(in_flight):.1f}x"] if in_flight else []
        for name, batch_of in (("at the equal batch", Case.same), ("at each one's best", Case.best)):
            ratios = [case.ratio(other, batch_of) for case in all_cases if not case.bound(other)]
            known = [ratio for ratio in ratios if ratio is not None]
            if known:
                words.append(f"documents a second {name} {min(known):.2f}x to {max(known):.2f}x")
        return f"- EL to {other}, from the least to the greatest: {'; '.join(words)}."

    def tables(self, title):
        others = [form for form in FORMS if form != "EL"]
        memory, speed, encoding = [], [], []
        for source, cases in self.cases.items():
            encoding.append([source, *(f"{1e3 * statistics.median(self.encoding[source, attention]):.0f}" for attention in ("kv", "el"))])
            for case in cases:
                size = {form: sum(case.reserved[form]) for form in FORMS}
                memory.append(case.name() + [" + ".join(f"{x / 2**20:.2f}" for x in case.reserved[form]) for form in FORMS] +
                              [f"{size[form] / size['EL']:.1f}x" for form in others] + [case.fit[form] for form in FORMS])
                speed.append(case.name() + [case.rate_text(form, Case.same) for form in FORMS] +
                             [case.ratio_text(form, Case.same) for form in others] +
                             [case.rate_text(form, Case.best) for form in FORMS] +
                             [case.ratio_text(form, Case.best) for form in others])
        equal = max(case.equal for cases in self.cases.values() for case in cases)
        return "\n\n".join([
            f"### {title}: memory",
            f"MiB that admission reserves for a document, encoder memory + decoder cells, bfloat16; and how many such documents "
            f"{self.a.el_memory} MiB hold.",
            markdown(["source", "beams", *(f"{form}, MiB" for form in FORMS), *(f"{form} to EL" for form in others),
                      *(f"{form}, in flight" for form in FORMS)], memory),
            f"### {title}: documents a second",
            f"With {equal} documents in flight in each form; and with each form's own best number (in brackets) of those that "
            f"{self.a.el_memory} MiB hold, at most {self.a.docs} documents and {MOST_ROWS} rows. Medians of {self.a.rounds} interleaved rounds.",
            markdown(["source", "beams", *(f"{form}, at {equal}" for form in FORMS), *(f"EL to {form}" for form in others),
                      *(f"{form}, best" for form in FORMS), *(f"EL to {form}" for form in others)], speed),
            "Milliseconds of that in which a document is encoded:",
            markdown(["source", "with keys and values", "EL"], encoding),
            "\n".join(self.summary(form) for form in others)])


def gains(a, quiet):
    """Markdown of the models that the arguments ask for."""
    out = []
    for size in a.sizes:
        model = a.model if size == "base" else f"{a.work}/bart-{size}"
        harness.make_model(model, size)
        out.append(Gains(a, quiet, model).run().tables(f"BART-{size}, {a.out} new tokens"))
    return "\n\n".join(out)
