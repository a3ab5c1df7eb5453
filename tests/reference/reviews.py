"""A small archive like that of the movie sentences, written by the test, whose classes follow from its words."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from pellucid.data import downloads, sentences

GOOD, BAD = ("superb", "charming", "witty", "moving"), ("dull", "clumsy", "tedious", "stale")
PLAIN = ("the", "film", "is", "a", "story", "of", "two", "friends", "who", "never", "quite", "meet")


def lines(count: int = 800) -> list[str]:
    """Sentences of 9 to 12 words, each with one word that decides, and a few that say nothing or repeat another."""
    found = []
    for i in range(count):
        word = (GOOD if i % 2 else BAD)[i // 2 % 4]
        rest = [PLAIN[(i * 5 + j) % len(PLAIN)] for j in range(8 + i % 4)]
        rest.insert(i * 7 % len(rest), word)
        found.append(f"{i + 1}\t{1.5 if i % 2 else -1.5}\t{' '.join(rest).capitalize()} &amp; {i}.")
    return [*found, "1900\t0.2\tNeither good nor bad.", "1901\t3.0\t...", found[0].replace("1\t", "1902\t", 1)]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def archive(folder: Path) -> downloads.Archive:
    """Write the archive into a folder, named and built as the real one."""
    inner, real = io.BytesIO(), sentences.ARCHIVE
    with tarfile.open(fileobj=inner, mode="w:gz") as made:
        _add(made, "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt", "\n".join(lines()).encode())
    scores = [f"{word}\t{2.5 if word in GOOD else -2.0}\t0.5\t[2, 3]" for word in (*GOOD, *BAD)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / real.file
    with tarfile.open(path, "w:gz") as made:
        root = f"{real.package}-{real.version}"
        _add(made, f"{root}/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
        _add(made, f"{root}/vaderSentiment/vader_lexicon.txt", "\n".join(scores).encode())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return downloads.Archive(real.package, real.version, real.file, digest, 0.01, source=True)


def install(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make ``data.movie_sentences`` read that archive, from a cache of its own."""
    patch.setenv("PELLUCID_CACHE", str(folder))
    patch.setattr(sentences, "ARCHIVE", archive(folder))
    for read in (sentences._files, sentences._table, sentences._lexicon):
        read.cache_clear()


def remove() -> None:
    """Forget what was read."""
    for read in (sentences._files, sentences._table, sentences._lexicon):
        read.cache_clear()
