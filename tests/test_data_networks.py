"""The example networks: what they have learned, and a cache that is never half written, damaged or unsafe."""

from __future__ import annotations

import os
import pickle
import random
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid import data
from pellucid.data import networks, shapes, tags, weights


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of this module's own, so that the networks tested are trained by the code tested."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def digits_net(cache: Path) -> nn.Module:
    return data.digits_cnn()


@pytest.fixture(scope="module")
def tagged_net(cache: Path) -> nn.Module:
    return data.tagged_digits_cnn()


def accuracy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((net(x).argmax(1) == y).float().mean())


# ------------------------------------------------------------------------------------------------- networks


def test_digits_cnn_reads_held_out_digits(digits_net: nn.Module) -> None:
    test = data.digits("test")
    assert sum(p.numel() for p in digits_net.parameters()) == 105_866
    assert not digits_net.training
    assert digits_net(test.x[:2]).shape == (2, 10)
    assert accuracy(digits_net, test.x, test.y) >= 0.97
    assert sum(isinstance(layer, nn.ReLU) for layer in digits_net.modules()) == 3


def test_tagged_digits_cnn_uses_the_tag_and_nothing_else(tagged_net: nn.Module) -> None:
    e = data.tagged_digits("test")
    base = data.digits("test")
    tag, decoy, on = e.truth["tag"], e.truth["decoy"], e.y == 1
    assert accuracy(tagged_net, e.x, e.y) >= 0.99
    # Erasing the tag flips the prediction, drawing it on the others too, and it counts in whichever corner it stands.
    assert accuracy(tagged_net, (e.x * ~tag)[on], e.y[on]) <= 0.01
    assert accuracy(tagged_net, tags.mark(base.x, ~on, 0)[0], 1 - e.y) >= 0.99
    moved, place, _ = tags.mark(base.x, on, 5)
    assert float((place != tag)[on].any(3).any(2).float().mean()) > 0.5
    assert accuracy(tagged_net, moved, e.y) >= 0.99
    # Nothing else matters: not the decoys, not the digit, not both.
    assert accuracy(tagged_net, e.x * ~decoy, e.y) >= 0.99
    assert accuracy(tagged_net, e.x * (tag | decoy), e.y) >= 0.99
    assert accuracy(tagged_net, (e.x * tag)[on], e.y[on]) >= 0.99


def test_the_tag_carries_the_margin_by_exact_shapley_values(tagged_net: nn.Module) -> None:
    """Players tag, decoys, digit on a black background: the tag has over nine tenths of the attribution."""
    e = data.tagged_digits("test")
    e = e[e.y == 1][:200]
    tag, decoy = e.truth["tag"], e.truth["decoy"]
    part = [tag, decoy, ~(tag | decoy)]
    value = {}
    for s in range(8):
        with torch.no_grad():
            out = tagged_net(e.x * sum(part[i] for i in range(3) if s >> i & 1))
        value[s] = out[:, 1] - out[:, 0]
    phi = []
    for i in range(3):
        others = [s for s in range(8) if not s >> i & 1]
        weight = [[1 / 3, 1 / 6, 1 / 3][s.bit_count()] for s in others]
        phi.append(sum(w * (value[s | 1 << i] - value[s]) for w, s in zip(weight, others, strict=True)))
    assert torch.allclose(sum(phi), value[7] - value[0], atol=1e-4)
    share = phi[0] / torch.stack(phi).abs().sum(0)
    assert float(share.mean()) > 0.9
    assert float(share.min()) > 0.7


