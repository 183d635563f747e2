import ast
import inspect
import json
import sysconfig
import textwrap
import warnings
from itertools import islice
from pathlib import Path

import pytest

from gnomon.core.data.corpora import stdlib_code, stdlib_documentation, stdlib_functions, stdlib_modules


def test_modules_come_sorted_and_hold_the_text_of_their_file():
    modules = list(islice(stdlib_modules(), 40))
    assert [m.path for m in modules] == sorted(m.path for m in modules)
    root = Path(sysconfig.get_paths()["stdlib"])
    first = modules[0]
    assert first.code == (root / first.path).read_text(encoding="utf-8").rstrip("\n")
    assert first.qualname == "" and first.first_line == 1
    assert not any("test" in Path(m.path).parts for m in modules)


@pytest.mark.slow
def test_functions_are_the_ones_that_inspect_finds():
    decode = next(
        f for f in stdlib_functions() if (f.module, f.qualname) == ("json.decoder", "JSONDecoder.decode")
    )
    source, first_line = inspect.getsourcelines(json.JSONDecoder.decode)
    assert decode.first_line == first_line
    assert decode.code == textwrap.dedent("".join(source)).rstrip()
    assert decode.docstring == inspect.getdoc(json.JSONDecoder.decode)


@pytest.mark.slow
def test_functions_parse_alone_have_the_asked_length_and_repeat():
    functions = list(islice(stdlib_functions(5, 40), 300))
    assert functions == list(islice(stdlib_functions(5, 40), 300))
    for function in functions:
        assert 5 <= len(function.code.split("\n")) <= 40
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (node,) = ast.parse(function.code).body
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        assert node.name == function.qualname.rsplit(".", 1)[-1]


@pytest.mark.slow
def test_documentation_is_what_inspect_finds():
    found = {d.name: d for d in stdlib_documentation()}
    assert found["json.decoder.JSONDecoder.decode"].text == inspect.getdoc(json.JSONDecoder.decode)
    assert found["textwrap"].text == inspect.getdoc(textwrap)
    assert found["json.decoder.JSONDecoder.decode"].group == "json/decoder.py"
    assert "assert" in found["topic:assert"].text
    assert len(found) > 5000


def test_bare_code_has_no_words_of_documentation():
    pieces = {piece.name: piece for piece in stdlib_code()}
    tree = ast.parse(pieces["json.decoder"].text)
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    assert len(nodes) > 5
    assert all(ast.get_docstring(node) is None for node in nodes)
    assert "#" not in pieces["json.decoder"].text.split("scan_once")[0]
    assert pieces["json.decoder"].group == "json/decoder.py"
    names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    assert {"decode", "raw_decode"} <= names
