"""Golden prompts of the question formats, and outputs of models that ask on their own: question_prompts.json.

Each function says what the project that trained such checkpoints gives its models, or makes of what they write; its
docstring says where that stands. Nothing but Python: python3 tests/golden/make_question_prompts.py
"""

import json
import pathlib

OUT = pathlib.Path(__file__).parent / "question_prompts.json"
VALHALLA = "github.com/patil-suraj/question_generation: "
LMQG = "github.com/asahi417/lm-question-generation: "


def valhalla_highlight(context, begin, end):
    """data/squad_multitask/squad_multitask.py, process_qg_text, highlight; valhalla/t5-base-qg-hl"""
    return f"generate question: {context[:begin]} <hl> {context[begin:end]} <hl> {context[end:]}"


def lmqg_highlight(context, begin, end):
    """lmqg/language_model.py, EncodePlus.encode_plus with prefix_type qg; lmqg/t5-base-squad-qg"""
    return "generate question: " + lmqg_bart_highlight(context, begin, end)


def lmqg_bart_highlight(context, begin, end):
    """lmqg/language_model.py, EncodePlus.encode_plus without add_prefix; lmqg/bart-base-squad-qg"""
    return "{0}{1} {2} {1}{3}".format(context[:begin], "<hl>", context[begin:end], context[end:])


def bare_highlight(context, begin, end):
    """marks alone, with no space of their own"""
    return context[:begin] + "[HL]" + context[begin:end] + "[HL]" + context[end:]


def valhalla_prepend(context, begin, end):
    """data/squad_multitask/squad_multitask.py, process_qg_text, prepend; valhalla/t5-base-qg-prepend"""
    return f"answer: {context[begin:end]}  context: {context}"


def valhalla_prepend_pipeline(context, begin, end):
    """pipelines.py, _prepare_inputs_for_qg_from_answers_prepend: one space only"""
    return f"answer: {context[begin:end]} context: {context}"


def iarfmoose(context, begin, end):
    """the model card of iarfmoose/t5-base-question-generator"""
    return f"<answer> {context[begin:end]} <context> {context}"


def answer_sep_context(context, begin, end):
    """BERT's way to join two texts, kept by checkpoints of BART"""
    return f"{context[begin:end]} [SEP] {context}"


def context_first(context, begin, end):
    """the other order, with braces"""
    return f"{{context: {context}}} {{answer: {context[begin:end]}}}"


def valhalla_end_to_end(context, begin, end):
    """pipelines.py, _prepare_inputs_for_e2e_qg; valhalla/t5-base-e2e-qg"""
    return f"generate questions: {context}"


def lmqg_end_to_end(context, begin, end):
    """lmqg/language_model.py, generate_qa_end2end with add_prefix; lmqg/t5-base-squad-qag"""
    return f"generate question and answer: {context}"


def with_suffix(context, begin, end):
    """what stood behind T5's texts before its tokenizer added it"""
    return f"{context} </s>"


PROMPTS = [
    (valhalla_highlight, VALHALLA, {"format": "highlight", "spaces": "both"}),
    (lmqg_highlight, LMQG, {"format": "highlight"}),
    (lmqg_bart_highlight, LMQG, {"format": "highlight", "prefix": "", "spaces": "inside"}),
    (bare_highlight, "", {"format": "highlight", "prefix": "", "highlight": "[HL]", "spaces": "none"}),
    (valhalla_prepend, VALHALLA, {"format": "template", "template": "answer: {answer}  context: {context}"}),
    (valhalla_prepend_pipeline, VALHALLA, {"format": "template", "template": "answer: {answer} context: {context}"}),
    (iarfmoose, "", {"format": "template", "template": "<answer> {answer} <context> {context}"}),
    (answer_sep_context, "", {"format": "template", "template": "{answer} [SEP] {context}"}),
    (context_first, "", {"format": "template", "template": "{{context: {context}}} {{answer: {answer}}}"}),
    (valhalla_end_to_end, VALHALLA, {"format": "end_to_end", "prefix": "generate questions: "}),
    (lmqg_end_to_end, LMQG, {"format": "end_to_end", "prefix": "generate question and answer: "}),
    (with_suffix, "", {"format": "end_to_end", "prefix": "", "suffix": " </s>"}),
]

# Contexts with the answer between two bars.
CONTEXTS = [
    "|42| is the answer to life, the universe and everything.",
    "Vim is an editor by |Bram Moolenaar|.",
    "Vim is an editor by |Bram Moolenaar|, who wrote it for the Amiga.\n\nIt has many modes.\n",
    "|all of it|",
    "L'été, |où| les élèves naïfs s'ennuient",
    "日本の首都は|東京|です。富士山は高い。",
    "Ein Text mit |😀 und 🇩🇪| darin",
    "set of {answer} and |{context}| in braces {{}}",
    "  spaces |around|  ",
    "עברית |שלום| עולם",
]


def valhalla_questions(output):
    """pipelines.py, E2EQGPipeline.__call__: what stands behind the last separator is no question"""
    return [[question.strip(), ""] for question in output.split("<sep>")[:-1]]


def lmqg_questions(output):
    """lmqg/language_model.py, format_qa of generate_qa_end2end"""
    pairs = []
    for item in output.split("|"):
        question, answer = item.split(", answer: ")
        pairs.append([question.replace("question: ", "").strip(), answer.strip()])
    return pairs


OUTPUTS = [
    (valhalla_questions, VALHALLA, {"format": "end_to_end"}, [
        "Who wrote Vim? <sep> What is Vim? <sep>",
        "Who wrote Vim?<sep>What is Vim?<sep> ",
        " 東京はどこですか?<sep> Où? <sep>",
        "One?<sep>",
        "",
    ]),
    (lmqg_questions, LMQG, {"format": "end_to_end", "separator": "|", "item": "question: {question}, answer: {answer}"}, [
        "question: Who wrote Vim?, answer: Bram Moolenaar | question: What is Vim?, answer: an editor",
        "question: Who wrote Vim?, answer: Bram Moolenaar|question:  What is Vim? , answer:  an editor ",
        "question: 日本の首都は?, answer: 東京 | question: Où, vraiment?, answer: là-bas, à l'été",
    ]),
]


def main():
    prompts = []
    for formula, project, keys in PROMPTS:
        for marked in CONTEXTS:
            before, answer, behind = marked.split("|")
            context = before + answer + behind
            begin = len(before)
            if keys["format"] == "highlight":
                assert keys.get("highlight", "<hl>") not in context
            prompts.append({
                "source": project + formula.__doc__,
                "keys": keys,
                "context": context,
                "begin": len(before.encode()),
                "end": len((before + answer).encode()),
                "prompt": formula(context, begin, begin + len(answer)),
            })
    outputs = [{"source": project + read.__doc__, "keys": keys, "output": output, "questions": read(output)}
               for read, project, keys, texts in OUTPUTS for output in texts]
    lists = {"prompts": prompts, "outputs": outputs}
    with OUT.open("w", encoding="utf-8") as file:
        file.write("{" + ",\n".join(
            f'"{name}": [\n' + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]"
            for name, cases in lists.items()) + "}\n")


if __name__ == "__main__":
    main()
