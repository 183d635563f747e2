"""What critic and optimiser are asked, and what becomes of what they answer."""

import logging

import pytest

from fixtures_crispo import as_number, counting_llms, house, numbered, simulated
from gnomon.core.llm import Script
from gnomon.core.llm.stack.loop import run_async
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.crispo import Candidate, History, LLMs, open_metrics
from gnomon.methods.crispo.scoring import Asker, Measured
from gnomon.methods.crispo.search import Critic, Optimizer, nearest_text, write

ROWS = numbered(12)
SOURCES = [row.input for row in ROWS]


def history(*candidates, metrics=None):
    """Prompts with a score each, the same on every row, and a critique."""
    metrics = metrics or [as_number()]
    found = History(metrics)
    for text, value, critique in candidates:
        one = found.add(Candidate(-1, text, critique=critique))
        scores = {metric.name: [value] * len(ROWS) for metric in metrics}
        one.measured["train"] = Measured([row.id for row in ROWS], ["said"] * len(ROWS), scores)
        one.values["train"] = dict.fromkeys(scores, value)
    return found


def optimizer(**more):
    options = {"needed": ["input"], "rng": Rng(0), "train": ROWS, "sources": SOURCES} | more
    return Optimizer(Asker(counting_llms()), **options)


def critic(metric=None, **more):
    options = {"train": ROWS, "sources": SOURCES, "metrics": [metric or as_number()], "rng": Rng(0)} | more
    return Critic(Asker(counting_llms()), **options)


THREE = (("two", 0.2, "c two"), ("three", 0.3, "c three"), ("one", 0.1, "c one"))


def test_prompts_are_shown_worst_to_best_with_score_and_critique():
    text, shown = optimizer(few_shot=2).question(history(*THREE), 0)
    assert shown == (2, 0, 1)
    places = [text.index(part) for part in (
        "<prompt>\none\n</prompt>\nScore: 10.00\n<critique>\nc one\n</critique>",
        "<prompt>\ntwo\n</prompt>\nScore: 20.00\n<critique>\nc two\n</critique>",
        "<prompt>\nthree\n</prompt>\nScore: 30.00\n<critique>\nc three\n</critique>",
    )]  # fmt: skip
    assert places == sorted(places)
    assert text.count("<example>") == 2
    assert "INSERT_INPUT_HERE" in text
    assert "<suggestion>" in text
    top = optimizer(top_k=2).question(history(*THREE), 0)[1]
    assert top == (0, 1)


def test_opro_is_shown_whole_numbers_and_no_critique():
    text, _ = optimizer(arm="opro").question(history(("p", 0.376, "a critique")), 0)
    assert "<prompt>\np\n</prompt>\nScore: 38\n" in text
    assert "critique" not in text
    assert "step by step" not in text
    assert text.count("<example>") == 2


def test_a_missing_critique_is_left_out_and_not_written_as_none():
    text, _ = optimizer().question(history(("p", 0.5, None)), 0)
    assert "Score: 50.00\n" in text
    assert "None" not in text
    assert "<critique>" not in text


def test_shuffled_critiques_stand_with_other_prompts():
    found = history(*((f"p{i}", i / 10, f"c{i}") for i in range(6)))
    for attempt in range(20):
        shown = optimizer(critiques="shuffled").shown(found, attempt)
        assert sorted(one.critique for one in shown) == [f"c{i}" for i in range(6)]
        assert all(one.critique != f"c{one.number}" for one in shown)
    assert optimizer(critiques="shuffled").shown(history(("p", 0.1, "c")), 0)[0].critique is None


def test_several_scores_and_descriptions_are_shown():
    metrics = open_metrics(["em", "f1"])
    text, _ = optimizer().question(history(("p", 0.5, None), metrics=metrics), 0)
    assert "Score: em 50.00, f1 50.00" in text


def test_few_shots_are_drawn_anew_for_each_attempt():
    found = history(("p", 0.5, None))
    draws = [tuple(optimizer(few_shot=2).few_shots(found, i)) for i in range(8)]
    assert len(set(draws)) > 4
    assert draws == [tuple(optimizer(few_shot=2).few_shots(found, i)) for i in range(8)]


