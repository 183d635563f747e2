"""Questions answered with tools: a route by rules where no language model is, else one JSON object a step from any model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gnomon.core.files import room_file
from gnomon.core.llm.base import LLM, Message, Request
from gnomon.core.llm.parse import json_object
from gnomon.core.llm.stack.many import complete
from gnomon.core.retrieval.answers import Answer
from gnomon.core.retrieval.fusion import Search
from gnomon.core.retrieval.graph.contract import Node
from gnomon.core.retrieval.passages import Passage
from gnomon.errors import BadConfig, BadInput, LLMFailure
from gnomon.methods.smart_slic.knowledge.planner import Planner, Refusal

TOOLS = ("graph", "neighbours", "search", "read", "finish")
SHOWN_CHARS = 400
"""Of a passage in a list of hits; `read` shows all of it."""
SHOWN_NEIGHBOURS = 30


@dataclass
class Agent:
    """Answers from a graph and passages.

    Args:
        planner: of the graph.
        search: over the passages.
        passages: by id.
        llm: plans; None: rules do, and no language model is asked.
        steps: tool calls at most.
        hits: passages a search shows.
    """

    planner: Planner
    search: Search
    passages: Mapping[str, Passage]
    llm: LLM | None = None
    steps: int = 6
    hits: int = 5
    calls: int = field(default=0, init=False)
    """Requests to the language model so far."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.hits < 1:
            raise BadConfig(f"steps and hits must be >= 1; got {self.steps} and {self.hits}.")

    def ask(self, question: str) -> Answer:
        """An answer each of whose sentences cites what was shown, or one that abstains.

        Raises:
            LLMFailure: the language model could not be asked.
        """
        return self._by_rules(question) if self.llm is None else self._by_model(question, self.llm)

    def route(self, question: str) -> str:
        """`graph`, `passages` or `outside`, by rules.

        A question that is a plan on the graph goes there; one that asks for a number, a ranking or a list and names what is not
        there is outside; anything else is looked for in the passages, and is outside where none shares a word with it.
        """
        plan = self.planner.plan(question)
        if not isinstance(plan, Refusal):
            return "graph"
        if not plan.is_content:
            return "outside"
        return "passages" if self.search.search(question, 1) else "outside"

    def _by_rules(self, question: str) -> Answer:
        route = self.route(question)
        if route != "passages":
            answer = self.planner.answer(question)
            return replace(answer, trace={**answer.trace, "route": route, "llm_calls": 0})
        hits = self.search.search(question, self.hits)
        # Without a model nothing is put into own words: the best passages are quoted.
        sentences = tuple((self.passages[hit.id].text, (hit.id,)) for hit in hits)
        return Answer(
            question, sentences, trace={"route": route, "llm_calls": 0, "hits": [h.id for h in hits]}
        )

    def _by_model(self, question: str, llm: LLM) -> Answer:
        system = room_file(__name__, "prompts/react.txt").read_text("utf-8")
        messages = [Message("system", system), Message("user", f"Question: {question}")]
        shown: set[str] = set()
        trace: dict[str, Any] = {"route": "model", "steps": [], "tool_errors": 0}
        for _ in range(self.steps):
            (reply,) = complete(llm, [Request(tuple(messages), temperature=0.0)])
            self.calls += 1
            if reply.error is not None:
                raise LLMFailure(f"The language model could not be asked: {reply.error}")
            call = json_object(reply.text)
            step: dict[str, Any] = {"reply": reply.text}
            trace["steps"].append(step)
            if call is not None and call.get("tool") == "finish":
                return self._finished(question, call, shown, trace)
            try:
                result = self._use(call, shown)
            except BadInput as error:
                trace["tool_errors"] += 1
                result = {"error": str(error)}
            step["result"] = result
            # As JSON, quotation marks and line ends of a paper's text cannot end the quotation.
            quoted = json.dumps(result, ensure_ascii=False)
            messages += [Message("assistant", reply.text), Message("user", f"Result: {quoted}")]
        trace["why"] = f"no answer within {self.steps} steps"
        return _abstained(question, trace)

    def _use(self, call: Mapping[str, Any] | None, shown: set[str]) -> Any:
        """What a tool returns; ids that it shows may be cited from then on.

        Raises:
            BadInput: there is no such tool, or not with such arguments.
        """
        if call is None:
            raise BadInput("The reply holds no JSON object.")
        tools: dict[str, Callable[[Mapping[str, Any], set[str]], Any]] = {
            "graph": self._graph,
            "neighbours": self._neighbours,
            "search": self._search,
            "read": self._read,
        }
        name = call.get("tool")
        if not isinstance(name, str) or name not in tools:
            raise BadInput(f"There is no tool {name!r}; there are {', '.join(TOOLS)}.")
        return tools[name](call, shown)

    def _graph(self, call: Mapping[str, Any], shown: set[str]) -> Any:
        answer = self.planner.answer(_argument(call, "question"))
        shown.update(answer.cited)
        return {"answer": answer.text, "cites": list(answer.cited)}

    def _neighbours(self, call: Mapping[str, Any], shown: set[str]) -> Any:
        node = Node(_argument(call, "type"), _argument(call, "id"))
        around = self.planner.graph.neighbours(node)
        rows: list[dict[str, Any]] = [
            {
                "relation": n.relation,
                "out": n.out,
                "type": n.node.type,
                "id": n.node.id,
                "cites": [n.stated_by[0][0]],
            }
            for n in around[:SHOWN_NEIGHBOURS]
        ]
        shown.update(row["cites"][0] for row in rows)
        return {"neighbours": rows, "total": len(around)}

    def _search(self, call: Mapping[str, Any], shown: set[str]) -> Any:
        hits = self.search.search(_argument(call, "text"), self.hits)
        shown.update(hit.id for hit in hits)
        return [{"id": hit.id, "text": self.passages[hit.id].text[:SHOWN_CHARS]} for hit in hits]

    def _read(self, call: Mapping[str, Any], shown: set[str]) -> Any:
        name = _argument(call, "id")
        if name not in self.passages:
            raise BadInput(f'There is no passage "{name}".')
        shown.add(name)
        return {"id": name, "text": self.passages[name].text}

    def _finished(
        self, question: str, call: Mapping[str, Any], shown: set[str], trace: dict[str, Any]
    ) -> Answer:
        """The answer without citations of what was not shown, and without sentences that then cite nothing."""
        sentences: list[tuple[str, tuple[str, ...]]] = []
        trace |= {"unknown_citations": 0, "bare_sentences": 0}
        rows = call.get("sentences")
        for row in rows if isinstance(rows, list) else []:
            if not isinstance(row, Mapping) or not isinstance(row.get("text"), str):
                trace["bare_sentences"] += 1
                continue
            cites = row.get("cites")
            names = [str(name) for name in cites] if isinstance(cites, list) else []
            kept = tuple(dict.fromkeys(name for name in names if name in shown))
            trace["unknown_citations"] += sum(name not in shown for name in names)
            if kept:
                sentences.append((row["text"], kept))
            else:
                trace["bare_sentences"] += 1
        if not sentences:
            trace["why"] = "no sentence cites what a tool has shown"
            return _abstained(question, trace)
        return Answer(question, tuple(sentences), trace=trace)


def _argument(call: Mapping[str, Any], name: str) -> str:
    value = call.get(name)
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f'The tool needs "{name}", a text.')
    return value


def _abstained(question: str, trace: dict[str, Any]) -> Answer:
    return Answer(question, (("Not in the corpus.", ()),), abstained=True, trace=trace)
