"""How rules cut an answer into macro actions, and what credit each of its tokens gets from a reward at the end."""

import torch

from gnomon.methods.ma_rlhf import Answer, Macro, cut, macro_gae, matched_lambda, segment, token_rewards

pieces = "The little girl went to the park , and there she saw a dog .".replace(" ", "| ").split("|")
for rule in ("fixed", "chunks", "randomized"):
    starts = cut(Answer(len(pieces), pieces), Macro(rule=rule)).starts
    ends = [*starts[1:], len(pieces)]
    print(f"{rule:>10}:", "|".join("".join(pieces[a:b]) for a, b in zip(starts, ends, strict=True)))

mask = torch.ones(1, len(pieces), dtype=torch.bool)
rewards = token_rewards(
    torch.tensor([1.0]), torch.zeros(1, len(pieces)), mask, beta=0.05
)  # the reward is at the end alone
values = torch.zeros(1, len(pieces))
for name, macro in {
    "tokens": Macro(n=1, lam=0.8),
    "macro actions of 5": Macro(n=5, lam=0.8),
    "tokens, lambda ** (1/5)": Macro(n=1, lam=matched_lambda(0.8, 5)),
}.items():
    advantages, _ = macro_gae(values, rewards, segment(mask, macro), macro)
    print(
        f"{name:>24}: credit of the first token {float(advantages[0, 0]):.3f}, of the last {float(advantages[0, -1]):.3f}"
    )
