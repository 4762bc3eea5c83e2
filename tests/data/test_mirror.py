"""The real data of the mirror come through their loaders as declared, and known facts about them hold."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from latentbench.data.api import verify
from latentbench.data.dataset import open_dataset
from latentbench.data.progress import silent
from latentbench.data.registry import read_entry

from .conftest import ENTRY_FILES

SLOW = {"omniglot-105"}  # the same loader as omniglot-28, at fourteen times the size


def with_mirror():
    for path in ENTRY_FILES:
        entry = read_entry(path)
        if any(file.mirror for form in entry.forms for file in form.files) and entry.name not in SLOW:
            yield entry.name


@pytest.mark.parametrize("name", list(with_mirror()))
def test_prepared_from_the_mirror(registry, mirror, name):
    """Every hash, row count, shape, dtype and range that the entry declares is checked on the way."""
    dataset = open_dataset(name, silent)
    assert dataset.content_hash == dataset.entry.content_hash
    for split, declared in dataset.entry.splits.items():
        for column in dataset.split(split).values():
            assert len(column) == declared.rows
    for expressions in dataset.entry.protocols.values():
        for expression in expressions.values():
            assert dataset.split(expression)
    FACTS.get(name, lambda _: None)(dataset)


def mnist(dataset):
    assert dataset.split("train")["x"].mean() == pytest.approx(33.318421, abs=1e-6)
    assert np.bincount(dataset.split("test")["y"]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert all(check.ok for check in verify("mnist"))


def cifar10(dataset):
    """Rebuilds the official data_batch_1.bin, of known md5."""
    part = dataset.split("train[:10000]")
    rows = np.concatenate(
        [part["y"][:, None].astype(np.uint8), part["x"].transpose(0, 3, 1, 2).reshape(10000, -1)], axis=1
    )
    assert hashlib.md5(rows.tobytes(), usedforsecurity=False).hexdigest() == "5dd7e06a14cb22eb9f671a540d1b7c25"
    assert np.bincount(dataset.split("train")["y"]).tolist() == [5000] * 10


def omniglot(dataset):
    whole = dataset.split("train+valid+test")
    assert len(np.unique(whole["y"])) == 1623
    assert whole["x"].mean() / 255 == pytest.approx(0.080516, abs=2e-4)  # the ink fraction survives area means
    assert (np.bincount(whole["drawer"])[1:] == 1623).all()


def ptb(dataset):
    """Published sizes: 929,589 training words with the ends of lines, 82,430 test words."""
    assert len(dataset.split("train")["x"].values) == 929_589
    assert len(dataset.split("test")["x"].values) == 82_430
    words = dataset.split("vocabulary")["text"].texts()
    assert {"<unk>", "<eos>", "N"} <= set(words)
    line = " ".join(words[k] for k in dataset.split("valid")["x"][0])
    assert line == "consumers may want to move their telephones a little closer to the tv set <eos>"


def shakespeare(dataset):
    letters = dataset.split("vocabulary")["text"].texts()
    assert "".join(letters[k] for k in dataset.split("all[:14]")["x"]) == "First Citizen:"


def cora(dataset):
    nodes = dataset.split("nodes")
    assert int((nodes["x"] != 0).sum()) == 49_216
    assert np.bincount(nodes["y"]).tolist() == [351, 217, 418, 818, 426, 298, 180]
    assert np.bincount(dataset.split("nodes@folds.train.0")["y"]).tolist() == [20] * 7
    edge = dataset.split("edges")["edge"]
    assert (edge[:, 0] < edge[:, 1]).all()


def music(dataset):
    rolls = dataset.split("train")["x"]
    assert rolls.lengths.sum() == 13_807
    assert rolls.values.sum() / 13_807 == pytest.approx(3.8983, abs=1e-4)


def digits_spoken(dataset):
    assert abs(dataset.split("train+test")["x"].values.astype(np.int64)).mean() == pytest.approx(955.5867, abs=1e-4)
    assert np.bincount(dataset.split("test")["y"]).tolist() == [30] * 10


def cars(dataset):
    rows = dataset.split("train")
    assert len(np.unique(rows["factors"], axis=0)) == 183 * 24 * 4


def movielens(dataset):
    whole, parts = dataset.split("all"), dataset.split("u1_train+u1_test")
    key = lambda t: sorted(map(tuple, np.column_stack([t["x"], t["rating"], t["time"]]).tolist()))  # noqa: E731
    assert key(whole) == key(parts)
    assert whole["rating"].mean() == pytest.approx(3.52986)
    assert dataset.split("items")["title"].text(0) == "Toy Story (1995)"


def uci(dataset):
    assert dataset.split("all")["y"].mean() == pytest.approx(22.532806, abs=1e-6)
    for k in range(20):
        fold = dataset.protocol(f"fold-{k}")
        assert sum(len(dataset.split(e)["y"]) for e in fold.values()) == 506


def arc(dataset):
    for split in ("training", "evaluation"):
        rows = dataset.split(split)
        assert (rows["input"].lengths == rows["input_shape"].prod(axis=1)).all()
        assert (rows["output"].lengths == rows["output_shape"].prod(axis=1)).all()
        assert rows["input_shape"].max() <= 30
        assert len(np.unique(rows["task"])) == 400


def enzymes(dataset):
    rows = dataset.split("all")
    assert rows["node_labels"].lengths.sum() == 19_580
    assert 2 * rows["edges"].lengths.sum() == 74_564
    assert np.bincount(rows["y"]).tolist() == [100] * 6


def pairs(dataset):
    rows = dataset.split("all")
    assert rows["x"].item_shape == (2,)
    assert rows["x"].lengths.min() > 30
    assert rows["forward"].all(), "the entry warns of this: in this file the cause always comes first"


def sachs(dataset):
    names = dataset.split("variables")["name"].texts()
    edges = {(names[a], names[b]) for a, b in dataset.split("edges")["edge"]}
    assert len(edges) == 18
    assert ("PIP2", "PKC") in edges


def letters(dataset):
    """The counts of the set's own documentation, A to Z."""
    counts = np.bincount(dataset.split("all")["y"])
    assert counts[:6].tolist() == [789, 766, 736, 805, 768, 775]
    assert dataset.split("all")["x"][0].tolist() == [2, 8, 3, 5, 1, 8, 13, 0, 6, 6, 10, 8, 0, 8, 0, 8]
    assert dataset.split("all")["y"][0] == ord("T") - ord("A")


