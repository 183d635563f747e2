"""Optimise a prompt with CriSPO, on a simulated task; give a model such as openai:MODEL or hf:FOLDER to ask that instead."""

import sys

from gnomon.core.llm import asking
from gnomon.core.rng import Rng
from gnomon.methods.crispo import Example, LLMs, SearchConfig, Task, metric_of, optimize
from gnomon.methods.crispo.house import draw_documents, style_score

PROMPT = "Summarise the notes.\nINSERT_INPUT_HERE\nWrite the summary inside <summary> and </summary>."
SIMULATED = {"task": "sim:styler?default=00112233", "critic": "sim:critic", "optimizer": "sim:optimizer"}

roles = dict.fromkeys(SIMULATED, sys.argv[1]) if len(sys.argv) > 1 else SIMULATED
rows = [
    Example(text.id, text.notes, text.reference)
    for text in draw_documents(40, (1, 1, 2, 3, 0, 1, 2, 3), Rng(0))
]
with asking(roles) as models:
    result = optimize(
        Task([PROMPT]), rows[:20], rows[20:], LLMs(**models), [metric_of(style_score, "style")], SearchConfig(steps=5)
    )  # fmt: skip
for step in result.history.steps:
    print(f"step {step.step}: best style on train {step.values['train']['style']:.2f}")
print(f"\n{result.best.text}")
