"""What a policy wrote, what it is worth, and what is learned from it: tasks, rewards, code suites, training examples, episodes."""

from gnomon.lazy import exports

__getattr__, __dir__ = exports(
    __name__,
    {
        "Task": "tasks",
        "read_tasks": "tasks",
        "Reward": "rewards",
        "Sample": "rewards",
        "load_rule": "rewards",
        "open_reward": "rewards",
        "score": "rewards",
        "Grade": "suites",
        "Problem": "suites",
        "graded": "suites",
        "load_suite": "suites",
        "strip_markdown": "suites",
        "examples": "chats",
        "prompt_ids": "chats",
        "next_turn": "chats",
        "Episode": "episodes",
        "Trace": "episodes",
        "play": "episodes",
    },
)
