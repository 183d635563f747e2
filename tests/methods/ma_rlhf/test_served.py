"""Rollouts that a scripted server writes: a new adapter for each, read as the policy's tokens."""

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fixtures_server import LoopbackServer
from fixtures_training import SmallRun
from gnomon.core.models import GenConfig, add_lora, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task
from gnomon.core.train import TrainConfig
from gnomon.errors import BadConfig, LLMFailure
from gnomon.methods.ma_rlhf import Macro, Ppo, Setup, macro_ppo
from gnomon.methods.ma_rlhf.training.served import Served

TASKS = [Task(str(i), f"say {i}") for i in range(4)]
GEN = GenConfig(max_new_tokens=10)


class Handler(BaseHTTPRequestHandler):
    """Takes adapters that are there, and goes on with the text of a prompt's last word."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = self.path.rsplit("/", 1)[-1]
        with self.server.lock:
            self.server.calls.append((what, body))
        answer, status = {}, 200
        if what == "load_lora_adapter":
            status = 200 if (Path(body["lora_path"]) / "adapter_model.safetensors").exists() else 400
        elif what == "completions":
            ends = "length" if body["prompt"].endswith("3") else "stop"
            answer = {"choices": [{"index": 0, "text": " hello", "finish_reason": ends}]}
        data = json.dumps(
            {"id": "1", "object": "text_completion", "created": 0, "model": body.get("model", ""), **answer}
        ).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    with LoopbackServer(Handler) as running:
        running.calls = []
        yield running


def test_each_rollout_is_written_by_the_newest_adapter(server, tmp_path):
    words = train_bpe(["say hello"] * 3, 262)
    model = add_lora(new_llama(words, 16, 1, 2, 64, Rng(0), intermediate=32), 2)
    setup = Setup(
        model, write=lambda policy: Served(server.endpoint, policy, words, GEN, tmp_path / "adapters")
    )
    train = TrainConfig(
        lr=1e-3, batch_size=4, max_length=32, epochs=2, max_steps=2, weight_decay=0.0, checkpoint_every=0
    )
    trained = macro_ppo(
        setup, words, TASKS, lambda prompts, completions: [float(len(text)) for text in completions], macro=Macro(n=3),
        ppo=Ppo(gen=GEN), train=train, run=SmallRun(tmp_path / "run"),
    )  # fmt: skip
    assert [row["reward"] for row in trained.rows] == [6.0, 6.0]
    assert trained.rows[0]["cut_share"] == 0.25 and "rollout_gap" not in trained.rows[0]
    names = [body["lora_name"] for what, body in server.calls if what == "load_lora_adapter"]
    asked = [body["model"] for what, body in server.calls if what == "completions"]
    assert len(set(names)) == 2 and asked == [names[0]] * 4 + [names[1]] * 4
    assert [body["lora_name"] for what, body in server.calls if what == "unload_lora_adapter"] == names[:1]
    folders = [body["lora_path"] for what, body in server.calls if what == "load_lora_adapter"]
    weights = [(Path(folder) / "adapter_model.safetensors").read_bytes() for folder in folders]
    assert weights[0] != weights[1]


def test_a_server_takes_adapters_alone_and_must_be_there(tmp_path):
    words = train_bpe(["say hello"] * 3, 262)
    model = new_llama(words, 16, 1, 2, 64, Rng(0), intermediate=32)
    with pytest.raises(BadConfig, match=r"--train\.lora-rank"):
        Served("http://127.0.0.1:9/v1#x", model, words, GEN, tmp_path)
    write = Served("http://127.0.0.1:9/v1#x", add_lora(model, 2), words, GEN, tmp_path)
    with pytest.raises(LLMFailure, match="did not take the adapter"):
        write(TASKS[:1], [[1, 2]], [Rng(0)])
