"""The table and the page say what was measured, and need nothing from outside."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.builders import random_data
from tests.evaluation.stub import Fixed
from tfrec.evaluation import evaluate
from tfrec.evaluation.beyond import Beyond
from tfrec.evaluation.rating import mae, rmse
from tfrec.evaluation.report import print_table, write_html

DATA = random_data(40, 20)
FOUND = {
    name: evaluate(Fixed.random(DATA, seed), DATA, ks=(2, 5), name=name, beyond=Beyond(DATA, 5))
    for seed, name in enumerate(("plain", "other <b>"))
}


class Text(HTMLParser):
    """Collects text, cells and what would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def test_page_holds_the_numbers_and_fetches_nothing(tmp_path: Path) -> None:
    path = write_html(FOUND, tmp_path / "deep" / "report.html", data=DATA, title="A & B")
    page = path.read_text()
    parser = Text()
    parser.feed(page)
    assert "A & B" in parser.text
    assert "other <b>" in parser.text  # names are escaped, not markup
    assert "b" not in parser.open
    joined = " ".join(parser.text)
    for evaluation in FOUND.values():
        assert f"{evaluation['recall@5']:.4f}" in joined
        assert f"{evaluation['coverage@5']:.4f}" in joined
    assert len(parser.fetched) == 4
    assert all(src.startswith("data:image/png;base64,") for src in parser.fetched)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "By activity" in joined
    assert "By popularity" in joined


def test_page_without_slices_and_with_another_base(tmp_path: Path) -> None:
    path = write_html(FOUND, tmp_path / "r.html", base="other <b>")
    assert "Paired comparison with other &lt;b&gt;" in path.read_text()
    with pytest.raises(KeyError, match="none of the models"):
        write_html(FOUND, tmp_path / "r.html", base="nobody")


def test_table_prints_every_model_in_full() -> None:
    out = io.StringIO()
    print_table(FOUND, file=out)
    text = out.getvalue()
    for evaluation in FOUND.values():
        assert f"{evaluation['ndcg@2']:.4f}" in text
    assert "plain" in text
    assert "held-out events" in text
    out = io.StringIO()
    print_table(FOUND, ["mrr@5", "recall@99"], out)
    assert f"{FOUND['plain']['mrr@5']:.4f}" in out.getvalue()
    assert " - " in out.getvalue()  # not measured
    with pytest.raises(ValueError, match="at least one evaluation"):
        print_table({})


def test_rating_errors() -> None:
    assert rmse([1, 2, 5], [1, 4, 4]) == pytest.approx((5 / 3) ** 0.5)  # type: ignore[arg-type]
    assert mae([1, 2, 5], [1, 4, 4]) == pytest.approx(1)  # type: ignore[arg-type]
    for truth, predicted in (([1.0], [1.0, 2.0]), ([], []), ([[1.0]], [[1.0]])):
        with pytest.raises(ValueError, match="one number a row"):
            rmse(truth, predicted)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="finite"):
        mae([1.0], [float("nan")])  # type: ignore[arg-type]
