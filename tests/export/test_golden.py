"""Golden requests: kept and read back, compared by the rules that the docstrings state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfrec.export.golden import compare, load_golden, record, save_golden

ANSWER = {
    "item_id": np.array([[b"a", b"b", b"c"]], dtype=object),
    "score": np.array([[3.0, 2.0, 1.0]], np.float32),
}


def changed(**outputs: object) -> dict:
    return {**ANSWER, **{k: np.asarray(v) for k, v in outputs.items()}}


def kinds(answer: dict, expected: dict = ANSWER, **options: float) -> list[tuple[str, str]]:
    return [(d.output, d.kind) for d in compare("grpc", 0, expected, answer, **options)]


def test_requests_and_answers_survive_the_file(tmp_path: Path) -> None:
    asked = []

    def ask(examples: list) -> dict:
        asked.append(list(examples))
        scores = np.array([[1.5, -np.inf]] * len(examples), np.float32)
        titles = np.array([["é".encode(), b"\xff\x00"]] * len(examples), dtype=object)
        return {"score": scores, "title": titles}

    save_golden(record(ask, "sig", [[b"\x01"], [b"x", b"y"]]), tmp_path / "deep/golden.json")
    kept = load_golden(tmp_path / "deep/golden.json")
    assert [r.examples for r in kept] == [(b"\x01",), (b"x", b"y")]
    assert asked == [[b"\x01"], [b"x", b"y"]]
    for request in kept:
        assert request.signature == "sig"
        assert compare("x", 0, request.answer, ask(list(request.examples))) == []
        assert request.answer["score"].dtype == np.float32
        assert request.answer["title"][0, 1] == b"\xff\x00"


def test_equal_answers_do_not_differ() -> None:
    assert kinds(ANSWER) == []
    assert kinds(changed(item_id=np.array([["a", "b", "c"]], dtype=object))) == []


def test_a_score_may_differ_by_the_tolerance() -> None:
    assert kinds(changed(score=np.float32([[3.0002, 2.0, 1.0]]))) == []
    assert kinds(changed(score=np.float32([[3.001, 2.0, 1.0]]))) == [("score", "score")]
    assert kinds(changed(score=np.float32([[3.001, 2.0, 1.0]])), tolerance=1e-2) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_differ(bad: float) -> None:
    assert kinds(changed(score=np.float32([[3.0, bad, 1.0]]))) == [("score", "score")]


def test_infinities_in_the_same_place_agree() -> None:
    short = changed(score=np.float32([[3.0, 2.0, -np.inf]]))
    assert kinds(short, expected=short) == []


def test_other_items_other_shapes_and_lacking_outputs_differ() -> None:
    swapped = np.array([[b"b", b"a", b"c"]], dtype=object)
    assert kinds(changed(item_id=swapped)) == [("item_id", "value")]
    assert kinds(changed(score=np.float32([[3.0, 2.0]]))) == [("score", "shape")]
    assert kinds({"score": ANSWER["score"]}) == [("item_id", "missing")]


def test_items_of_equal_score_may_change_places() -> None:
    tied = changed(score=np.float32([[2.0, 2.0, 1.0]]))
    swapped = {**tied, "item_id": np.array([[b"b", b"a", b"c"]], dtype=object)}
    assert kinds(swapped, expected=tied) == []
    wrong = {**tied, "score": np.float32([[3.0, 2.0, 1.0]])}
    assert kinds(wrong, expected=tied) == [("score", "score")]


def test_the_size_is_the_largest_relative_difference() -> None:
    found = compare("rest", 4, ANSWER, changed(score=np.float32([[3.0, 2.0, 2.0]])))
    assert (found[0].route, found[0].request) == ("rest", 4)
    assert found[0].size == pytest.approx(0.5)