def optdigits(dataset):
    """scikit-learn ships the test part."""
    from sklearn.datasets import load_digits

    theirs = load_digits()
    np.testing.assert_array_equal(dataset.split("test")["x"], theirs.images)
    np.testing.assert_array_equal(dataset.split("test")["y"], theirs.target)


def adult(dataset):
    """24.08 and 23.62 per cent earn more than 50,000 dollars; both parts number words alike."""
    train, test = dataset.split("train"), dataset.split("test")
    assert train["y"].mean() == pytest.approx(0.2408, abs=1e-4)
    assert test["y"].mean() == pytest.approx(0.2362, abs=1e-4)
    for k in (1, 3, 5, 9, 13):
        assert set(np.unique(test["x"][:, k])) <= set(np.unique(train["x"][:, k]))


def houses(dataset):
    rows = dataset.split("all")
    assert rows["y"].min() == 14_999
    assert rows["y"].max() == 500_001
    assert rows["x"][0].tolist() == [-122.23, 37.88, 41.0, 880.0, 129.0, 322.0, 126.0, 8.3252]


def communities(dataset):
    rows = dataset.split("all")
    for values in (rows["x"], rows["y"]):
        assert np.isfinite(values).all()
        assert (values.min(), values.max()) == (0.0, 1.0)


def questions(dataset):
    """ABBR, DESC, ENTY, HUM, LOC, NUM."""
    assert np.bincount(dataset.split("train")["y"]).tolist() == [86, 1162, 1250, 1223, 835, 896]
    words = dataset.split("vocabulary")["text"]
    text = " ".join(words.text(int(w)) for w in dataset.split("test")["x"][0])
    assert text == "How far is it from Denver to Aspen ?"


def scenes(dataset):
    """Labels a photograph (cardinality) 1.074, as Mulan's page gives it."""
    rows = dataset.split("train+test")
    assert rows["y"].sum() / len(rows["y"]) == pytest.approx(1.074, abs=5e-4)
    assert dataset.split("attributes")["name"].texts()[-6:-4] == ["Beach", "Sunset"]


def emotions(dataset):
    rows = dataset.split("train+test")
    assert len(rows["y"]) == 593
    assert rows["y"].sum() / 593 == pytest.approx(1.8685, abs=5e-5)


