"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import topics

MODULES = [module.name for module in pkgutil.walk_packages(topics.__path__, "topics.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.failed == 0, "the report above shows the example and what it gave"


def test_topics_are_explained_by_runnable_examples() -> None:
    examples = {
        name: sum(len(test.examples) for test in doctest.DocTestFinder().find(importlib.import_module(name)))
        for name in MODULES
    }
    shown = {
        "topics.channels",
        "topics.names",
        "topics.eligibility",
        "topics.lifecycle",
        "topics.bundle",
        "topics.envelope",
    }
    assert shown <= {name for name, count in examples.items() if count}
