"""A user's functions, by module and by file."""

import asyncio

import pytest

from gnomon.core.llm import Request
from gnomon.core.llm.base import Message
from gnomon.core.llm.references import open_llm
from gnomon.errors import BadConfig, BadInput
from gnomon.lazy import function, named

FILE = "LIMIT = 3\n\n\ndef shout(request):\n    return request.messages[-1].content.upper()\n"


def test_a_function_stands_in_a_module_or_in_a_file(tmp_path):
    (tmp_path / "house.py").write_text(FILE)
    assert function("math:sqrt")(4) == 2
    assert named(f"{tmp_path}/house.py:LIMIT") == 3
    assert function(f"{tmp_path}/house.py:shout").__name__ == "shout"


@pytest.mark.parametrize(
    ("reference", "kind", "says"),
    [
        ("math", BadConfig, "names no function"),
        (":sqrt", BadConfig, "names no function"),
        ("no_such:f", BadInput, 'There is no module "no_such"'),
        ("no/such.py:f", BadInput, r"no/such\.py does not exist"),
        ("math:sqr", BadInput, 'Module "math" has no function "sqr". Did you mean "sqrt"'),
        ("math:pi", BadInput, '"math:pi" is no function but float'),
    ],
)
def test_what_cannot_be_found_is_named(reference, kind, says):
    with pytest.raises(kind, match=says):
        function(reference)


def test_a_module_that_fails_by_itself_is_not_called_missing(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_thing\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        function(f"{tmp_path}/broken.py:f")


def test_a_file_that_is_not_python_is_told_with_its_line(tmp_path):
    (tmp_path / "house.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(BadInput, match=r"house\.py, line 2: not valid Python"):
        function(f"{tmp_path}/house.py:f")


def test_a_file_as_a_model_is_another_model_once_it_changes(tmp_path):
    path = tmp_path / "house.py"
    path.write_text(FILE)
    llm = open_llm(f"script:{path}:shout")
    asked = Request((Message("user", "quiet"),))
    assert asyncio.run(llm.acomplete(asked)).text == "QUIET"
    assert open_llm(f"script:{path}:shout").identity == llm.identity
    path.write_text(FILE.replace("upper", "lower"))
    assert open_llm(f"script:{path}:shout").identity != llm.identity
