from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core import config
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, nearest


@dataclass(frozen=True)
class Inner:
    lr: float = 0.1
    steps: int = 3


@dataclass(frozen=True)
class Outer:
    source: config.Positional[str]
    kind: Literal["a", "b"] = "a"
    fast: bool = True
    ks: tuple[int, ...] = (1, 2)
    name: str | None = None
    inner: Inner = field(default_factory=lambda: Inner(lr=0.5))


def parse(words):
    from gnomon.verbs import parse

    return parse(Outer, words, prog="test")


@given(
    st.builds(
        Outer,
        st.from_regex(r"[a-z]{1,8}\.jsonl", fullmatch=True),
        st.sampled_from(["a", "b"]),
        st.booleans(),
        st.lists(st.integers(0, 99), min_size=1).map(tuple),
        st.none() | st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda s: s != "none"),
        st.builds(Inner, st.floats(1e-6, 1e6), st.integers(0, 10**6)),
    )
)
def test_settings_survive_a_file_and_the_parser(tmp_path_factory, settings):
    path = tmp_path_factory.mktemp("settings") / "config.yaml"
    config.write_settings(path, config.to_plain(settings), "# test")
    words = config.tokens(config.read_settings(path), positional=["source"])
    assert parse(words) == settings


def test_overriding_one_nested_field_keeps_the_room_s_other_defaults():
    assert parse(["x", "--inner.steps", "9"]).inner == Inner(lr=0.5, steps=9)


def test_later_words_win():
    assert parse(["x", "--ks", "1", "2", "--fast", "--ks", "7", "--no-fast"]) == Outer(
        "x", fast=False, ks=(7,)
    )


@pytest.mark.parametrize("content", ["a: [1", "- 1\n- 2\n", ""])
def test_bad_settings_files(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"config\.yaml"):
        config.read_settings(path)
    with pytest.raises(BadInput, match="cannot be read"):
        config.read_settings(tmp_path / "missing.yaml")


def test_differences_and_fingerprint():
    old, new = {"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}
    assert config.differences(old, new) == ["b.c: 2 -> 3"]
    assert config.fingerprint(old) == config.fingerprint({"b": {"c": 2}, "a": 1}) != config.fingerprint(new)


def test_check_names_field_rule_and_value():
    with pytest.raises(BadConfig, match=r"train\.lr must be > 0; got -1\.0\."):
        config.check(-1.0 > 0, "train.lr", "> 0", -1.0)


def test_nearest():
    assert nearest("lintsec", ["sieve", "lintseq"]) == 'Did you mean "lintseq"?'
    assert nearest("zzz", ["b", "a"]) == "Known: a, b."


def test_children_of_a_seed_are_independent_and_repeat():
    root = Rng(3)
    draws = [root.child("a", i).python().random() for i in range(200)]
    assert len(set(draws)) == 200
    assert draws == [Rng(3).child("a").child(i).python().random() for i in range(200)]
    assert Rng(3).child("a", "b").key != Rng(3).child("ab").key != Rng(4).child("ab").key
    assert root.child("n").numpy().integers(10**9) == root.child("n").numpy().integers(10**9)
    assert root.child("t").torch().initial_seed() == root.child("t").key & (2**63 - 1)


@dataclass(frozen=True)
class LooseInner:
    LOOSE: ClassVar = ("*",)
    GROWS: ClassVar = ("b",)
    a: int = 1
    b: int = 2


@dataclass(frozen=True)
class LooseOuter:
    LOOSE: ClassVar = ("workers",)
    workers: int = 1
    lr: float = 0.1
    inner: LooseInner = LooseInner()
    train: Inner = Inner()


def test_loose_names_are_found_in_nested_settings():
    assert config.loose_names(LooseOuter) == {"workers", "inner.a", "inner.b"}
    assert config.loose_names(LooseOuter, mark="GROWS") == {"inner.b"}
