"""Judges for the tour: rules with words in them, in the place of language models that would cost money.

gnomon sieve fit ... --judge rule:examples/tour_judge.py:about_files
gnomon calm audit ... --kind function --judge examples/tour_judge.py:counts_files
"""

import re

from gnomon.methods.calm import Trial

THINGS = {
    "a file": r"\bfiles?\b|\bfilenames?\b",
    "a folder": r"\bfolders?\b|\bdirector(?:y|ies)\b|\bsubdirector(?:y|ies)\b",
    "its place": r"\bpaths?\b|\bpathnames?\b|\bsymlinks?\b|\bsymbolic links?\b",
    "what is done to it": r"\b(?:open|close|delete|remove|rename|copy|move|create|overwrite)[sd]?\b",
    "who may": r"\bpermissions?\b|\bread-only\b|\bwritable\b|\bexecutable\b|\bowner\b|\bexists?\b",
}
"""What a text about files talks about, and the words it does so in."""


def about_files(text: str) -> bool:
    """Whether a text talks about at least two of the things above, one of them a file or a folder."""
    said = {thing for thing, words in THINGS.items() if re.search(words, text, re.IGNORECASE)}
    return len(said) >= 2 and bool(said & {"a file", "a folder"})


def counts_files(trial: Trial) -> int:
    """A judge of summaries: prefers the answer with more words about files, and of equal ones the first."""
    return _first_best([_mentions(answer) for answer in trial.answers])


def weighs_files(trial: Trial) -> int:
    """Another one: prefers the answer in which a greater share of the words is about files."""
    return _first_best([_mentions(answer) / max(len(answer.split()), 1) for answer in trial.answers])


def _mentions(text: str) -> int:
    return sum(len(re.findall(words, text, re.IGNORECASE)) for words in THINGS.values())


def _first_best(scores: list[float]) -> int:
    return scores.index(max(scores))
