"""Compares the served debian-synopsis with transformers on held-out texts.

Usage, in an environment with rouge_requirements.txt:
  python3 rouge.py --elserve BINARY [--work DIR] [--limit N]    starts a server in float32, then one in bfloat16
  python3 rouge.py --server HOST:PORT [--work DIR] [--limit N]  asks a server that runs

Texts: the test split of models/debian-synopsis/training/prepare.py over Debian's package descriptions, which apt-get fetches
into DIR once. Each is sent as a user would send it (Summarize, GenerateQuestions), many at a time; transformers decodes
the same prompts in float32 on the CPU, and its answers are kept in DIR for the next run. Parameters: the checkpoint's.

It prints, for each precision, the share of texts equal to transformers', and ROUGE-L of both sides. It fails if in float32 fewer
than 99.9 % are equal, or in bfloat16 ROUGE-L is more than 0.2 away from transformers'.
"""
import argparse
import glob
import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = f"{ROOT}/models/debian-synopsis"
PREFIX, MARK = "generate question: ", "<hl>"
MAX_SOURCE = 1024
EQUAL_AT_LEAST, ROUGE_WITHIN = 99.9, 0.2


def fetch_pairs(work):
    """The test split: {task, source, target} each."""
    path, lists = f"{work}/pairs.jsonl", f"{work}/lists"
    if not os.path.exists(path):
        if not glob.glob(f"{lists}/*Translation-en*"):
            print("fetching Debian's package descriptions", flush=True)
            os.makedirs(f"{lists}/partial", exist_ok=True)
            options = ["Acquire::Languages=en", f"Dir::State::Lists={lists}", "Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache=",
                       "APT::Sandbox::User=root"]
            subprocess.run(["apt-get", *(x for o in options for x in ("-o", o)), "-qq", "update"], check=True)
        subprocess.run([sys.executable, f"{MODEL}/training/prepare.py", lists, path + ".part"], check=True)
        os.rename(path + ".part", path)
    return [row for row in map(json.loads, open(path)) if row["split"] == "test"]


class Reference:
    """transformers in float32, with its answers kept in a file."""

    def __init__(self, work):
        import torch
        import transformers
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.torch, self.transformers = torch, transformers
        weights = hashlib.sha256(open(f"{MODEL}/model.safetensors", "rb").read()).hexdigest()[:16]
        self.path = f"{work}/transformers-{transformers.__version__}-{weights}.json"
        self.kept = json.load(open(self.path)) if os.path.exists(self.path) else {}
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
        self.models = {}

    def model(self, dtype):
        if dtype not in self.models:
            model = self.transformers.BartForConditionalGeneration.from_pretrained(MODEL, dtype=self.torch.float32,
                                                                                   attn_implementation="eager")
            self.models[dtype] = model.to(getattr(self.torch, dtype)).eval()
        return self.models[dtype]

    def length(self, prompt):
        return len(self.tokenizer(prompt)["input_ids"])

    def generate(self, prompts, dtype="float32"):
        x = self.tokenizer(prompts, truncation=True, max_length=MAX_SOURCE, padding=True, return_tensors="pt")
        with self.torch.inference_mode():
            y = self.model(dtype).generate(input_ids=x["input_ids"], attention_mask=x["attention_mask"])
        return self.tokenizer.batch_decode(y, skip_special_tokens=True)

    def answers(self, prompts):
        """All prompts, 32 of like length at once: what padding there is, the encoder's mask hides."""
        missing = sorted({p for p in prompts if p not in self.kept}, key=len)
        begin = time.time()
        for i in range(0, len(missing), 32):
            part = missing[i:i + 32]
            self.kept.update(zip(part, self.generate(part)))
            self.save()  # a run that is cut short goes on from here
            print(f"\rtransformers: {i + len(part)} of {len(missing)}, {time.time() - begin:.0f} s", end="", flush=True)
        if missing:
            print()
        return [self.kept[p] for p in prompts]

    def save(self):
        json.dump(self.kept, open(self.path + ".part", "w"))
        os.rename(self.path + ".part", self.path)

    def settle(self, prompt, got):
        """Asks again for one text alone: a batch rounds otherwise than a single request. Returns the reference's answer and
        whether rounding decides it (float64 answers otherwise)."""
        self.kept[prompt] = self.generate([prompt])[0]
        return self.kept[prompt], self.kept[prompt] != got and self.generate([prompt], "float64")[0] != self.kept[prompt]


def stubs(work):
    """Modules made from proto/."""
    out = f"{work}/stubs"
    os.makedirs(out, exist_ok=True)
    files = [os.path.relpath(p, f"{ROOT}/proto") for p in sorted(glob.glob(f"{ROOT}/proto/elserve/v1/*.proto"))]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}/proto", f"--python_out={out}", f"--grpc_python_out={out}", *files],
                   check=True)
    sys.path.insert(0, out)
    from elserve.v1 import elserve_pb2, elserve_pb2_grpc
    return elserve_pb2, elserve_pb2_grpc


