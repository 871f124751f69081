#!/usr/bin/env python3
"""Makes chat/vectors.json: what Python's jinja2, set up as transformers does, renders.

chat/*.jinja are templates written after those that the families publish, with their constructs;
chat/snippets.txt holds one small template per line for single features, of which some must fail.

    make_chat_vectors.py --write            writes chat/vectors.json
    make_chat_vectors.py --check PROGRAM    compares PROGRAM (render_lines) on all of them

Needs the PyPI package `jinja2`; without it --check exits with 77 (skipped).
"""
import argparse
import datetime
import glob
import json
import os
import subprocess
import sys
import time

try:
    import jinja2
    import jinja2.ext
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError:
    print("skipped: the Python package `jinja2` is not installed")
    sys.exit(77)

HERE = os.path.dirname(os.path.abspath(__file__))
NOW = 1718020800  # 2024-06-10 12:00 UTC


class Generation(jinja2.ext.Extension):
    """{% generation %} marks what an assistant said; it renders its body."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(NOW).strftime(form)
    return env


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


CONVERSATIONS = [
    [user("Hello!")],
    [system("You are terse."), user("Why?")],
    [user("What is 2 + 2?"), assistant("4"), user("And 3 + 3?")],
    [system("Be \"nice\".\n"), user("  Grüße, 世界 👋 \n"), assistant("<b>Hallo</b> & 'tschüss'"),
     user("{{ not a template }} {% if %}")],
    [user("Think."), assistant("<think>\nhm\n</think>\n\nDone.")],
    [user("Think."), assistant("<think>\nhm\n</think>\n\nDone."), user("Again?")],
    [user("Think."), assistant("Done.", reasoning_content="because")],
    [user("a"), user("b")],
    [system("only rules")],
    [user("one"), assistant("two"), user("three"), assistant("four"), user("five")],
    [user([{"type": "text", "text": " part one "}, {"type": "text", "text": "two"}])],
    [user("question/nothink"), assistant("")],
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
EXTRAS = [{}, {"enable_thinking": False}, {"enable_thinking": True, "reasoning_effort": "high",
                                           "model_identity": "I am a test."}]
# What snippets can read besides a conversation.
SNIPPET_VARIABLES = {
    "s": "  hello ", "l": ["a", "b", "c"], "d": {"k": "v", "n": 1, "list": [1, 2]},
    "dl": [{"a": 1, "n": {"m": "q"}}, {"a": 2}, {"a": 0}]}
SNIPPET_MESSAGES = CONVERSATIONS[3]
MULTILINE = [
    "  {% if true %}\n  indented\n  {% endif %}\ntail\n",
    "{%- if true -%}  a  {%- endif %} b {{- 'c' -}}  d  {#- x -#}  e",
    "line1\n    {%+ if true %}plus{% endif +%}\nnext",
    "{% if true %}\r\na\r\n{% endif %}\r\n\r\n",
    "{# c #}\n  {# d #}\n x {# e #}\ny\n\n",
    "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\n b",
    "{% for i in l %}\n  - {{ i }}\n{% endfor %}\nend",
    "\t{% if true %}x{% endif %}\n",
    "x {% if true %}  \n  y {% endif %}",
    "{{ 'a' }}\n{{ 'b' }}\n",
    "{{ 'a' }}\n  {% if 1 %}\n{% endif %}",
    "{{ 'a' }}  {% if 1 %}b{% endif %}",
    "\u00a0{% if 1 %}b{% endif %}",
    "{%- raw -%}  {{ }} {%- endraw -%}  x",
    "{{\n 1\n+\n2 }}",
    "{% set x = {\n'a': 1,\n'b': 2,\n} %}{{ x }}",
    "{", "{ {", "{{'a'}}{", "a{b{{'c'}}}d", "{{", "{%", "{{ }}", "{% %}", "{% if %}",
    "a{#-b-#} c", "a {#--#} c", "{##}x", "{{ [1,\n2,] }}{{ (1,\n) }}",
    "{%- for i in [1,2] -%}\n {{ i }}\n {%- endfor -%}\n z",
    "{% raw +%} x{% endraw %}", "{% if 1 %}\n\n\nx{% endif %}",
    "a{% set foo %}\nx\n{% endset %}b{{ foo }}c",
]


def render(env, case):
    variables = {"messages": case["messages"], "tools": None, "documents": None,
                 "add_generation_prompt": case["prompt"], **case["extra"]}
    try:
        return {"text": env.from_string(case["template"]).render(**variables)}
    except Exception as error:  # Python's errors are as many as there are types of values
        return {"error": type(error).__name__}


def family_cases():
    for path in sorted(glob.glob(os.path.join(HERE, "chat", "*.jinja"))):
        with open(path, encoding="utf-8") as file:
            template = file.read()
        for index, messages in enumerate(CONVERSATIONS):
            for number, extra in enumerate(EXTRAS):
                for prompt in (True, False):
                    name = os.path.splitext(os.path.basename(path))[0]
                    yield ({"family": name, "conversation": index, "extra": number,
                            "prompt": prompt},
                           {"template": template, "messages": messages, "prompt": prompt,
                            "extra": {**TOKENS, **extra}})


def snippet_cases():
    with open(os.path.join(HERE, "chat", "snippets.txt"), encoding="utf-8") as file:
        snippets = file.read().split("\n")
    for template in [s for s in snippets if s] + MULTILINE:
        yield ({"template": template},
               {"template": template, "messages": SNIPPET_MESSAGES, "prompt": True,
                "extra": SNIPPET_VARIABLES})


def write():
    env = environment()
    vectors = {
        "made_by": "jinja2 " + jinja2.__version__, "now": NOW, "conversations": CONVERSATIONS,
        "extras": [{**TOKENS, **extra} for extra in EXTRAS],
        "snippet_variables": SNIPPET_VARIABLES, "snippet_messages": SNIPPET_MESSAGES,
        "families": [{**key, **render(env, case)} for key, case in family_cases()],
        "snippets": [{**key, **render(env, case)} for key, case in snippet_cases()]}
    with open(os.path.join(HERE, "chat", "vectors.json"), "w", encoding="utf-8") as out:
        json.dump(vectors, out, ensure_ascii=False, separators=(",", ":"))
        out.write("\n")


def check(program):
    env = environment()
    cases = [case for _, case in list(family_cases()) + list(snippet_cases())]
    lines = "\n".join(json.dumps({**case, "now": NOW}) for case in cases) + "\n"
    run = subprocess.run([program], input=lines, capture_output=True, text=True)
    if run.returncode != 0:
        print(f"{program} failed: {run.stderr.strip()}")
        return 1
    bad = 0
    for case, line in zip(cases, run.stdout.split("\n")):
        expected, actual = render(env, case), json.loads(line)
        if expected.get("text") != actual.get("text"):
            bad += 1
            print(f"{case['template'][:200]!r}\n  expected {expected}\n  actual   {actual}")
    print(f"{len(cases) - bad} of {len(cases)} equal")
    return 1 if bad else 0


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", metavar="PROGRAM")
    args = parser.parse_args()
    if args.write:
        write()
    if args.check:
        sys.exit(check(args.check))


if __name__ == "__main__":
    main()
