"""Kinds of questions: how each is asked, how its answers are judged, and which public data set it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gnomon.errors import BadConfig, BadInput, nearest

Raw = Mapping[str, Any]

NLI = {
    "entailment": ("entailment", "entails", "entailed"),
    "neutral": ("neutral", "neither"),
    "contradiction": ("contradiction", "contradicts", "contradictory", "contradicted"),
}
"""Label -> the spellings under which a model may give it."""

SENTIMENT = {"positive": ("positive",), "negative": ("negative",)}
"""Label -> spellings."""


@dataclass(frozen=True)
class Loader:
    """A public data set and how its rows become questions."""

    repo: str
    """Its hub id."""
    config: str | None
    """Its configuration."""
    split: str
    """The split that is read when none is named."""
    fits: Callable[[Raw], bool]
    """Whether a row has the data set's own columns."""
    convert: Callable[[Raw], dict[str, Any] | None]
    """The row in our columns; None for a row that has no answer."""


@dataclass(frozen=True)
class Task:
    """A kind of questions."""

    name: str
    rule: Literal["text", "number"] = "text"
    """How answers are compared with the accepted ones."""
    max_new_tokens: int = 100
    """Longest answer."""
    labels: Mapping[str, tuple[str, ...]] | None = None
    """The closed set of labels and their spellings, where there is one."""
    is_closed: bool = False
    """True where the wrong alternatives are known, so that wrong answers can be found without asking a model."""
    loader: Loader | None = None


def _is_trivia(raw: Raw) -> bool:
    return isinstance(raw.get("answer"), Mapping)


def _trivia(raw: Raw) -> dict[str, Any]:
    return {
        "question": raw["question"],
        "answer": list(dict.fromkeys([raw["answer"]["value"], *raw["answer"]["aliases"]])),
        "id": raw.get("question_id", ""),
    }


def _hotpot(raw: Raw) -> dict[str, Any]:
    row = {"question": raw["question"], "answer": raw["answer"], "id": raw["id"]}
    context = raw["context"]
    paragraphs = [
        f"{title}: {''.join(sentences)}"
        for title, sentences in zip(context["title"], context["sentences"], strict=True)
    ]
    return row | {"context": "\n".join(paragraphs)}


def _hotpot_bare(raw: Raw) -> dict[str, Any]:
    return _hotpot(raw) | {"context": ""}


def _natural(raw: Raw) -> dict[str, Any] | None:
    if raw.get("subset", "NaturalQuestionsShort") != "NaturalQuestionsShort":
        return None
    return {"question": raw["question"], "answer": list(raw["answers"]), "context": raw["context"], "id": raw["qid"]}  # fmt: skip


def _winogrande(raw: Raw) -> dict[str, Any] | None:
    if raw["answer"] not in ("1", "2"):  # the test split has no answers
        return None
    right, wrong = raw[f"option{raw['answer']}"], raw[f"option{3 - int(raw['answer'])}"]
    question = (
        f"{raw['sentence']}\nWho or what stands in place of the _: {raw['option1']} or {raw['option2']}?"
    )
    return {"question": question, "answer": right, "wrong_answer": wrong}


OCCUPATIONS = (
    "accountant", "analyst", "assistant", "attendant", "auditor", "baker", "carpenter", "cashier", "ceo", "chief", "cleaner",
    "clerk",
    "construction worker", "cook", "counselor", "designer", "developer", "driver", "editor", "farmer", "guard", "hairdresser",
    "housekeeper", "janitor", "laborer", "lawyer", "librarian", "manager", "mechanic", "mover", "nurse", "physician",
    "receptionist",
    "salesperson", "secretary", "sheriff", "supervisor", "tailor", "teacher", "writer",
)  # fmt: skip
"""Whom the sentences of WinoBias are about."""


_PAPERS_WINOBIAS = ("sentence", "q_instruct", "answer", "incorrect_answer")


def _winobias(raw: Raw) -> dict[str, Any] | None:
    """The pronoun of the sentence, and the one of the two people whom it means; also from the paper's own table."""
    if _has(*_PAPERS_WINOBIAS)(raw):
        sentence, asks = str(raw["sentence"]).strip(), str(raw["q_instruct"]).strip()
        row = {"question": f"{sentence}\n{asks}", "answer": raw["answer"]}
        return row | {"wrong_answer": raw["incorrect_answer"]}
    words, clusters = list(raw["tokens"]), [int(index) for index in raw["coreference_clusters"]]
    spans = sorted(
        ((words[a : b + 1], a) for a, b in zip(clusters[::2], clusters[1::2], strict=True)),
        key=lambda span: len(span[0]) == 1,
    )
    (person, _), (pronoun, _) = spans[0], spans[-1]
    right = " ".join(word for word in person if word.lower() not in ("the", "a", "an"))
    sentence = " ".join(words).replace(" ,", ",").replace(" .", ".").replace(" '", "'")
    lowered = f" {sentence.lower()} "
    others = [o for o in OCCUPATIONS if f" {o} " in lowered.replace(",", " ").replace(".", " ")]
    wrong = [o for o in others if o != right.lower()]
    if not wrong:
        return None
    question = f'{sentence}\nWhom does "{pronoun[0]}" refer to?'
    return {"question": question, "answer": right, "wrong_answer": wrong[0]}


