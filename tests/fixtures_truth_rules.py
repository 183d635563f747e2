"""Functions that a user might name as `rule:module:function`."""

import re


def is_long(question, answer, gold=()):
    return int(len(answer) == 3)


def first_number(question, answer):
    return re.search(r"\d+", answer).group()


def from_the_question(question, answer):
    return question


def initial(question, answer):
    return answer[:1].upper()