def birds(dataset):
    assert dataset.split("train+test")["y"].sum() / 645 == pytest.approx(1.014, abs=5e-4)
    assert "Swainson's Thrush" in dataset.split("attributes")["name"].texts()


def songs(dataset):
    assert dataset.split("all")["y"].sum() / 502 == pytest.approx(26.044, abs=5e-4)


def yeast(dataset):
    assert dataset.split("train+test")["y"].sum() / 2417 == pytest.approx(4.237, abs=5e-4)


def metals(dataset):
    """The same places and metals as `jura` has."""
    ours, theirs = dataset.split("all"), open_dataset("jura", silent).split("all")["x"]
    np.testing.assert_array_equal(ours["y"], theirs[:, [4, 5, 7]])
    np.testing.assert_array_equal(ours["x"][:, :2], theirs[:, :2])


def big_five(dataset):
    """Every item belongs to one trait, and with their keys those of a trait go together."""
    rows, items = dataset.split("all"), dataset.split("items")
    assert np.isnan(rows["x"]).sum() == 508
    assert (abs(items["key"]).sum(axis=1) == 1).all()
    assert items["text"].text(0) == "Am indifferent to the feelings of others."
    whole = rows["x"][~np.isnan(rows["x"]).any(axis=1)]
    correlation = np.corrcoef(whole.T)
    for key in items["key"].T.astype(np.int64):
        own = np.flatnonzero(key)
        assert (np.outer(key, key) * correlation)[np.ix_(own, own)].min() > 0


def sapa(dataset):
    assert (dataset.split("items")["key"][:, :5] != 0).sum(axis=0).tolist() == [14] * 5


def pupils(dataset):
    train, first = dataset.split("train"), dataset.split("train1+valid1")
    assert train["answer"].values.mean() == pytest.approx(0.6582, abs=1e-4)
    assert len(train["x"].values) == len(first["x"].values) == 224_218
    assert dataset.split("skills")["name"].text(0) == "Circumference"
    assert set(np.unique(train["x"].values)) <= set(dataset.split("skills")["number"])


def wind(dataset):
    days, stations = dataset.split("all"), dataset.split("stations")
    np.testing.assert_allclose(days["x"].mean(axis=0) * 1852 / 3600, stations["mean"], atol=0.06)
    order = np.argsort(stations["place"][:, 0])
    assert [stations["code"].text(int(k)) for k in (order[0], order[-1])] == ["RPT", "MAL"]
    assert (stations["place"][:, 1] < -5).all()


def pedestrians(dataset):
    """A person is where it was in the frame before, to within what people walk."""
    rows = dataset.split("zara1")
    order = np.lexsort((rows["frame"], rows["person"]))
    frame, person, x = (np.asarray(rows[name])[order] for name in ("frame", "person", "x"))
    next_one = (np.diff(person) == 0) & (np.diff(frame) == 10)
    steps = np.linalg.norm(np.diff(x, axis=0), axis=1)[next_one]
    assert next_one.sum() > 4_900
    assert 0.2 < np.median(steps) < 0.8
    assert steps.max() < 2


def human_labels(dataset):
    test = dataset.split("test")
    assert (test["counts"].argmax(axis=1) == test["y"]).sum() == 990
    assert 47 <= test["counts"].sum(axis=1).min() <= test["counts"].sum(axis=1).max() <= 63


FACTS = {
    "mulan-scene": scenes,
    "mulan-emotions": emotions,
    "mulan-birds": birds,
    "mulan-cal500": songs,
    "mulan-yeast": yeast,
    "mulan-jura": metals,
    "bfi": big_five,
    "spi": sapa,
    "assistments-2009": pupils,
    "irish-wind": wind,
    "eth-ucy": pedestrians,
    "cifar10h-test1k": human_labels,
    "uci-letter": letters,
    "uci-optdigits": optdigits,
    "uci-adult": adult,
    "cal-housing": houses,
    "communities-crime": communities,
    "trec-questions": questions,
    "mnist": mnist,
    "cifar10-test1k": cifar10,
    "omniglot-28": omniglot,
    "ptb": ptb,
    "tinyshakespeare": shakespeare,
    "cora": cora,
    "jsb-chorales": music,
    "fsdd": digits_spoken,
    "cars3d": cars,
    "movielens-100k": movielens,
    "uci-boston": uci,
    "arc-agi-1": arc,
    "tu-enzymes": enzymes,
    "tuebingen-pairs-99": pairs,
    "sachs": sachs,
}
