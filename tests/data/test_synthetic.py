from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from tfrec.config import Config, DataConfig, SplitConfig, load_config
from tfrec.data import DataError, assign, prepare, read_tables
from tfrec.data import synthetic as synthetic_module
from tfrec.data.synthetic import generate
from tfrec.data.synthetic_images import encode_png
from tfrec.data.truth import index_of


def shop(**size: object) -> synthetic_module.Synthetic:
    size = {"rows": 6000, "users_count": 300, "items_count": 200, "seed": 1, **size}
    return generate(DataConfig(format="synthetic", **size))  # type: ignore[arg-type]


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*.parquet"))
    }


def test_same_seed_same_bytes(configure: Callable[..., Config], tmp_path: Path) -> None:
    size = {"format": "synthetic", "rows": 3000, "seed": 5, "images": True, "clicks": 0.5}
    prepare(configure(**size), tmp_path / "a")
    prepare(configure(**size), tmp_path / "b")
    prepare(configure(**{**size, "seed": 6}), tmp_path / "c")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert all(v != digest(tmp_path / "a")[k] for k, v in digest(tmp_path / "c").items())


@pytest.mark.parametrize(
    ("rows", "users", "items"), [(1, 1, 1), (1000, None, None), (6000, 300, 200), (50, 1, 100)]
)
def test_sizes_are_exact_and_nobody_buys_twice(
    rows: int, users: int | None, items: int | None
) -> None:
    made = shop(rows=rows, users_count=users, items_count=items)
    log = made.tables().interactions
    assert log.num_rows == made.rows == rows
    pairs = set(zip(log["user_id"].to_pylist(), log["item_id"].to_pylist(), strict=True))
    assert len(pairs) == rows
    if users:
        assert made.users.num_rows == users
        assert made.items.num_rows == items
        assert len(log["user_id"].unique()) == users
    assert set(log["weight"].to_pylist()) <= {1, 2, 3, 4, 5}


def test_more_purchases_than_the_catalogue_holds_are_refused() -> None:
    with pytest.raises(DataError, match="raise users_count or items_count"):
        shop(rows=100, users_count=2, items_count=20)


def test_blocks_hold_whole_users_and_time_runs_inside_a_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(synthetic_module, "BLOCK_EVENTS", 500)
    made = shop()
    blocks = list(made.interactions())
    assert len(blocks) >= 10
    assert max(b.num_rows for b in blocks) <= 700
    users = [set(b["user_id"].to_pylist()) for b in blocks]
    assert sum(map(len, users)) == len(set().union(*users)) == 300
    user = np.concatenate([index_of(b["user_id"]) for b in blocks])
    time = np.concatenate([b["timestamp"].to_numpy() for b in blocks])
    assert (np.diff(time)[np.diff(user) == 0] >= 0).all()
    assert (time >= made.truth.t0).all()
    assert (time < made.truth.t0 + made.truth.span).all()


def test_first_purchases_follow_the_planted_law() -> None:
    """A user's first event has no seen items, so it is a plain draw: chi-square against P."""
    made = shop(rows=9000, users_count=3000, items_count=20)
    log = made.tables().interactions
    users = index_of(log["user_id"])
    first = np.flatnonzero(np.diff(users, prepend=-1))
    law = made.truth.probabilities(users[first], log["timestamp"].to_numpy()[first])
    assert np.allclose(law.sum(axis=1), 1)
    expected = law.sum(axis=0)
    observed = np.bincount(index_of(log["item_id"])[first], minlength=20)
    # Mean 20 - 1, standard deviation about sqrt(2 * 19) = 6.2 if the law is right; a uniform
    # law instead gives thousands.
    assert ((observed - expected) ** 2 / expected).sum() < 19 + 4 * 6.2
    assert ((observed - first.size / 20) ** 2 / (first.size / 20)).sum() > 500


