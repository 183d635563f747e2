"""A summariser, a critic and a writer of prompts for the tour: rules, in the place of language models that would cost money.

gnomon sigext summarize ... --writer script:examples/tour_writer.py:write

Each gets the text that a language model would get, and answers with text.
"""

import random
import re
from statistics import mean

from gnomon.core.llm import Request
from gnomon.core.text import sentences

SENTENCES = {"one sentence": 1, "two sentences": 2, "three sentences": 3}
WORDS = re.compile(r"at most (\d+) words", re.IGNORECASE)
PHRASES = re.compile(r"including: (.*)", re.IGNORECASE)
PLENTY = 6
"""Sentences that are written where nobody says how many."""


def split(text: str) -> list[str]:
    """The sentences of a text."""
    return [text[start:end] for start, end in sentences(text)]


def write(request: Request) -> str:
    """A summary of whole sentences: those with most of the key phrases, else the first, as many and as long as is asked for."""
    before, _, rest = request.messages[-1].content.partition("<document>")
    document, _, after = rest.rpartition("</document>")
    asked = before + after
    count = next((n for words, n in SENTENCES.items() if words in asked.lower()), PLENTY)
    wanted = PHRASES.search(asked)
    phrases = [p.lower() for p in wanted[1].rstrip(".").split("; ")] if wanted else []
    found = split(document)
    best = sorted(found, key=lambda said: -sum(phrase in said.lower() for phrase in phrases))[:count]
    words = " ".join(said for said in found if said in best).split()
    most = WORDS.search(asked)
    summary = " ".join(words[: int(most[1]) if most else None])
    return f"<summary>{summary}</summary>" if "<summary>" in asked else summary


def criticise(request: Request) -> str:
    """How predictions differ from references in length, in sentences and in what they speak of, with a suggestion for each."""
    text = request.messages[-1].content
    written, right = (
        re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.S) for tag in ("prediction", "reference")
    )
    instruction = re.findall(r"<instruction>\n(.*?)\n</instruction>", text, re.S)[0]
    said = []
    long, short = (mean(len(one.split()) for one in texts) for texts in (written, right))
    if abs(long - short) > 5:
        said.append(
            f"Length: predictions have {long:.0f} words, references {short:.0f}. "
            f"Suggestion: ask for at most {5 * round(short * 1.3 / 5) or 5} words."
        )
    many, few = (mean(len(split(one)) for one in texts) for texts in (written, right))
    if many > few + 0.5:
        name = min(SENTENCES, key=lambda words: abs(SENTENCES[words] - few))
        said.append(
            f"Sentences: predictions have {many:.1f}, references {few:.1f}. Suggestion: ask for {name}."
        )
    if "INSERT_KEYPHRASES_HERE" not in instruction:
        said.append(
            "Content: references speak of other things than predictions. Suggestion: use the key phrases."
        )
    lines = "\n".join(said) or "No difference."
    return f"<critique>\n{lines}\n</critique>"


def propose(request: Request) -> str:
    """One of the three best prompts, with some of the suggestions of its critique applied."""
    text = request.messages[-1].content
    shown = re.findall(
        r"<prompt>\n(.*?)\n</prompt>\nScore: [^\n]*(?:\n<critique>\n(.*?)\n</critique>)?", text, re.S
    )
    draw = random.Random(f"{request.seed} {request.draw} {text}")
    prompt, critique = draw.choice(shown[-3:])
    lines = prompt.split("\n")
    for suggestion in re.findall(r"Suggestion: (?:ask for )?(.*?)\.", critique):
        if draw.random() < 0.7:
            lines = apply(suggestion, lines)
    better = "\n".join(lines)
    return f"<instruction>\n{better}\n</instruction>"


def apply(suggestion: str, lines: list[str]) -> list[str]:
    """A prompt's lines after one suggestion, which replaces what was said of the same thing before."""
    if "key phrases" in suggestion:
        return [*lines, "Consider including: INSERT_KEYPHRASES_HERE"]
    kind = WORDS if WORDS.search(suggestion) else re.compile("|".join(SENTENCES))
    return [*(line for line in lines if not kind.search(line)), f"Write {suggestion}."]
