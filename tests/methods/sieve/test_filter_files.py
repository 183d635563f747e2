import pytest
import yaml

from gnomon.errors import BadInput
from gnomon.methods.sieve.judging.filters import Example, Filter, built_in, filter_of, load_filter

GOOD = {"name": "cats", "description": "texts about cats", "pass": "cats matter", "fail": "no cat"}


def write(folder, **changes):
    path = folder / "cats.yaml"
    raw = {key: value for key, value in (GOOD | changes).items() if value != "gone"}
    path.write_text(yaml.safe_dump(raw), "utf-8")
    return path


@pytest.mark.parametrize(
    "name", ["politics", "climate", "artificial-intelligence", "mainstream-knowledge", "text-quality"]
)
def test_the_five_that_come_with_the_room(name):
    chosen = load_filter(name)
    assert chosen.name == name in built_in()
    verdicts = [example.verdict for example in chosen.examples]
    assert 2 <= len(verdicts) <= 4 and set(verdicts) == {"pass", "fail"}
    assert min(map(len, (chosen.description, chosen.pass_, chosen.fail))) > 50


def test_there_are_five_and_no_two_are_alike():
    assert len(built_in()) == 5
    assert len({load_filter(name).fingerprint for name in built_in()}) == 5


def test_a_file_of_one_s_own(tmp_path):
    path = write(tmp_path, examples=[{"text": "Miau.", "verdict": "pass"}], output={"style": "json"})
    chosen = load_filter(path)
    assert chosen == Filter(
        "cats", "texts about cats", "cats matter", "no cat", (Example("Miau.", "pass"),), "json"
    )
    assert load_filter(str(path)) == chosen


def test_every_word_counts_and_a_round_trip_changes_none(tmp_path):
    chosen = load_filter(write(tmp_path, examples=[{"text": "Miau: 'x'\n\n$y", "verdict": "fail"}]))
    (tmp_path / "again.yaml").write_text(chosen.to_yaml(), "utf-8")
    again = load_filter(tmp_path / "again.yaml")
    assert again == chosen and again.fingerprint == chosen.fingerprint
    for key in ("description", "pass", "fail"):
        assert load_filter(write(tmp_path, **{key: "other"})).fingerprint != chosen.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pass": "gone"}, r'key "pass" is missing. A filter needs name, description, pass, fail'),
        ({"fail": ""}, r'key "fail" must be text that is not empty'),
        ({"pass": True}, r'key "pass" must be text that is not empty; got True'),
        ({"pas": "x"}, r'key "pas" is unknown. Did you mean "pass"\?'),
        ({"examples": "x"}, r'key "examples" must be a list'),
        ({"examples": ["x"]}, r'key "examples", item 1: an example is a mapping'),
        ({"examples": [{"text": "a", "verdict": "maybe"}]}, r'item 1: key "verdict" must be pass or fail; got \'maybe\''),
        ({"examples": [{"verdict": "pass"}]}, r'item 1: key "text" must be text'),
        ({"examples": [{"txt": "a", "verdict": "pass"}]}, r'item 1: key "txt" is unknown. Did you mean "text"'),
        ({"output": "cot"}, r'key "output" must be a mapping'),
        ({"output": {"style": "poem"}}, r'key "output.style" must be one of cot, direct, json; got \'poem\''),
        ({"output": {"stile": "cot"}}, r'key "output": key "stile" is unknown. Did you mean "style"'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_key(tmp_path, changes, message):
    with pytest.raises(BadInput, match=r"cats\.yaml[:,] .*" + message):
        load_filter(write(tmp_path, **changes))


def test_filters_that_are_not_there_and_files_that_are_none(tmp_path):
    with pytest.raises(BadInput, match=r'There is no filter "climat". Did you mean "climate"\?'):
        load_filter("climat")
    with pytest.raises(BadInput, match=r'There is no file ".*none\.yaml"'):
        load_filter(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(BadInput, match=r"list\.yaml: settings are a mapping"):
        load_filter(tmp_path / "list.yaml")
    with pytest.raises(BadInput, match="here: key"):
        filter_of({}, "here")
