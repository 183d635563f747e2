"""Put the tour on one page: one corpus, from its first filter to the audit of its judge: tour_page.py TOUR."""

import sys
from pathlib import Path

from tour_chapters import Tour, audit, curate, erase, extend, ground, look_inside, steer, train

from gnomon.core.report import Page

METHODS = (
    "sieve, lintseq, truth-probes, markov, vl-lens, neutral-residues, elm, sigext, crispo, calm, uncertainty-rag, "
    "adaptive-sampling"
)

tour = Tour(Path(sys.argv[1]))
page = Page("A tour of gnomon", method="tour", verb=METHODS, command="make demo")
page.figures(
    {
        "verdicts": tour.figures("filter")["labels"],
        "snippets filtered by them": tour.logged("filtered")[-1]["snippets"],
        "functions as edits": tour.figures("edits")["programs"],
        "ROUGE-1, plain prompt": tour.rows("prompt/history.jsonl")[0]["scores"]["test"]["rouge1"],
        "best prompt": tour.figures("prompt")["test rouge1"],
    }
)
page.text(
    "One corpus, this machine's own Python: its documentation and its functions. It is **curated**, a model is **trained** on it, "
    "**looked into**, **extended** by what was curated, and robbed of a part (**erased**); then summaries of the documentation are "
    "**steered** towards what a reader cares about, and the judge of such summaries is **audited**. Twelve methods, each of them a "
    "command of the script `examples/tour.sh`. Models are small and were trained for a minute, and rules stand where language "
    "models would cost money: what works here is the machinery. What the methods are worth stands on their own pages, measured."
)
for chapter in (curate, train, look_inside, extend, erase, steer, audit, ground):
    chapter(page, tour)

page.section("9. Sample: when is one more worth it?")
worth = tour.json("worth-it/summary.json")
page.text(
    "**adaptive-sampling** taught the model of all this to say, behind any beginning of its own answer, whether it would do "
    "better if it started over. On questions that it was not taught with, that chooses among six answers. "
    + worth["verdict"]["sentence"]
)
page.table(worth["verdict"]["rows"], caption="what six samples are worth, by how one of them is chosen")

page.section("Where to go from here")
page.text(
    "- `gnomon sieve fit my_texts/ --filter my_filter.yaml --judge openai:MODEL --model hashed-linear` on texts of your own\n"
    "- `gnomon lintseq generate my_project/ --linter pyflakes -s 5` on your own code\n"
    "- `gnomon crispo optimize train.jsonl --dev dev.jsonl --prompt seed.txt --task openai:MODEL` on your own prompt\n"
    "- `gnomon calm audit pairs.jsonl --judge openai:MODEL` on your own judge\n"
    "- `gnomon METHOD mini` is a method's replication with its baselines\n"
    "- `gnomon list` shows the other methods"
)
folder = tour / "page"
folder.mkdir(exist_ok=True)
print(page.write(folder))
