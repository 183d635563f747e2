"""Files that a search leaves, figures of it, its page, and the forms for other tools."""

import json

import pytest

from fixtures_crispo import counting_llms, numbered, searched, two_scores
from gnomon.core.records import read_raw
from gnomon.core.report import Page
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.crispo import Example, SearchConfig, tune_suffix
from gnomon.methods.crispo.report import calls_to, layout, lineage, mean_distance, search_figures, word_diff
from gnomon.methods.crispo.report import search as draw
from gnomon.methods.crispo.search import BEST, SavedSearch, Store, dspy, promptfoo, read_prompt, whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("search")
    result = searched(steps=4)
    Store(at, None, "summary").save(result.history, result.calls, result.best)
    return at


def test_every_candidate_score_and_cost_is_kept(folder):
    told = SavedSearch.read(folder)
    assert [p["number"] for p in told.prompts] == list(range(len(told.prompts)))
    first, later = told.prompts[0], told.prompts[1]
    assert (first["step"], first["parent"], first["shown"]) == (0, None, [])
    assert (later["step"], later["parent"], later["shown"]) == (1, 0, [0])
    assert set(first["scores"]) == {"train", "dev"}
    assert first["critique"]
    calls = [raw for _, raw in read_raw(folder / "calls.jsonl")]
    assert {call["role"] for call in calls} == {"task", "critic", "optimizer"}
    assert set(calls[0]) == {"role", "what", "hash", "tokens_in", "tokens_out", "latency_s", "finish"}
    rows = [raw for _, raw in read_raw(folder / "scores" / "001-0001-train.parquet")]
    assert len(rows) == 10
    assert set(rows[0]) == {"id", "prediction", "style"}
    mean = sum(row["style"] for row in rows) / len(rows)
    assert later["scores"]["train"]["style"] == pytest.approx(mean)


def test_the_best_prompt_is_kept_byte_for_byte(tmp_path):
    file = tmp_path / "p.txt"
    for text in ("Say INSERT_INPUT_HERE", "\n\tSay INSERT_INPUT_HERE \n\n", "é\r\nINSERT_INPUT_HERE\r\n"):
        file.write_bytes(text.encode())
        assert read_prompt(file).text == text
    for raw, says in ((b" \n", "is empty"), (b"\xff", "cannot be read")):
        file.write_bytes(raw)
        with pytest.raises(BadInput, match=says):
            read_prompt(file)
    with pytest.raises(BadInput, match="cannot be read"):
        read_prompt(tmp_path / "none.txt")
    with pytest.raises(BadInput, match="holds no search"):
        read_prompt(tmp_path)
    assert whole("main\n", "post") == "main\n\n\npost"
    assert whole("main\n", "") == "main\n"


def test_a_run_folder_gives_its_best_prompt_and_k(folder):
    found = read_prompt(folder)
    told = SavedSearch.read(folder)
    assert found.text == told.best["prompt"] == (folder / BEST).read_text()
    assert found.k is None


def test_the_figures_of_a_search_by_hand():
    def step(n, train, dev, calls, rejected=None):
        values = {"train": {"m": train}, "dev": {"m": dev}}
        return {"step": n, "values": values, "task_calls": calls, "rejected": rejected or {}}

    steps = [
        step(0, 0.2, 0.3, 10),
        step(1, 0.65, 0.5, 20, {"empty": 2}),
        step(2, 0.7, 0.4, 30, {"empty": 1, "no tag": 1}),
    ]
    prompts = [
        {
            "prompt": text,
            "copies": copies,
            "dropped": False,
            "scores": {"train": {"m": 0.7}, "dev": {"m": 0.5}},
        }
        for text, copies in (("abcd", []), ("abcx", ["r1"]), ("abcd", []))
    ]
    told = SavedSearch(prompts, {"best": 1, "steps": steps})
    found = search_figures(told, "m")
    assert found["area under the curve"] == pytest.approx(0.4)
    assert found["train - dev gap"] == pytest.approx(0.2)
    assert found["task calls to 90%"] == 20  # 0.2 + 0.9 * 0.5 = 0.65
    assert (found["prompts"], found["distinct prompts"], found["prompt distance"]) == (3, 2, 0.25)
    assert (found["proposals refused"], found["prompts that copy a reference"]) == (4, 1)
    assert calls_to(steps[:1], "m", 0.9) is None
    assert mean_distance(["one"]) is None


