"""What the tests of calm are fed with: items whose quality is in their text, logs with known rates, and the room's verbs."""

import json

from gnomon import registry, verbs
from gnomon.core.llm import open_llm
from gnomon.core.rng import Rng
from gnomon.methods.calm import Item, PairwiseJudge, Verdict
from gnomon.methods.calm.planted import JudgedWorld


def calm(*words):
    """Runs a verb in this process; returns its exit code."""
    verb, *rest = map(str, words)
    return verbs.run_verb(registry.method("calm"), verb, [*rest, "--quiet"])


def made_items(n, *, sets=("fact", "alignment"), candidates=2, seed=0, steps=24):
    """Items of the judging world."""
    world, found = JudgedWorld(steps=steps), []
    for name in sets:
        for i in range(n):
            pair = world.pair(f"{name}-{i}", Rng(seed).child(name, i), candidates)
            answers = pair.answers if name != "refinement" else pair.answers[:1]
            found.append(Item(pair.id, pair.question, answers, name))
    return found


def as_rows(items):
    """Items in the layout with answer1 and answer2."""
    return [
        {"id": one.id, "question": one.question, "set": one.set, "data_resource": "made up"}
        | {f"answer{i}": text for i, text in enumerate(one.answers, 1)}
        for one in items
    ]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def report(folder):
    return json.loads((folder / "report.json").read_text())


def simulated(query="", **options):
    """A simulated judge asked in words."""
    return PairwiseJudge(open_llm(f"sim:judge?{query}" if query else "sim:judge"), concurrency=16, **options)


def verdict(
    item, choice, *, probe="plain", condition="", draw=None, slots=(0, 1), judge="j", set="alignment", **more
):
    """A row that nobody had to judge."""
    if draw is None:
        draw = 0 if probe == "plain" else 1000
    return Verdict(judge, set, str(item), probe, condition, draw, list(slots), choice=choice, **more)


def log_of_rates(n, rr, cr, *, judge="j"):
    """Verdicts on `n` items in which the biases of `rr` keep exactly these shares of the verdicts, and plain runs agree in `cr`.

    Every plain verdict is R1. Fallacy-oversight keeps where the verdict moves to R2.
    """
    from gnomon.methods.calm.measures import SET_OF

    rows = []
    for name, share in cr.items():
        again = round(share * n)
        for i in range(n):
            slots = (0, 1) if i % 2 else (1, 0)
            rows.append(verdict(i, "R1", judge=judge, set=name, slots=slots))
            rows.append(verdict(i, "R1" if i < again else "R2", judge=judge, set=name, slots=slots, draw=1))
    for probe, share in rr.items():
        kept = round(share * n)
        for i in range(n):
            slots = (0, 1) if i % 2 else (1, 0)
            is_first = (i < kept) != (probe == "fallacy-oversight")
            choice = "R1" if is_first else "R2"
            condition = "2 candidates" if probe == "position" else "c"
            turned = slots[::-1] if probe == "position" else slots
            rows.append(
                verdict(
                    i,
                    choice,
                    probe=probe,
                    condition=condition,
                    judge=judge,
                    set=SET_OF[probe],
                    slots=turned,
                    cued=1,
                )
            )
    return rows


def released(folder, n=12):
    """The layout of the released data, with texts of its own; a row of each file lacks a rewrite."""
    base, bias = folder / "base_datasets", folder / "bias_datasets"
    base.mkdir(parents=True)
    bias.mkdir()

    def pair(kind, i):
        source = "toxic-dpo-NSFW" if kind == "al" and i == 3 else f"{kind}-source"
        return {
            "question": f"{kind} question {i}?", "answer1": f"{kind} right {i}", "answer2": f"{kind} wrong {i}",
            "data_resource": source,
        }  # fmt: skip

    def save(path, rows):
        path.write_text(json.dumps(rows))

    fact, alignment = [pair("fact", i) for i in range(n)], [pair("al", i) for i in range(n)]
    polished = [
        {
            "question": f"Q{i}",
            "answer1": f"first {i}",
            "answer1_polished": f"better {i}",
            "data_resource": "quora",
        }
        for i in range(4)
    ]
    save(base / "fact_related_dataset.json", fact)
    save(base / "alignment_dataset.json", [*alignment, alignment[0] | {"answer2": "another wrong one"}])
    save(base / "refinement_aware_dataset.json", polished)
    save(bias / "refinement_bias_standardized.json", polished)
    save(
        bias / "verbosity_bias_standardized.json",
        [row | {"answer2_longer": row["answer2"] * 3} for row in fact],
    )
    fallacies = [row | {"answer1_fallacy_oversight": f"so {row['answer1']}"} for row in fact]
    save(bias / "fallacy_oversight_bias_standardized.json", fallacies)
    tones = ("cheerful", "sad", "angry", "fear")
    toned = [
        row | {f"answer{side}_{tone}": f"{tone} {row[f'answer{side}']}" for side in (1, 2) for tone in tones}
        for row in fact[:5]
    ]
    del toned[2]["answer1_sad"]
    save(bias / "sentiment_bias_standardized.json", toned)
    cited = [
        row | {f"answer{side}_with_reference_{kind}": f"{row[f'answer{side}']} ({kind})"
               for side in (1, 2) for kind in ("book", "quote", "url")}
        for row in alignment[:6]
    ]  # fmt: skip
    save(bias / "authority_bias_standardized.json", cited)
    (folder / "README.md").write_text("# Data")
    (bias / "standardize.py").write_text("print()")
    return folder
