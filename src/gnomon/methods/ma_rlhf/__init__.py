"""MA-RLHF (arXiv 2410.02743): PPO for language models whose credit passes between groups of tokens, the macro actions."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Answer": "actions.segments",
        "CLAIMS": "config",
        "Macro": "options",
        "Ppo": "options",
        "Setup": "training.ppo",
        "Trained": "training.ppo",
        "actor_critic": "training.policy",
        "cut": "actions.segments",
        "macro_gae": "actions.credit",
        "macro_ppo": "training.ppo",
        "macro_rewards": "actions.credit",
        "macro_values": "actions.credit",
        "matched_lambda": "options",
        "segment": "actions.segments",
        "token_rewards": "actions.credit",
    },
)
