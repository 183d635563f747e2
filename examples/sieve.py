"""Learn a filter from 60 verdicts of a judge, here a function of the text: `python examples/sieve.py`."""

import random

from gnomon.methods.sieve import Filter, FitSettings, Selection, Sieve

draw = random.Random(0)
WORDS = {
    True: ["tide", "harbour", "sail", "reef", "anchor", "wave"],
    False: ["bread", "oven", "flour", "yeast", "crust", "salt"],
}


def text(number):
    """About the sea, one time in eight, or about baking."""
    words = WORDS[draw.random() < 1 / 8]
    return f"note {number}: " + " ".join(draw.choices(words, k=8))


def judge(text):
    """True for texts about the sea."""
    return any(word in text for word in WORDS[True])


corpus = [text(number) for number in range(400)]
sea = Filter("sea", "texts about the sea", "It names things of the sea.", "It is about anything else.")
sieve = Sieve(sea, judge, "hashed-linear", FitSettings(Selection(budget=60, batch=20, folds=2)))
model = sieve.fit(corpus)
print("labels:", sieve.report()["labels"])
print("passes:", sum(map(model.keep, corpus)), "of", len(corpus), "- the judge:", sum(map(judge, corpus)))
print("scores:", model.score(["a wave in the harbour", "bread from the oven"]).round(2))
