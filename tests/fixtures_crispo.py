"""Small tasks for prompt searches: rows whose answers are known, scripted models behind the real interface, worlds on disk."""

import re

from gnomon.core import records
from gnomon.core.llm import Script, open_llm
from gnomon.core.rng import Rng
from gnomon.methods.crispo import Example, LLMs, SearchConfig, Task, metric_of, optimize
from gnomon.methods.crispo.house import ASPECTS, LENGTH, ORDER, choose, draw_documents, ordered, same_order
from gnomon.methods.crispo.mini import PROMPT, as_example, style_metric

STYLE, DEFAULT = (1, 1, 2, 3, 0, 1, 2, 3), "00112233"
WRITER, CRITIC, OPTIMIZER = f"sim:styler?default={DEFAULT}", "sim:critic", "sim:optimizer"


def house(count, name="train", seed=0, **more):
    """Rows of the house-style world."""
    return [as_example(one) for one in draw_documents(count, STYLE, Rng(seed), name=name, **more)]


def house_files(folder, train=12, dev=12, test=20, **more):
    """The same as files, with the manual prompt; returns the words of a command."""
    for name, count in (("train", train), ("dev", dev), ("test", test)):
        rows = [one.row for one in draw_documents(count, STYLE, Rng(0), name=name, **more)]
        records.write(folder / f"{name}.jsonl", rows)
    (folder / "seed.txt").write_text(PROMPT)
    paths = [folder / f"{name}.jsonl" for name in ("train", "dev", "test")]
    return [paths[0], "--dev", paths[1], "--test", paths[2], "--prompt", folder / "seed.txt"]


def simulated():
    return LLMs(open_llm(WRITER), open_llm(CRITIC), open_llm(OPTIMIZER))


def searched(llms=None, *, train=None, dev=None, prompt=PROMPT, metrics=None, seed=0, **cfg):
    """A small search in the house-style world."""
    settings = SearchConfig(**({"steps": 3, "dev_every": 1} | cfg))
    return optimize(
        Task([prompt]),
        train or house(10),
        dev or house(10, "dev"),
        llms or simulated(),
        metrics or [style_metric()],
        settings,
        rng=Rng(seed),
    )


# Counting: prompts are numbers, the task model answers with the number of its prompt


def number_in(text):
    """The number that a filled prompt speaks of; 0 for the first prompt."""
    found = re.findall(r"number (\d+)", text)
    return int(found[-1]) if found else 0


def counting_llms(log=None, *, reply=None):
    """A task model that answers with its prompt's number, a critic, and an optimiser who counts: 1, 2, 3, ...

    Args:
        log: every request's text is appended, with the role.
        reply: number -> the optimiser's whole answer; None writes a good one.
    """
    written = []

    def note(role, request):
        text = request.messages[-1].content
        if log is not None:
            log.append((role, text, request))
        return text

    def task(request):
        return f"<summary>{number_in(note('task', request))}</summary>"

    def critic(request):
        note("critic", request)
        return "<critique>Count on.</critique>"

    def optimizer(request):
        note("optimizer", request)
        number = request.draw + 1
        written.append(number)
        if reply is not None:
            return reply(number)
        return f"<instruction>Say the number {number}: INSERT_INPUT_HERE in <summary> tags</instruction>"

    names = [f"script:{role}" for role in ("task", "critic", "optimizer")]
    return LLMs(*(Script(f, name) for f, name in zip((task, critic, optimizer), names, strict=True)))


COUNT_PROMPT = "Say it: INSERT_INPUT_HERE in <summary> tags"


def numbered(count, name="r"):
    """Rows whose inputs are long enough to be told from anything else."""
    return [Example(f"{name}{i}", f"this is the input {i} of the rows {name}", "9") for i in range(count)]


def as_number(high=100.0):
    """The prediction as a number, divided by `high`."""

    def value(prediction, reference, source):
        return int(prediction or 0) / high

    return metric_of(value, "number")


def two_scores():
    """Two metrics that grow with the number that was said."""

    def other(prediction, reference, source):
        return int(prediction or 0) / 50

    return [as_number(), metric_of(other, "other")]


def counted(llms=None, *, task=None, metrics=None, rows=6, **cfg):
    """A small search among numbers."""
    settings = SearchConfig(**({"steps": 4, "per_step": 2, "few_shot": 1} | cfg))
    return optimize(
        task or Task([COUNT_PROMPT]),
        numbered(rows),
        numbered(rows, "d"),
        llms or counting_llms(),
        metrics or [as_number()],
        settings,
    )


# The score that a prompt must get: the truth that measured scores are held against


def expected_score(requests, default, target, follow, document):
    """The mean of `style_score` over all a writer may do with one document.

    Args:
        requests: aspect -> level that the prompt asks for.
        default: the writer's own style.
        target: the house's style, which the document's reference has.
        follow: the chance that a request is followed, each by itself.
        document: the document; nothing hints at its salient facts.

    Every aspect but the order agrees with the chance that its level is the house's. Two orders may agree by chance in the facts
    that both texts tell, which depend on the length: the chance is summed over lengths and orders.
    """
    total = 0.0
    for aspect in range(len(ASPECTS)):
        if aspect == ORDER:
            total += _order(requests, default, target, follow, document)
        else:
            total += _chances(requests, default, follow, aspect).get(target[aspect], 0.0)
    return total / len(ASPECTS)


def _chances(requests, default, follow, aspect):
    """Level -> chance."""
    own, requested = default[aspect], requests.get(aspect)
    if requested is None or requested == own:
        return {own: 1.0}
    return {requested: follow, own: 1 - follow}


def _order(requests, default, target, follow, document):
    wanted = ordered(choose(document.facts, target, document.salient), target[ORDER])
    names = [fact.thing for fact in wanted]
    total = 0.0
    for length, p in _chances(requests, default, follow, LENGTH).items():
        style = (length, *default[1:])
        chosen = choose(document.facts, style)
        for order, q in _chances(requests, default, follow, ORDER).items():
            total += p * q * same_order([fact.thing for fact in ordered(chosen, order)], names)
    return total