def test_few_shots_by_the_lowest_scores():
    found = history(("p", 0.5, None), ("q", 0.5, None))
    metric = found.metrics[0].name
    old, new = (one.measured["train"].scores[metric] for one in found.candidates)
    for i in (0, 1, 2):
        old[i] = 0.0
    for i in (3, 4, 5):
        new[i] = 0.1
    found.candidates[1].step = 1
    drawn = {
        i for a in range(30) for i in optimizer(few_shot=1, examples_by="current_lowest").few_shots(found, a)
    }
    assert drawn == {3, 4, 5}
    drawn = {
        i
        for a in range(30)
        for i in optimizer(few_shot=1, examples_by="accumulated_lowest").few_shots(found, a)
    }
    assert drawn == {0, 1, 2}  # a mean of 0.25 against 0.3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("no tags here", "no tag"),
        ("<instruction>INSERT_INPUT_HERE", "unclosed tag"),
        ("<instruction>good</instruction> <instruction>half", "unclosed tag"),
        ("<instruction> </instruction>", "empty"),
        ("<instruction>INSERT_INPUT_HERE INSERT_FOO_HERE <summary></instruction>", "unknown slot"),
        ("<instruction>INSERT_INPUT_HERE <summary> old</instruction>", "tried before"),
        ("<instruction>INSERT_INPUT_HERE <summary> taken</instruction>", "twice in one step"),
    ],
)
def test_proposals_are_refused_by_reason(answer, reason):
    found = history(("INSERT_INPUT_HERE <summary> old", 0.1, None))
    batch = [Candidate(-1, "INSERT_INPUT_HERE <summary> taken")]
    assert optimizer().read(answer, found, batch, (0,), 0) == reason


def test_proposals_are_mended_and_a_nested_tag_is_legal():
    found = history(("INSERT_INPUT_HERE <summary> old", 0.1, None), ("another INSERT_INPUT_HERE", 0.2, None))
    nested = "<instruction>INSERT_INPUT_HERE: write <summary>so</summary></instruction>"
    one = optimizer().read(f"First I thought <instruction>.\n{nested}", found, [], (0, 1), 0)
    assert one.text == "INSERT_INPUT_HERE: write <summary>so</summary>"
    assert (one.repairs, one.parent, one.shown) == ((), 0, (0, 1))
    mended = optimizer().read("<instruction>Be brief.</instruction>", found, [], (0, 1), 0)
    assert mended.repairs == ("slot input prepended", "tag request appended")
    assert mended.text.startswith("INSERT_INPUT_HERE\nBe brief.\n")


def test_copies_of_references_are_flagged_or_refused():
    rows = [row.__class__(row.id, row.input, f"the whole reference of row {row.id}") for row in ROWS]
    answer = "<instruction>INSERT_INPUT_HERE <summary> such as: the whole reference of row r3</instruction>"
    found = history(("x", 0.1, None))
    assert optimizer(train=rows).read(answer, found, [], (0,), 0).copies == ("r3",)
    assert optimizer(train=rows, forbid_copies=True).read(answer, found, [], (0,), 0) == "copies a reference"


def test_k_is_searched_where_the_prompt_has_the_slot():
    base = "INSERT_INPUT_HERE INSERT_KEYPHRASES_HERE <summary>"
    found = history((base, 0.1, None))
    found.candidates[0].k = 20
    ask = optimizer(optional=["keyphrases"])
    answer = f"<instruction>{base} x</instruction>"
    assert {ask.read(answer, found, [], (0,), i).k for i in range(20)} == {30, 13}
    assert ask.read(f"{answer}<k>42</k>", found, [], (0,), 0).k == 42
    assert ask.read(f"{answer}<k>999</k>", found, [], (0,), 0).k in (30, 13)
    # The same words with another K are another prompt; without the slot there is no K.
    assert ask.read(f"<instruction>{base}</instruction><k>20</k>", found, [], (0,), 0) == "tried before"
    assert ask.read(f"<instruction>{base}</instruction><k>21</k>", found, [], (0,), 0).k == 21
    assert ask.read("<instruction>INSERT_INPUT_HERE <summary></instruction>", found, [], (0,), 0).k is None
    assert "Between <k> and </k>" in ask.question(found, 0)[0]


def test_the_parent_is_the_nearest_text():
    given = [
        Candidate(0, "be brief and kind"),
        Candidate(1, "write a long poem"),
        Candidate(2, "be brief and kind"),
    ]
    assert nearest_text("be brief and bold", given).number == 2  # of equal ones the last, the best
    assert nearest_text("write a long tale", given).number == 1
    assert nearest_text("x", []) is None


