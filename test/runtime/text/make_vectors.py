#!/usr/bin/env python3
"""Makes the tokenizer vectors of this directory, and checks a build against fresh ones.

A small tokenizer of every kind that MoE families use (split pattern, normalizer, pre-tokenizer, byte
fallback, added tokens) is trained with Hugging Face `tokenizers`; strings chosen to be awkward are
encoded and ids decoded with it.

    make_vectors.py --write DIR                 writes strings.json and KIND.json
    make_vectors.py --check PROGRAM [--seed N]  compares PROGRAM (tokenize_lines) on random strings

Needs the PyPI package `tokenizers`; without it --check exits with 77 (skipped).
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

try:
    import tokenizers
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers, processors, trainers
except ImportError:
    print("skipped: the Python package `tokenizers` is not installed")
    sys.exit(77)

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TIKTOKEN = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK3 = [r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
             r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
             r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]
DEEPSEEK2 = ["[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ]+",
             r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+"]
KIMI = "|".join([r"[\p{Han}]+",
                 r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
                 r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                 r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
                 r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                 r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])

CORPUS = [
    "The gate decides where the flow goes; it doesn't matter how many experts there are, they're all "
    "tried, and we'll see that they've 123 or 4567 tokens each. I'd say it's fine, I'm sure.",
    "def route(self, hidden_states):\n    scores = softmax(hidden_states @ self.weight.T)\n    return "
    "scores.topk(self.top_k)  # renormalise\n\n\nclass MoE(Module):\n\tpass\n",
    "Die Weiche entscheidet, wohin der Strom fließt. Größe, Übung, Straße. ¿Dónde está la compuerta? "
    "L'écluse décide où va le courant.",
    "水门决定水流向哪里。専門家は二人ずつ選ばれる。カタカナとひらがな。전문가를 선택한다.",
    "Шлюз решает, куда течёт вода. Η πύλη αποφασίζει. البوابة تقرر. השער מחליט. ประตูน้ำ",
    "https://example.org/a_b?c=d&e=%20f HTTPServer XMLHttpRequest camelCase SCREAMING_CASE x**2 != y",
]


def byte_level(name, pre, normalizer=None, post=None, added=(), ignore_merges=False, specials=(),
               decoder=True):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=460, show_progress=False, special_tokens=list(specials),
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(CORPUS * 3, trainer)
    tok.add_tokens([t for t in added if not t.special])
    tok.add_special_tokens([t for t in added if t.special])
    if post:
        tok.post_processor = post(tok)
    return tok


def splits(*patterns, last=None):
    steps = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    return pre_tokenizers.Sequence(
        steps + [last or pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def template(*tokens):
    def make(tok):
        single = " ".join(list(tokens) + ["$A"])
        return processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=single, pair=single + " $B",
                                          special_tokens=[(t, tok.token_to_id(t)) for t in tokens])])
    return make


def special(content, **flags):
    return AddedToken(content, special=True, normalized=flags.pop("normalized", False), **flags)


def sentencepiece(normalizer=None, pre=None, decoder=None, added=(), fuse_unk=True):
    """What converting a SentencePiece BPE model to tokenizer.json gives."""
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    base.train_from_iterator(CORPUS * 3, trainers.BpeTrainer(
        vocab_size=330, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"],
        limit_alphabet=90))
    trained = json.loads(base.to_str())["model"]
    vocab = {t: i for i, t in enumerate(
        ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)])}
    for token in trained["vocab"]:
        vocab.setdefault(token, len(vocab))
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m) for m in trained["merges"]],
                               unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=True))
    if normalizer:
        tok.normalizer = normalizer
    if pre:
        tok.pre_tokenizer = pre
    tok.decoder = decoder or decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    tok.add_special_tokens([special("<unk>"), special("<s>"), special("</s>")])
    tok.add_special_tokens([t for t in added if t.special])
    tok.add_tokens([t for t in added if not t.special])
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return tok


def llama_normalizer():
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def whitespace_tokens():
    """GPT-NeoX (OLMoE) adds runs of spaces as ordinary, normalized tokens."""
    return [AddedToken(" " * n, normalized=True, special=False) for n in range(8, 1, -1)]


KINDS = {
    "gpt2": lambda: byte_level(
        "gpt2", pre_tokenizers.ByteLevel(add_prefix_space=False), added=[special("<|endoftext|>")],
        post=lambda tok: processors.ByteLevel(trim_offsets=False)),
    "olmoe": lambda: byte_level(
        "olmoe", pre_tokenizers.ByteLevel(add_prefix_space=False), normalizer=normalizers.NFC(),
        added=whitespace_tokens() + [special("<|endoftext|>"), AddedToken("|||EMAIL|||", normalized=True)]),
    "granite": lambda: byte_level(
        "granite", pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                            pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        added=[special("<|end_of_text|>"), special("<|start_of_role|>"), special("<|end_of_role|>")]),
    "llama3": lambda: byte_level(
        "llama3", splits(CL100K), ignore_merges=True,
        specials=["<|begin_of_text|>", "<|eot_id|>"], post=template("<|begin_of_text|>")),
    "tiktoken": lambda: byte_level("tiktoken", splits(TIKTOKEN), added=[special("<|endoftext|>")]),
    "gpt_oss": lambda: byte_level(
        "gpt_oss", splits(O200K), ignore_merges=True,
        added=[special("<|start|>"), special("<|end|>"), special("<|message|>"),
               special("<|channel|>")]),
    "qwen2": lambda: byte_level(
        "qwen2", splits(QWEN2), normalizer=normalizers.NFC(),
        added=[special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>"),
               AddedToken("<think>", normalized=False, special=False),
               AddedToken("</think>", normalized=False, special=False)]),
    "deepseek_v3": lambda: byte_level(
        "deepseek_v3", splits(*DEEPSEEK3), specials=["<｜begin▁of▁sentence｜>", "<｜User｜>"],
        added=[AddedToken("<｜fim▁hole｜>", normalized=True, special=False)],
        post=template("<｜begin▁of▁sentence｜>")),
    "deepseek_v2": lambda: byte_level(
        "deepseek_v2", pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(p), "isolated") for p in DEEPSEEK2] +
            [pre_tokenizers.Digits(individual_digits=True),
             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        added=[special("<｜end▁of▁sentence｜>")]),
    "glm4": lambda: byte_level(
        "glm4", splits(CL100K), added=[special("[gMASK]"), special("<sop>"), special("<|user|>"),
                                       AddedToken("/nothink", normalized=False, single_word=True)],
        post=lambda tok: template("[gMASK]", "<sop>")(tok)),
    "kimi_k2": lambda: byte_level("kimi_k2", splits(KIMI), added=[special("<|im_end|>")]),
    "mixtral": lambda: sentencepiece(normalizer=llama_normalizer()),
    "phi35": lambda: sentencepiece(
        normalizer=llama_normalizer(),
        added=[special("<|endoftext|>"), special("<|assistant|>", rstrip=True),
               special("<|user|>", rstrip=True), special("<|end|>", rstrip=True),
               AddedToken("</x>", rstrip=True, normalized=True)]),
    "metaspace": lambda: sentencepiece(
        pre=pre_tokenizers.Metaspace(prepend_scheme="first", split=False), fuse_unk=False,
        added=[special("[INST]"), special("[/INST]", lstrip=True)]),
    "metaspace_split": lambda: sentencepiece(
        normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(left=False, right=True)]),
        pre=pre_tokenizers.Metaspace(prepend_scheme="always", split=True),
        decoder=decoders.Metaspace(prepend_scheme="always", split=True)),
    "rare": lambda: byte_level(
        "rare", pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(r"[\p{P}\p{Cn}[\h&&[^a-c]]]{1,2}+|^\t|\p{Lu}\P{L}$"),
                                 "merged_with_previous"),
            pre_tokenizers.Split(" - ", "removed"),
            pre_tokenizers.Split(Regex(r"\d+?|\S\W"), "merged_with_next", invert=True),
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]),
        normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase(),
                                         normalizers.Replace(Regex("x+"), "X"), normalizers.NFD()])),
}

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<s>", "</s>", "<unk>",
            "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜fim▁hole｜>", "[gMASK]", "<sop>", "<|user|>",
            "/nothink", "<|start|>", "<|message|>", "<|eot_id|>", "[INST]", "[/INST]", "<|end|>", "</x>",
            "<|assistant|>", "|||EMAIL|||", "<0x0A>", "<|"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x85", "\xa0", "\u1680", "\u180e", "\u2003",
          "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\u200d", "\ufeff", "    ", "▁"]
WORDS = ["a", "Hello", "world", "don't", "WE'LL", "it'S", "I'Ve", "camelCase", "HTTPServer", "ǅaǆ", "naïve",
         "cafe\u0301", "A\u030a", "ſ", "K", "ﬁne", "İstanbul", "ß", "１２３", "½", "Ⅷ", "²", "1234567890",
         "3.14", "水门", "専門家", "カナ", "ひら", "전문가", "\u1112\u1161\u11ab", "Шлюз", "πύλη", "بوابة",
         "שער", "ประตู", "हिन्दी", "👩\u200d👩\u200d👧", "🇩🇪", "é", "Ω", "𝒳𝓎", "𐐀𐐨", "Ꞌ", "\u0897",
         "\U00010d50", "\U0001e5d0", "\u1ac8\u0301", "\u0301\u0300", "__init__", "x**2", "://", "!!!", "...",
         "—", "«»", "$€₿", "+=<>", "^`", "\x00", "\x1b[0m", "\u00ad", "\ue000", "\U000e0001", "\u0378", "ˆ",
         "ʰ", "꙰", "ः", "⁀", "‿", "㋀", "㈱", "々", "〇", "ー", "゛", "〸", "-", " - ", "#"]


def by_category():
    groups = {}
    for c in range(0x110000):
        category = unicodedata.category(chr(c))
        if category != "Cs":
            groups.setdefault(category, []).append(chr(c))
    return groups


def random_string(rng, groups, words):
    parts = []
    for _ in range(rng.randint(1, words)):
        choice = rng.random()
        if choice < 0.45:
            parts.append(rng.choice(WORDS))
        elif choice < 0.65:
            parts.append(rng.choice(SPACES))
        elif choice < 0.72:
            parts.append(rng.choice(SPECIALS))
        elif choice < 0.75:
            parts.append(rng.choice("a1 .é\n水") * rng.randint(2, 9))
        else:
            group = groups[rng.choice(list(groups))]
            parts.append("".join(rng.choice(group) for _ in range(rng.randint(1, 3))))
    return "".join(parts)


def fixed_strings():
    rng = random.Random(20240607)
    groups = by_category()
    strings = ["", " ", "a", " a", "a ", "\n"]
    for category in sorted(groups):
        for _ in range(5):
            picks = [rng.choice(groups[category]) for _ in range(4)]
            strings.append(f"a{picks[0]}b {picks[1]}{picks[2]} {picks[3]}")
    for space in SPACES:
        strings += [space, f"a{space}{space}b", f"{space}1{space}", f"x{space}\n{space}y"]
    for unit in ["x", "X", " ", "\n", "1", "!", "é", "水", "\u0301", "ab", " a"]:
        strings.append(unit * 150)
    for token in SPECIALS:
        strings += [token, f"a {token} b", f"{token}{token}x  {token}"]
    strings += WORDS + CORPUS
    seen = set()
    strings = [s for s in strings if not (s in seen or seen.add(s))]
    while len(strings) < 640:
        strings.append(random_string(rng, groups, 6))
    return strings


ILL_FORMED = [b"\xff", b"a\x80b", b"\xc3", b"\xe6\xb0", b"\xf0\x9f\x91", b"\xe6\xb0a", b"\xed\xa0\x80",
              b"\xc0\xaf", b"\xf4\x90\x80\x80", b"ok \xf8\x88\x80\x80\x80 ok", b"\xe6\xb0\xb4\xe6\xb0",
              b"<|im_end|>\xfe<s>", b"\xef\xbf", b" \xc3\xa9\xc3\xc3\xa9 "]


def random_ids(rng, tok):
    size = tok.get_vocab_size()
    return [rng.randrange(size) for _ in range(rng.randint(1, 12))]


def encode(tok, text):
    return tok.encode(text).ids


def compact(tok):
    """The tokenizer as its file, merges in the old spelling where that is possible."""
    data = json.loads(tok.to_str())
    merges = data["model"]["merges"]
    if all(" " not in part for merge in merges for part in merge):
        data["model"]["merges"] = [" ".join(merge) for merge in merges]
    return data


def write(directory):
    def dump(name, value):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as out:
            json.dump(value, out, ensure_ascii=False, separators=(",", ":"))
            out.write("\n")

    strings = fixed_strings()
    dump("strings.json", {"strings": strings, "ill_formed": [b.hex() for b in ILL_FORMED]})
    rng = random.Random(7)
    for name, make in KINDS.items():
        tok = make()
        inputs = strings + [b.decode("utf-8", "replace") for b in ILL_FORMED]
        samples = [random_ids(rng, tok) for _ in range(40)]
        samples += [encode(tok, s) for s in rng.sample(strings, 20)]
        dump(name + ".json", {
            "made_by": "tokenizers " + tokenizers.__version__,
            "tokenizer": compact(tok),
            "ids": [" ".join(map(str, encode(tok, s))) for s in inputs],
            "decode": [[" ".join(map(str, ids)), tok.decode(ids, skip_special_tokens=False),
                        tok.decode(ids, skip_special_tokens=True)] for ids in samples]})


def check(program, seed, count):
    rng = random.Random(seed)
    groups = by_category()
    failures = 0
    for name, make in KINDS.items():
        tok = make()
        strings = fixed_strings() + [random_string(rng, groups, 12) for _ in range(count)]
        raw = [s.encode() for s in strings] + ILL_FORMED
        for _ in range(100):
            raw.append(bytes(rng.randrange(256) for _ in range(rng.randint(1, 20))))
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(compact(tok), file)
            file.flush()
            run = subprocess.run([program, file.name], input="\n".join(b.hex() for b in raw) + "\n",
                                 capture_output=True, text=True)
        if run.returncode != 0:
            print(f"{name}: {program} failed: {run.stderr.strip()}")
            failures += 1
            continue
        bad = 0
        for data, line in zip(raw, run.stdout.split("\n")):
            expected = encode(tok, data.decode("utf-8", "replace"))
            ids, text = line.split("|")
            actual = [int(i) for i in ids.split()]
            decoded = tok.decode(expected, skip_special_tokens=False)
            if actual != expected or bytes.fromhex(text) != decoded.encode():
                bad += 1
                if bad <= 3:
                    print(f"{name}: {data!r}\n  expected {expected} {decoded!r}\n"
                          f"  actual   {actual} {bytes.fromhex(text)!r}")
        print(f"{name}: {len(raw) - bad} of {len(raw)} equal")
        failures += bad
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", metavar="DIR")
    parser.add_argument("--check", metavar="PROGRAM")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=500)
    args = parser.parse_args()
    if args.write:
        write(args.write)
    if args.check:
        sys.exit(check(args.check, args.seed, args.count))


if __name__ == "__main__":
    main()