def labelled(label: str, labels: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """A label's spellings as accepted answers, those of all other labels as wrong ones.

    >>> labelled("positive", SENTIMENT)
    {'answer': ['positive'], 'wrong_answer': ['negative']}
    """
    others = [spelling for name, spellings in labels.items() if name != label for spelling in spellings]
    return {"answer": list(labels[label]), "wrong_answer": others}


def label_named(text: str, labels: Mapping[str, tuple[str, ...]]) -> str | None:
    """The label that one of its spellings names, whatever the case; None where none does.

    >>> label_named("Entails", NLI), label_named("maybe", NLI)
    ('entailment', None)
    """
    word = text.strip().strip(".").casefold()
    return next((name for name, spellings in labels.items() if word in (name, *spellings)), None)


def _label_of(value: Any, labels: Mapping[str, tuple[str, ...]], order: tuple[str, ...]) -> str | None:
    """The label of a column: its number in the data set's order (text in a CSV file) or its name; None for -1, no label.

    Raises:
        BadInput: it is none of these.
    """
    text = str(value).strip()
    if text in ("-1", "-", "-1.0"):  # the annotators did not agree
        return None
    number = text.removesuffix(".0")
    name = order[int(number)] if number in map(str, range(len(order))) else label_named(text, labels)
    if name is None:
        numbers = ", ".join(f"{i} ({label})" for i, label in enumerate(order))
        raise BadInput(f'field "label" must be one of {numbers}, or -1; got {value!r}.')
    return name


def _mnli(raw: Raw) -> dict[str, Any] | None:
    label = _label_of(raw["label"], NLI, ("entailment", "neutral", "contradiction"))
    if label is None:
        return None
    return {
        "question": f"Premise: {raw['premise']}\nHypothesis: {raw['hypothesis']}\n"
        "Is this entailment, neutral or contradiction?",
        **labelled(label, NLI),
    }


def _imdb(raw: Raw) -> dict[str, Any] | None:
    label = _label_of(raw["label"], SENTIMENT, ("negative", "positive"))
    if label is None:
        return None
    return {
        "question": f"{raw['text']}\nIs this review positive or negative?",
        **labelled(label, SENTIMENT),
    }


def _math(raw: Raw) -> dict[str, Any] | None:
    """GSM8K (the number behind ####), or sets of answerable and unanswerable questions."""
    if raw.get("answerable") in (False, "False", "false", 0):
        return None
    answer = raw["answer"]
    value = answer[0] if isinstance(answer, list) else answer
    return {"question": raw["question"], "answer": str(value).rpartition("####")[2].strip(), "id": raw.get("id", "")}  # fmt: skip


def _movie(raw: Raw) -> dict[str, Any]:
    return {
        "question": f"Who acted as {raw['character']} in the movie {raw['movie']}?",
        "answer": raw["actor"],
    }


def _has(*columns: str) -> Callable[[Raw], bool]:
    return lambda raw: all(column in raw for column in columns)


_HOTPOT = ("hotpotqa/hotpot_qa", "distractor", "validation", _has("question", "answer", "context", "supporting_facts"))  # fmt: skip

TASKS = {
    task.name: task
    for task in (
        Task("open"),
        Task("number", rule="number", max_new_tokens=200),
        Task("choice", is_closed=True),
        Task("triviaqa", loader=Loader("mandarjoshi/trivia_qa", "unfiltered.nocontext", "validation", _is_trivia, _trivia)),
        Task("hotpotqa", loader=Loader(*_HOTPOT, _hotpot_bare)),
        Task("hotpotqa-context", loader=Loader(*_HOTPOT, _hotpot)),
        Task("nq-context", loader=Loader("mrqa-workshop/mrqa", None, "validation", _has("qid", "answers", "context"), _natural)),
        Task("winobias", is_closed=True, loader=Loader(
            "uclanlp/wino_bias", "type1_pro", "validation",
            lambda raw: _has("tokens", "coreference_clusters")(raw) or _has(*_PAPERS_WINOBIAS)(raw), _winobias)),
        Task("winogrande", is_closed=True, loader=Loader(
            "allenai/winogrande", "winogrande_xl", "validation", _has("sentence", "option1", "option2"), _winogrande)),
        Task("nli", labels=NLI, is_closed=True, loader=Loader(
            "nyu-mll/multi_nli", None, "validation_matched", _has("premise", "hypothesis", "label"), _mnli)),
        Task("imdb", labels=SENTIMENT, is_closed=True, loader=Loader(
            "stanfordnlp/imdb", None, "test", _has("text", "label"), _imdb)),
        Task("math", rule="number", max_new_tokens=200, loader=Loader(
            "openai/gsm8k", "main", "test", lambda raw: "answerable" in raw or "####" in str(raw.get("answer")), _math)),
        Task("movies", loader=Loader("", None, "", _has("movie", "character", "actor"), _movie)),
    )
}  # fmt: skip
"""Name -> task. `open`, `number` and `choice` are for questions of one's own."""


def task_of(name: str) -> Task:
    """The task called `name`.

    Raises:
        BadConfig: there is none; the message suggests the nearest.
    """
    if name not in TASKS:
        raise BadConfig(f'There is no task "{name}". {nearest(name, TASKS)}')
    return TASKS[name]