def test_a_long_request_loses_its_worst_prompts_first_then_the_length_of_critiques(caplog):
    found = history(*((f"prompt {i}", i / 10, f"critique {i} " * 200) for i in range(6)))
    caplog.set_level(logging.INFO, "gnomon")
    whole, shown = optimizer().question(found, 0)
    assert len(shown) == 6
    text, shown = optimizer(context_tokens=len(whole) // 6).question(found, 0)
    assert shown == tuple(range(6 - len(shown), 6))
    assert 1 < len(shown) < 6
    assert f"critique 5 {'critique 5 ' * 150}" in text
    assert f"{len(shown)} of 6 prompts are shown" in caplog.text
    text, shown = optimizer(context_tokens=700).question(found, 0)
    assert shown == (5,)
    assert "critiques cut to" in caplog.text
    assert text.count("critique 5") < 80


# The critic


def test_the_critic_sees_pairs_and_is_told_the_order_of_its_work():
    one = history(("Say INSERT_INPUT_HERE", 0.5, None)).candidates[0]
    text = critic(examples=3).question(one, [4, 0])
    assert text.index("this is the input 4") < text.index("this is the input 0")
    assert text.count("<prediction>\nsaid\n</prediction>\n<reference>\n9\n</reference>") == 2
    steps = [
        text.index(words)
        for words in ("dimensions", "predictions differ", "words of the instruction", "hold for all")
    ]
    assert steps == sorted(steps)


def test_examples_are_random_or_the_wrong_ones():
    one = history(("p", 0.5, None)).candidates[0]
    assert sorted(critic(examples=50).chosen(one)) == list(range(12))
    assert critic(examples=4).chosen(one) == critic(examples=4).chosen(one)
    (exact,) = open_metrics(["em"])
    scores = [1.0, 0.0, 1.0, 0.0, 0.0] + [1.0] * 7
    one.measured["train"].scores["em"] = scores
    assert sorted(critic(exact, examples=10).chosen(one)) == [1, 3, 4]
    assert len(critic(exact, examples=2).chosen(one)) == 2
    assert len(critic(exact, examples=10, pick="random").chosen(one)) == 10
    one.measured["train"].scores["em"] = [1.0] * 12
    assert critic(exact).chosen(one) == []


def test_the_critic_of_a_postscript_never_sees_a_reference():
    rows = [row.__class__(row.id, row.input, f"secret reference {row.id}") for row in ROWS]
    one = history(("Stay true.", 0.5, None)).candidates[0]
    text = critic(train=rows, main="Main: INSERT_INPUT_HERE").question(one, range(12))
    assert "secret" not in text
    assert "<reference>" not in text
    assert "<main>\nMain: INSERT_INPUT_HERE\n</main>" in text
    assert "<instruction>\nStay true.\n</instruction>" in text
    assert text.count("<prediction>") == 12


def criticised(answer, **more):
    llm = Script(lambda request: answer, "script:c")
    made = Critic(
        Asker(LLMs.of(llm)),
        **{"train": ROWS, "sources": SOURCES, "metrics": [as_number()], "rng": Rng(0)} | more,
    )
    return run_async(made.critique(history(("p", 0.5, None)).candidates[0]))


def test_what_is_read_from_a_critic():
    assert criticised("I see. <critique> Too long. </critique>") == "Too long."
    assert criticised("Too long, and no tag.") == "Too long, and no tag."
    assert criticised("") is None


def test_a_critic_with_little_room_is_shown_fewer_examples(caplog):
    caplog.set_level(logging.INFO, "gnomon")
    assert criticised("x", context_tokens=700) == "x"
    assert "the critic is shown" in caplog.text


# Templates


def test_user_text_is_never_read_as_a_template(tmp_path):
    nasty = "{{ 7 * 7 }} {% raw %} {# x #} <script>"
    found = history((nasty, 0.1, nasty))
    text, _ = optimizer().question(found, 0)
    assert text.count(nasty) == 2
    assert "49" not in text
    one = found.candidates[0]
    one.measured["train"].predictions[0] = nasty
    assert critic().question(one, [0]).count(nasty) == 2


def test_templates_of_the_user_s_own(tmp_path):
    file = tmp_path / "mine.j2"
    file.write_text("Critique {{ instruction }}: {{ examples|length }}")
    one = history(("p", 0.5, None)).candidates[0]
    assert critic(template=file).question(one, [1, 2]) == "Critique p: 2\n"
    for text, says in (("{{ nothing }}", "It may use"), ("{% if %}", "not a prompt template")):
        wrong = tmp_path / f"{len(text)}.j2"
        wrong.write_text(text)
        with pytest.raises(BadInput) as told:
            write(wrong, {"instruction": "x"})
        assert says in str(told.value)
    with pytest.raises(BadInput, match="not a prompt template"):
        write(tmp_path / "missing.j2", {})


def test_the_room_s_sims_read_the_room_s_templates():
    """The house-style simulators parse what these templates write: a round of critique and proposal changes the prompt."""
    rows = house(10)
    llms = simulated()
    one = Candidate(0, "Summarise.\n<notes>\nINSERT_INPUT_HERE\n</notes>\nUse <summary> and </summary>.")
    one.measured["train"] = Measured(
        [r.id for r in rows], [r.output for r in house(10, "dev")], {"number": [0.5] * 10}
    )
    one.values["train"] = {"number": 0.5}
    made = Critic(Asker(llms), train=rows, sources=[r.input for r in rows], metrics=[as_number()], rng=Rng(0))
    assert "Suggestion" in run_async(made.critique(one))
