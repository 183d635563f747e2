import pytest
import torch

from gnomon.core.env import device_for


@pytest.mark.parametrize(
    ("asked", "has_gpu", "local_rank", "taken"),
    [
        ("auto", False, None, "cpu"),
        ("auto", False, "1", "cpu"),
        ("auto", True, None, "cuda"),
        ("auto", True, "1", "cuda:1"),
        ("cuda", True, "3", "cuda:3"),
        ("cuda:0", True, "3", "cuda:0"),
        ("cpu", True, "3", "cpu"),
    ],
)
def test_each_process_takes_its_own_gpu(asked, has_gpu, local_rank, taken, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    assert device_for(asked) == taken