class Server:
    """A server of the embedded model on a free port, for the time of a `with`."""

    def __init__(self, binary, precision, work, keys=None):
        """`keys`: of the model's configuration, beside those below."""
        self.binary, self.precision, self.work, self.keys = binary, precision, work, keys or {}

    def __enter__(self):
        config, port_file = f"{self.work}/{self.precision}.yaml", f"{self.work}/{self.precision}.port"
        with open(config, "w") as out:
            json.dump({  # JSON is YAML
                "server": {"listen": "127.0.0.1:0", "ops_listen": ""},
                "models": [{"name": "debian-synopsis", "path": MODEL, "device": "cpu", "precision": self.precision, "memory": "1GiB",
                            "tasks": {"summarize": {"prefix": ""},
                                      "questions": {"format": "highlight", "prefix": PREFIX, "highlight": MARK}}} | self.keys],
            }, out)
        if os.path.exists(port_file):
            os.remove(port_file)
        self.log = open(f"{self.work}/{self.precision}.log", "w")
        self.process = subprocess.Popen([self.binary, "serve", "--config", config, "--port-file", port_file],
                                        stdout=self.log, stderr=subprocess.STDOUT)
        while not os.path.exists(port_file):  # it appears whole, once the server serves
            if self.process.poll() is not None:
                sys.exit(f"the server ended with {self.process.returncode}, see {self.log.name}")
            time.sleep(0.1)
        return f"127.0.0.1:{open(port_file).read().split()[0]}"

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def ask(address, rows, modules):
    """What the server says to each row, and the model as it describes it."""
    import grpc
    pb, rpc = modules
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(64) as threads:
        service = rpc.GenerationServiceStub(channel)
        models = service.ListModels(pb.ListModelsRequest()).models

        def one(row):
            if row["task"] == "sum":
                return service.Summarize(pb.SummarizeRequest(document=row["source"], truncation=pb.TRUNCATION_TRUNCATE)).hypotheses[0].text
            before, answer, after = row["source"].split(MARK)
            answer = answer[1:-1]  # the format's blanks
            begin = len(before.encode())
            span = pb.Span(begin=begin, end=begin + len(answer.encode()))
            request = pb.GenerateQuestionsRequest(context=before + answer + after, answers=[pb.Answer(span=span)])
            return service.GenerateQuestions(request).questions[0].hypotheses[0].text

        begin = time.time()
        texts = list(threads.map(one, rows))
        return texts, models[0], time.time() - begin


def usable(rows, reference):
    """Those that make sense to ask, with their prompts. A question whose prompt would be cut might lose its answer: the server
    refuses to guess."""
    for row in rows:
        row["prompt"] = (PREFIX if row["task"] == "qg" else "") + row["source"]
    return [r for r in rows if r["source"].count(MARK) == (2 if r["task"] == "qg" else 0)
            and (r["task"] == "sum" or reference.length(r["prompt"]) <= MAX_SOURCE)]


def rouge_l(scorer, rows, texts, task):
    scores = [scorer.score(r["target"], t)["rougeL"].fmeasure for r, t in zip(rows, texts) if r["task"] == task]
    return 100 * sum(scores) / len(scores)


def compare(rows, got, model, seconds, reference, scorer):
    """Prints one server's figures; returns whether they are as they should be."""
    prompts = [r["prompt"] for r in rows]
    expected = reference.answers(prompts)
    for i, prompt in enumerate(prompts):
        if got[i] != expected[i] and model.precision == "float32":
            expected[i], rounding = reference.settle(prompt, got[i])
            if got[i] != expected[i]:
                print(f"  differs{' (so does float64)' if rounding else ''}: {rows[i]['name']}: {got[i]!r}, transformers {expected[i]!r}")
    reference.save()
    equal = 100 * sum(a == b for a, b in zip(got, expected)) / len(rows)
    print(f"{model.precision} (attention {model.attention}, {model.device_name}): {len(rows)} texts in {seconds:.1f} s, "
          f"{equal:.2f} % equal to transformers' float32")
    good = equal >= EQUAL_AT_LEAST if model.precision == "float32" else True
    for task, name in (("sum", "summaries"), ("qg", "questions")):
        if any(r["task"] == task for r in rows):
            ours, theirs = rouge_l(scorer, rows, got, task), rouge_l(scorer, rows, expected, task)
            print(f"  ROUGE-L of {name}: {ours:.2f}, transformers {theirs:.2f}")
            good = good and abs(ours - theirs) <= ROUGE_WITHIN
    return good


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = ap.add_mutually_exclusive_group(required=True)
    where.add_argument("--elserve", help="the program; it is started on free ports")
    where.add_argument("--server", help="host:port of a server that runs with the checkpoint's parameters")
    ap.add_argument("--work", default=f"{ROOT}/build/rouge", help="folder for texts, stubs, logs and transformers' answers")
    ap.add_argument("--limit", type=int, default=0, help="at most so many texts, spread over all")
    a = ap.parse_args()
    os.makedirs(a.work, exist_ok=True)
    from rouge_score import rouge_scorer
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    reference = Reference(a.work)
    rows = usable(fetch_pairs(a.work), reference)
    if a.limit and a.limit < len(rows):
        rows = [rows[i * len(rows) // a.limit] for i in range(a.limit)]
    modules = stubs(a.work)
    good = True
    if a.server:
        good = compare(rows, *ask(a.server, rows, modules), reference, scorer)
    else:
        for precision in ("float32", "bfloat16"):
            with Server(a.elserve, precision, a.work) as address:
                answer = ask(address, rows, modules)
            good = compare(rows, *answer, reference, scorer) and good
    sys.exit(0 if good else "FAILED: see the limits above (rouge.py --help)")


if __name__ == "__main__":
    main()