@pytest.mark.parametrize("rounds", [1, 25])
def test_later_purchases_follow_the_law_among_unseen_items(
    monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    # One round leaves every repeat to the draws one by one.
    monkeypatch.setattr(synthetic_module, "_ROUNDS", rounds)
    made = shop(rows=12000, users_count=3000, items_count=20)
    log = made.tables().interactions
    users, items = index_of(log["user_id"]), index_of(log["item_id"])
    times = log["timestamp"].to_numpy()
    expected = np.zeros(20)
    observed = np.zeros(20)
    for event in np.flatnonzero(users == np.roll(users, 1))[:4000]:
        law = made.truth.probabilities(users[[event]], times[[event]])[0]
        earlier = np.arange(len(users)) < event
        law[items[earlier & (users == users[event])]] = 0
        expected += law / law.sum()
        observed[items[event]] += 1
    assert ((observed - expected) ** 2 / expected).sum() < 19 + 4 * 6.2
    assert len(set(zip(users, items, strict=True))) == len(users)


def test_taste_drifts_from_start_to_end() -> None:
    truth = shop().truth
    users = np.arange(300)
    at = [truth.mixture(users, np.full(300, truth.t0 + int(truth.span * s))) for s in (0, 0.5, 1)]
    assert np.allclose(at[0], truth.start)
    assert np.allclose(at[2], truth.end)
    assert np.allclose(at[1], (truth.start + truth.end) / 2)
    assert np.abs(truth.end - truth.start).sum(axis=1).mean() > 0.3


def test_popularity_is_skewed() -> None:
    counts = np.sort(np.bincount(index_of(shop().tables().interactions["item_id"])))[::-1]
    assert counts[:20].sum() > 0.2 * counts.sum()


def test_best_possible_recall_against_the_slow_way_and_other_rankings() -> None:
    made = shop()
    log = made.tables().interactions
    split = assign(log, SplitConfig())
    best = made.truth.best_possible_recall(log, split, 10)

    users, items = index_of(log["user_id"]), index_of(log["item_id"])
    times, names = log["timestamp"].to_numpy(), np.array(split.to_pylist())
    popular = np.bincount(items[names == "train"], minlength=200).astype(float)
    rng = np.random.default_rng(0)
    oracle, hit, by_popularity, by_chance, any_topic = [], [], [], [], []
    for at in np.flatnonzero(names == "test"):
        seen = items[(users == users[at]) & (names != "test")]
        law = made.truth.probabilities(users[[at]], times[[at]])[0]
        law[seen] = 0
        law /= law.sum()

        def expected(scores: np.ndarray, law: np.ndarray = law, seen: np.ndarray = seen) -> float:
            scores = scores.copy()
            scores[seen] = -np.inf
            return float(law[np.argsort(-scores)[:10]].sum())

        oracle.append(expected(law))
        hit.append(items[at] in np.argsort(-law)[:10])
        by_popularity.append(expected(popular))
        by_chance.append(expected(rng.random(200)))
        any_topic.append(expected(made.truth.phi[made.truth.start[users[at]].argmax()]))
    assert best.expected == pytest.approx(np.mean(oracle))
    assert best.realised == pytest.approx(np.mean(hit))
    # No ranking does better than the truth's; the truth is worth learning; attributes of the past
    # (the first topic) are less than the whole.
    for other in (by_popularity, by_chance, any_topic):
        assert np.mean(other) < 0.9 * best.expected
    # Realised is a draw around expected.
    deviation = np.sqrt(best.expected * (1 - best.expected) / len(hit))
    assert abs(best.realised - best.expected) < 4 * deviation
    full = made.truth.best_possible_recall(log, split, 200)
    assert (full.expected, full.realised) == (pytest.approx(1), 1)


def test_attributes_tell_part_of_the_truth() -> None:
    """Users of one gender share topics more than users at large; likewise items of one noun."""
    made = shop(users_count=1000, rows=10_000)
    gender = np.array(made.users["gender"].to_pylist())
    means = [made.truth.start[gender == g].mean(axis=0) for g in ("female", "male")]
    shuffled = np.random.default_rng(0).permutation(gender)
    noise = [made.truth.start[shuffled == g].mean(axis=0) for g in ("female", "male")]
    assert np.abs(means[0] - means[1]).sum() > 2 * np.abs(noise[0] - noise[1]).sum()
    noun = np.array(made.items["subcategory"].to_pylist())
    logits = np.log(made.truth.phi)
    within = np.mean([logits[:, noun == n].var(axis=1).mean() for n in np.unique(noun)])
    assert within < 0.5 * logits.var(axis=1).mean()


def test_queries_are_words_of_the_item_bought() -> None:
    tables = shop().tables()
    items = {row["item_id"]: row for row in tables.items.to_pylist()}
    queried = [r for r in tables.interactions.to_pylist() if r["query"]]
    assert 0.4 < len(queried) / 6000 < 0.6
    for row in queried[:300]:
        item = items[row["item_id"]]
        words = {*item["title"].split(), item["category"]}
        assert set(row["query"].split()) <= words


def test_ratings_rise_with_taste() -> None:
    made = shop()
    log = made.tables().interactions
    lift = made.truth.lift(
        index_of(log["user_id"]), index_of(log["item_id"]), log["timestamp"].to_numpy()
    )
    high = log["weight"].to_numpy() >= 4
    assert np.log(lift[high]).mean() > np.log(lift[~high]).mean() + 0.3


def test_clicks_come_on_top_and_can_be_left_out(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    made = shop(clicks=2.0)
    log = made.tables().interactions
    assert pc.sum(pc.equal(log["event"], "purchase")).as_py() == 6000
    assert 10_500 < pc.sum(pc.equal(log["event"], "click")).as_py() < 13_500
    size = {"format": "synthetic", "rows": 500, "clicks": 1.0, "events": ["purchase"]}
    summary = prepare(configure(**size), tmp_path / "out")
    assert summary.rows_out == 500
    assert summary.filtered["events"] > 300
    assert read_tables(tmp_path / "out").interactions["event"].unique().to_pylist() == ["purchase"]


def decode_png(data: bytes) -> np.ndarray:
    """A slow reader of unfiltered RGB images: chunks with their sums, rows with filter 0."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, pixels, size = 8, b"", (0, 0)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (check,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert check == zlib.crc32(kind + body)
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        elif kind == b"IDAT":
            pixels += zlib.decompress(body)
        at += 12 + length
    rows = np.frombuffer(pixels, np.uint8).reshape(size[1], 1 + 3 * size[0])
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(size[1], size[0], 3)


def test_images_are_png_and_show_category_and_style() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    assert (decode_png(encode_png(pixels)) == pixels).all()
    with pytest.raises(ValueError, match=r"uint8 \[height, width, 3\]; got float64 \[2, 2\]"):
        encode_png(np.zeros((2, 2)))
    items = shop(images=True).items
    colours = np.array(
        [decode_png(b).reshape(-1, 3).mean(axis=0) for b in items["image"].to_pylist()]
    )
    category = np.array(items["category"].to_pylist())
    colours /= colours.sum(axis=1, keepdims=True)
    centres = {c: colours[category == c].mean(axis=0) for c in np.unique(category)}
    nearest = [min(centres, key=lambda c: np.abs(centres[c] - row).sum()) for row in colours]
    assert (np.array(nearest) == category).mean() > 0.95


def test_the_bundled_sample(tmp_path: Path) -> None:
    config = load_config(Path(__file__).resolve().parents[2] / "configs" / "sample.yaml")
    summary = prepare(config, tmp_path / "out")
    assert (summary.rows_out, summary.users, summary.items) == (20_000, 600, 400)
    tables = read_tables(tmp_path / "out")
    columns = set(tables.users.column_names + tables.items.column_names)
    columns |= set(tables.interactions.column_names)
    assert {f.name for f in config.feature_table} <= columns
