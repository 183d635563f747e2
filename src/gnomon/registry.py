"""The one table of twenty methods. It holds strings only; the code behind a verb is imported when the verb runs.

A room keeps to fixed doors, so one line here is all a room needs: verb `train` of method `x-y` has its settings in
`gnomon.methods.x_y.config:Train` and its function in `gnomon.methods.x_y.run:train`; `mini` lives in `mini.study:mini`.
"""

from __future__ import annotations

import keyword
from dataclasses import dataclass

from gnomon.errors import BadConfig, nearest

FAMILIES = {
    "curate": "make better training data",
    "train": "extend and align models",
    "edit": "change what a model knows",
    "inspect": "look inside",
    "ground": "answer from documents",
    "steer": "better answers without training",
    "audit": "measure judges and fakes",
}
"""Family -> what its methods are for, in the order in which they are listed."""


@dataclass(frozen=True)
class Method:
    """One method: where its paper is, what it does in one line, and which verbs work today."""

    slug: str
    """The method's name everywhere: command group, documentation page; the folder has `_` for `-`."""
    paper: str
    """arXiv identifier."""
    family: str
    """A key of `FAMILIES`."""
    line: str
    """What it does, in one line."""
    verbs: str = ""
    """Verbs that work, separated by spaces; empty: planned."""

    @property
    def package(self) -> str:
        """The room's package."""
        return f"gnomon.methods.{self.slug.replace('-', '_')}"

    @property
    def status(self) -> str:
        """`works` or `planned`."""
        return "works" if self.verbs else "planned"

    def config(self, verb: str) -> str:
        """Reference of the verb's settings class, `module:Class`."""
        return f"{self.package}.config:{verb.title().replace('-', '')}"

    def function(self, verb: str) -> str:
        """Reference of the verb's function, `module:function`; a keyword of Python has a `_` behind it."""
        name = f"{verb}_" if keyword.iskeyword(verb) else verb.replace("-", "_")
        return f"{self.package}.{'mini.study' if verb == 'mini' else 'run'}:{name}"


# fmt: off
METHODS = (
    Method("sieve", "2410.02755", "curate", "filter web-scale text like a strong LLM would, at 1% of its cost", verbs="label fit apply eval cost mini"),
    Method("lintseq", "2410.02749", "curate", "turn programs into sequences of lint-clean edits to train code models on", verbs="generate randseq resolve check train sample eval mini"),
    Method("glimo", "2410.02742", "curate", "make instruction data from a simulator to ground an LLM in its world"),
    Method("neutral-residues", "2410.02744", "train", "teach a model a new language or domain without forgetting the old one", verbs="train sweep eval inspect export mini"),
    Method("ma-rlhf", "2410.02743", "train", "PPO over macro actions: faster credit assignment from a reward model", verbs="sft reward train eval segment real mini"),
    Method("cloc", "2410.02746", "train", "CLIP pre-training with region-text contrast and promptable embeddings", verbs="label train apply ground eval mini"),
    Method("loong", "2410.02757", "train", "autoregressive long video generation, short clips to minutes"),
    Method("divscene", "2410.02730", "train", "object navigation by imitation in many scene types"),
    Method("elm", "2410.02760", "edit", "erase a concept from a language model and measure what is left", verbs="target fluency-data train baseline eval attack merge mini"),
    Method("vl-lens", "2410.02762", "inspect", "see what a VLM sees in each patch, localise it, and remove hallucinated objects", verbs="caption lens detect erase mitigate segment sweep chair mini"),
    Method("truth-probes", "2410.02707", "inspect", "detect errors from hidden states at the exact answer tokens", verbs="answer extract represent heatmap train eval generalise resample taxonomy types choose score mini"),
    Method("markov", "2410.02724", "inspect", "treat an LLM as the finite Markov chain it is", verbs="chain forget bound icl mini"),
    Method("interleaved-retrieval", "2410.02729", "ground", "retrieve documents that mix text, images and tables", verbs="import train index search eval real mini"),
    Method("smart-slic", "2410.02721", "ground", "domain RAG with a vector store, a knowledge graph and tensor factorisation", verbs="expand prune clean topics build ask eval serve real mini"),
    Method("uncertainty-rag", "2410.02719", "ground", "long-context RAG calibrated by span uncertainty", verbs="score mine train index search ask eval explain mini"),
    Method("sigext", "2410.02741", "steer", "steer summaries with salient keyphrases", verbs="prepare labels train score prompt summarize evaluate tune-k mini"),
    Method("crispo", "2410.02748", "steer", "optimise prompts from multi-aspect critiques and suggestions", verbs="optimize suffix evaluate show mini"),
    Method("adaptive-sampling", "2410.02725", "steer", "spend samples only where the model says more will help", verbs="build train apply score eval real mini"),
    Method("calm", "2410.02736", "audit", "measure twelve biases of an LLM judge", verbs="perturb audit import analyze compare validate power mini"),
    Method("fakeshield", "2410.02761", "audit", "detect, localise and explain image forgeries"),
)
# fmt: on

SIMULATORS = {
    "summariser": "gnomon.methods.sigext.council:Summariser",
    "judge": "gnomon.methods.calm.planted.characters:Judge",
    "rewriter": "gnomon.methods.calm.planted.characters:Rewriter",
    "verdict": "gnomon.methods.sieve.judging.characters:Verdict",
    "styler": "gnomon.methods.crispo.house.characters:Styler",
    "critic": "gnomon.methods.crispo.house.characters:Critic",
    "optimizer": "gnomon.methods.crispo.house.characters:Optimizer",
}
"""Name of a simulated language model, as in `sim:NAME` -> its class, in the room that judges by it. A new one is a line here."""


def method(slug: str) -> Method:
    """The method called `slug`.

    Raises:
        BadConfig: there is no such method; the message suggests the nearest.
    """
    for candidate in METHODS:
        if candidate.slug == slug:
            return candidate
    raise BadConfig(f'There is no method "{slug}". {nearest(slug, (m.slug for m in METHODS))}')


def verb(of: Method, name: str) -> str:
    """`name`, when it is a verb of the method.

    Raises:
        BadConfig: the method is only planned, or has no such verb.
    """
    if not of.verbs:
        raise BadConfig(f'"{of.slug}" is planned and not built yet. `gnomon list` shows what works.')
    if name not in of.verbs.split():
        raise BadConfig(f'"{of.slug}" has no verb "{name}". {nearest(name, of.verbs.split())}')
    return name