def test_a_trained_network_is_read_back_bit_for_bit(
    digits_net: nn.Module, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_training(*args: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(networks, "fit", no_training)
    again = data.digits_cnn()
    assert again is not digits_net
    assert not again.training
    for one, other in zip(digits_net.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.is_contiguous()
        assert one.grad is None
        assert one.requires_grad
        assert one.dtype == torch.float32


# ------------------------------------------------------------------------------------------------- training and cache

TINY = networks.Recipe("tiny", seed=0, epochs=2, rotation=0.1, zoom=0.1, shift=1.0)


def train_tiny(progress: networks.Progress | None = None, recipe: networks.Recipe = TINY) -> nn.Module:
    train = data.digits("train", 100)

    def rows(r: networks.Recipe) -> networks.EpochRows:
        return lambda epoch: (networks.jitter(train.x, r, epoch), train.y)

    return networks.trained(recipe, lambda seed: networks.small_cnn(10, seed), networks.on_rows(recipe, rows, progress))


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "new" / "cache"))
    return tmp_path / "new" / "cache"


def test_training_is_the_same_whatever_the_caller_has_set(empty_cache: Path) -> None:
    first = train_tiny()
    file = empty_cache / TINY.file_name
    for context in (torch.no_grad(), torch.inference_mode()):
        file.unlink()
        with context:
            assert same(train_tiny(), first)
    file.unlink()
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    try:
        assert same(train_tiny(), first)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(1)
    assert not same(train_tiny(recipe=networks.Recipe("tiny", seed=1, epochs=2)), first)


def test_no_random_state_is_touched(empty_cache: Path) -> None:
    calls: list[Callable[[], object]] = [
        train_tiny,
        lambda: data.digits("test", 20, seed=3),
        lambda: data.tagged_digits("test", 20),
        lambda: data.sprites(20),
        lambda: data.photos(1),
        data.efficientnet_module,
    ]
    for call in calls:
        before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
        call()
        assert torch.equal(torch.get_rng_state(), before[0])
        assert pickle.dumps(np.random.get_state()) == pickle.dumps(before[1])  # noqa: NPY002
        assert random.getstate() == before[2]


def test_progress_is_told_after_each_epoch_and_not_when_nothing_is_trained(empty_cache: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    train_tiny(lambda what, done, total: heard.append((what, done, total)))
    assert heard == [("training tiny", 1, 2), ("training tiny", 2, 2)]
    train_tiny(lambda what, done, total: heard.append((what, done, total)))
    assert len(heard) == 2


def test_another_recipe_has_another_file() -> None:
    changed = [networks.Recipe("tiny", 1, 2), networks.Recipe("tiny", 0, 3), networks.Recipe("tiny", 0, 2, rate=1e-3)]
    assert len({recipe.file_name for recipe in [networks.Recipe("tiny", 0, 2), *changed]}) == 4
    assert networks.Recipe("tiny", 0, 2).file_name == networks.Recipe("tiny", 0, 2).file_name


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("harm",))


def damage_empty(file: Path) -> None:
    file.write_bytes(b"")


def damage_text(file: Path) -> None:
    file.write_text("not weights at all")


def damage_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100_000])


def damage_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[200_000] ^= 0x40
    file.write_bytes(content)


def damage_shapes(file: Path) -> None:
    torch.save(networks.small_cnn(2, seed=7).state_dict(), file)  # all but the last layer would fit


def damage_kind(file: Path) -> None:
    torch.save([1, 2, 3], file)


def damage_code(file: Path) -> None:
    torch.save({"weights": Harmful()}, file)


@pytest.mark.parametrize(
    "damage", [damage_empty, damage_text, damage_cut, damage_bit, damage_shapes, damage_kind, damage_code]
)
def test_a_damaged_cache_file_is_made_again(
    damage: Callable[[Path], None], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_tiny()
    file = empty_cache / TINY.file_name
    damage(file)
    monkeypatch.chdir(empty_cache)
    with pytest.warns(UserWarning, match="tiny-.* cannot be read and are made again"):
        again = train_tiny()
    assert same(again, first)
    assert [path.name for path in empty_cache.iterdir()] == [TINY.file_name]
    assert same(train_tiny(), first)  # and this time without a warning


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="not kept for the next time .set PELLUCID_CACHE"):
        net = train_tiny()
    assert not net.training


def test_an_interrupted_write_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = networks.small_cnn(10, 0)
    weights.save("good.pt", net)
    good = (empty_cache / "good.pt").read_bytes()

    def disk_full(state: object, file: object) -> None:
        file.write(b"half a file")  # type: ignore[attr-defined]
        raise OSError("no space left on device")

    monkeypatch.setattr(weights.torch, "save", disk_full)
    with pytest.warns(UserWarning, match="no space left"):
        weights.save("good.pt", net)
    assert [path.name for path in empty_cache.iterdir()] == ["good.pt"]
    assert (empty_cache / "good.pt").read_bytes() == good


def test_readers_never_see_half_a_file(empty_cache: Path) -> None:
    net = networks.small_cnn(10, 0)
    weights.save("shared.pt", net)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            weights.save("shared.pt", net)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert all(weights.load("shared.pt", networks.small_cnn(10, 1)) for _ in range(30))
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PELLUCID_CACHE", "~/mine")
    assert weights.cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("PELLUCID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache_folder() == tmp_path / "pellucid"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.cache_folder() == Path.home() / ".cache" / "pellucid"


def test_stamps_are_made_once() -> None:
    assert shapes._stamps() is shapes._stamps()
