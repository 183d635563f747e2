import ast
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.data.corpora import stdlib_modules
from gnomon.core.rollout.suites import strip_markdown
from gnomon.methods.lintseq.programs import normalise, split_lines


def test_markdown_blocks_are_joined_and_text_around_them_is_dropped():
    answer = "First:\n```python\na = 1\n```\nthen\n```python\nb = 2\n```\n```js\nc\n```"
    assert strip_markdown(answer) == "a = 1\n\nb = 2"


@pytest.mark.parametrize("answer", ["a = 1\n", "```py\na\n```", "```\na\n```", "```python\nnever closed"])
def test_without_a_closed_python_block_the_text_stays(answer):
    assert strip_markdown(answer) == answer


def test_back_ticks_inside_a_line_do_not_close_a_block():
    code = 'def f():\n    """Write ```x``` here."""'
    assert strip_markdown(f"```python\n{code}\n```") == code


def test_pitfall_1_white_space_is_normalised_once():
    assert normalise("\n\r\nif a: \t\r\n\tb = 1  \r\tc = 2\n\n") == "if a:\n    b = 1\n    c = 2"
    assert normalise("if a:\n\tb", indent=False) == "if a:\n\tb"
    assert normalise("\ufeffa") == "a"


def test_white_space_inside_a_string_is_data():
    code = 'x = """a  \n\tb\t\n  """'
    assert normalise(code + "  \n") == code
    assert normalise("f = f'''a  \n\t{1}  \n'''") == "f = f'''a  \n\t{1}  \n'''"


def test_text_that_is_not_python_is_normalised_line_by_line():
    assert normalise("((( '''\n\tx  ") == "((( '''\n    x"


def test_the_empty_program_has_no_lines():
    assert split_lines(normalise(" \n\t\r\n")) == []


@given(st.text(alphabet="ab'\"#\\\t\n\r (:", max_size=40))
def test_normalising_twice_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
    assert "\n".join(split_lines(once)) == once


@pytest.mark.slow
def test_programs_mean_what_they_meant():
    for number, module in enumerate(stdlib_modules()):
        if number % 30 == 0:
            messy = module.code.replace("\n", " \r\n") if '"""' not in module.code else module.code + "\n\n"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    before = ast.parse(messy)
                except SyntaxError:
                    continue
                assert ast.dump(ast.parse(normalise(messy))) == ast.dump(before), module.path