def test_the_tree_is_laid_out_by_step_and_parent():
    prompts = [
        {"number": 0, "step": 0, "parent": None},
        {"number": 1, "step": 0, "parent": None},
        {"number": 2, "step": 1, "parent": 1},
        {"number": 3, "step": 1, "parent": 0},
        {"number": 4, "step": 3, "parent": 2},
    ]
    places = layout(prompts)
    assert len(set(places)) == 5
    assert places[2][0] == places[3][0] > places[0][0]
    assert places[3][1] < places[2][1]  # children stand as their parents do
    assert lineage(prompts, 4) == [4, 2, 1]


def test_word_diffs_put_together_give_both_texts():
    before, after = "Be brief.\nINSERT_INPUT_HERE  now", "Be very brief.\nINSERT_INPUT_HERE now"
    pieces = word_diff(before, after)
    assert "".join(text for kind, text in pieces if kind != "add") == before
    assert "".join(text for kind, text in pieces if kind != "del") == after


def test_the_page_shows_every_prompt_and_asks_the_network_for_nothing(folder, tmp_path):
    told = SavedSearch.read(folder)
    page = Page("x", method="crispo", verb="optimize")
    draw(page, told)
    html = page.write(tmp_path).read_text()
    for prompt in told.prompts:
        assert f'id="prompt-{prompt["number"]}"' in html
        assert f'href="#prompt-{prompt["number"]}"' in html
    assert html.count("data-number=") == 2 * len(told.prompts)  # a node and a card each
    assert "https://" not in html.replace("http://www.w3.org", "")
    assert "Optimisation trees" in html  # the script is there
    with pytest.raises(BadConfig, match=r'no metric "stile"\. Did you mean "style"'):
        draw(page, told, "stile")


def test_hostile_prompts_and_critiques_are_escaped(tmp_path):
    bad = "<script>alert(1)</script></details>"
    llms = counting_llms(reply=lambda n: f"<instruction>{bad} number {n}</instruction>")
    cfg = SearchConfig(steps=2, per_step=1)
    result = tune_suffix(
        "INSERT_INPUT_HERE <summary>", numbered(4), numbered(4, "d"), llms, two_scores(), cfg
    )
    for one in result.history.candidates:
        one.critique = bad
    Store(tmp_path, "INSERT_INPUT_HERE <summary>", "summary").save(result.history, result.calls, result.best)
    page = Page("x", method="crispo", verb="suffix")
    draw(page, SavedSearch.read(tmp_path), "other")
    html = page.write(tmp_path / "page").read_text()
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert 'aria-label="Pareto front"' in html
    assert (tmp_path / "best_suffix.txt").read_text() == result.best.text
    assert (tmp_path / BEST).read_text() == f"INSERT_INPUT_HERE <summary>\n\n{result.best.text}"


def test_promptfoo_keeps_foreign_marks_and_names_the_slots():
    import jinja2

    prompt = "Use {{ braces }} and {% marks %}: INSERT_INPUT_HERE / INSERT_CONTEXT_HERE"
    rows = [Example("a", "IN {{ x }}", ["OUT", "or"], {"context": "C"})]
    made = json.loads(json.dumps(promptfoo(prompt, rows)))
    assert made["tests"] == [
        {
            "description": "a",
            "vars": {"input": "IN {{ x }}", "context": "C"},
            "metadata": {"reference": "OUT"},
        }
    ]
    # Nunjucks and Jinja agree on variables and raw blocks.
    text = jinja2.Template(made["prompts"][0]["raw"]).render(made["tests"][0]["vars"])
    assert text == "Use {{ braces }} and {% marks %}: IN {{ x }} / C"


def test_dspy_has_instructions_and_a_field_per_slot():
    made = dspy("Summarise INSERT_INPUT_HERE in <summary> tags", "summary")
    assert made["signature"]["instructions"] == "Summarise [the field `input`] in <summary> tags"
    assert [field["description"] for field in made["signature"]["fields"]] == ["${input}", "${summary}"]
    assert made["demos"] == made["train"] == made["traces"] == []
