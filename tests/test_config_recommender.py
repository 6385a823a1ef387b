"""Sections ``retrieval.index`` and ``recommender``: defaults, and errors that name the key."""

from __future__ import annotations

from typing import Any

import pytest

from tfrec.config import ConfigError, parse_config

BASE: dict[str, Any] = {
    "name": "x",
    "data": {"format": "synthetic"},
    "features": [
        {"name": "genre", "role": "item", "kind": "categorical"},
        {"name": "price", "role": "item", "kind": "numeric"},
    ],
}


def test_defaults_change_nothing() -> None:
    config = parse_config(BASE)
    assert config.retrieval.index.kind == "brute_force"
    assert not config.recommender.enabled
    assert list(config.recommender.sources) == ["retrieval", "similar", "popular"]


def test_sources_of_nought_are_left_out() -> None:
    config = parse_config({**BASE, "recommender": {"similar": 0, "among": ["genre"]}})
    assert config.recommender.sources == {"retrieval": 300, "popular": 100}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"retrieval": {"index": {"kind": "tree"}}}, "retrieval.index.kind"),
        ({"retrieval": {"index": {"cells": 0}}}, "'auto' or a whole number from 1"),
        ({"retrieval": {"index": {"min_recall": 1.5}}}, "retrieval.index.min_recall"),
        ({"retrieval": {"index": {"probe": 3}}}, "did you mean 'probes'"),
        ({"recommender": {"retrieval": 0, "similar": 0, "popular": 0}}, "has a source"),
        ({"recommender": {"among": ["price"]}}, "recommender.among names 'price'"),
        ({"recommender": {"candidates": 0}}, "recommender.candidates"),
        ({"recommender": {"strict": ["price"]}}, "recommender.strict names 'price'"),
        ({"recommender": {"among": [], "strict": ["genre"]}}, "narrow the answer: \\[\\]"),
    ],
)
def test_errors_name_the_key(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**BASE, **section})


@pytest.mark.parametrize(
    ("gate", "own", "seen"),
    [(True, None, False), (False, None, True), (False, True, False), (True, False, True)],
)
def test_repeats_are_served_as_they_are_measured_unless_told(
    gate: bool, own: bool | None, seen: bool
) -> None:
    sections = {"gate": {"exclude_seen": gate}, "recommender": {"exclude_seen": own}}
    assert parse_config({**BASE, **sections}).recommends_seen is seen
