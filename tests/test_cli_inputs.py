"""The command line: which models, pictures and tables it takes."""

import functools

import numpy as np
import pytest
import torch

from pellucid.app import loading
from tests.reference.desk import made


class Callback:
    def __call__(self, x):
        return x


def needs(x):
    return x


def makes():
    return "made"


@pytest.mark.parametrize(
    ("found", "result"),
    [
        (makes, "made"),
        (functools.cache(makes), "made"),
        (functools.partial(needs, "bound"), "bound"),
        (Callback, Callback),
        (needs, needs),
        (functools.partial(needs), needs),
    ],
)
def test_a_factory_is_called_and_an_object_is_used_as_it_is(found, result):
    got = loading.built(found)
    if isinstance(found, functools.partial) and result is needs:
        assert got is found
    elif result is Callback:
        assert isinstance(got, Callback)
    else:
        assert got == result


def test_a_module_is_not_called():
    net = torch.nn.Linear(2, 2)
    instance = Callback()
    assert loading.built(net) is net
    assert loading.built(instance) is instance


def test_pictures_are_rgb_or_grey_rows_of_channels(here):
    batch = loading.inputs(["photos"], loading.Reading(size=8))
    assert batch.x.shape == (3, 3, 8, 8)
    assert batch.x.dtype == np.uint8
    assert batch.names == ("p0.png", "p1.png", "p2.png")
    assert loading.inputs(["photos/p1.png"], loading.Reading(grey=True)).x.shape == (1, 1, 12, 17)
    assert isinstance(loading.inputs(["x.npy"], loading.Reading(tensors=True)).x, torch.Tensor)


def test_the_middle_of_a_picture_is_kept_and_not_distorted(tmp_path):
    from PIL import Image

    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = (255, 128, 0)  # the middle third is one colour
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = loading.picture(tmp_path / "wide.png", loading.Reading(size=10))
    assert found.shape == (3, 10, 10)
    assert (found == np.array([255, 128, 0]).reshape(3, 1, 1)).all()


def test_several_files_are_one_batch(here):
    twice = loading.inputs(["x.npy", "one.npy"], loading.Reading()).x
    assert np.array_equal(twice, np.concatenate([np.load("x.npy"), np.load("one.npy")]))
    tables = loading.inputs(["x.csv", "x.csv"], loading.Reading()).x
    assert len(tables) == 12
    assert list(tables.columns) == ["size", "weight", "age", "price"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("explain desk_toys:net gone.npy", "there is no file or folder 'gone.npy'"),
        ("explain desk_toys:net nothing", "holds no image"),
        ("explain desk_toys:net labels.txt", "expected images"),
        ("explain desk_toys:net x.npy x.csv", "one kind"),
        ("explain desk_toys:net words.npy", "cannot be read as an array"),
        ("explain desk_toys:net empty.csv", "cannot be read as a table"),
        ("explain desk_toys:picture cut.png", "'cut.png' cannot be read"),
        ("explain desk_toys:picture text.jpg", "'text.jpg' cannot be read"),
        ("explain desk_toys:picture photos", "p0.png: 16 x 12"),
        ("explain desk_toys:picture photos --size 0", "at least 1 pixel"),
        ("explain desk_toys:gone x.npy", "have 'table', 'picture', 'net'"),
        ("explain nobody_has_this:net x.npy", "no module 'nobody_has_this'"),
        ("explain desk_toys.py:net x.npy", "did you mean desk_toys:net?"),
        ("explain desk_toys x.npy", "expected package.module:factory"),
        ("explain gone.onnx x.npy", "no file 'gone.onnx'"),
        ("explain desk_toys:net x.npy --bounds low,high", "--bounds must be numbers"),
        ("explain desk_toys:net x.npy --bounds 1,0", "low < high"),
        ("explain desk_toys:net x.npy --labels gone.txt", "no file 'gone.txt'"),
        ("explain desk_toys:net x.npy --labels cat,dog", "2 labels"),
        ("explain desk_toys:net x.npy --target 3", "out of range"),
        ("explain desk_toys:net x.npy --labels labels.txt --target cow", "'cow' not found"),
        ("explain desk_toys:net x.npy --read nonsense", "read must be"),
        ("explain desk_toys:net x.npy --seed -1", "seed"),
        ("explain desk_toys:net x.npy --batch-size 0", "batch_size must be a positive"),
        ("explain desk_toys:net x.npy -m saliency,smooth_grad", "`pellucid compare` takes several"),
        ("explain desk_toys:net x.npy --plot e.txt", "--plot"),
        ("explain desk_toys:net x.npy --out gone/e.npz", "'gone' does not exist"),
        ("explain desk_toys:net x.npy --out kept", "is a folder"),
        ("explain desk_toys:net x.npy --out e.npz --html e.npz", "one name"),
        ("compare desk_toys:net one.npy", "at least two rows"),
        ("compare desk_toys:net x.npy --players grid:2", "--players needs --methods"),
        ("evaluate desk_toys:net broken.npz", "is not a pellucid explanation or is damaged"),
        ("evaluate desk_toys:net gone.npz", "no file 'gone.npz'"),
        ("report page.html broken.npz", "is not a pellucid explanation or is damaged"),
        ("report gone/page.html broken.npz", "'gone' does not exist"),
        ("methods nonsense", "neither a method nor a metric"),
        ("demo --photos 1", "--photos must be 0, or between 2 and 20"),
        ("demo --photos 0 --digits 0 --tumours 0", "nothing to show"),
        ("demo --out gone/demo", "'gone' does not exist"),
    ],
)
def test_a_mistake_ends_with_one_line_and_code_2_and_writes_nothing(run, here, line, said):
    code, out, err = run(line)
    assert (code, out) == (2, ""), err
    assert said in err
    assert err.startswith("pellucid: error: ")
    assert err.count("\n") == 1
    assert made(here) == []


@pytest.mark.parametrize("line", ["explain desk_toys:net", "explain desk_toys:net x.npy --seed one", "check", ""])
def test_a_wrong_call_ends_with_code_2(run, line):
    assert run(line)[0] == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("explain desk_toys:broken x.npy -m feature_ablation", "the model raised RuntimeError: boom and more"),
        ("check desk_toys:sick x.npy", "OSError: no weights"),
        ("explain desk_ill:net x.npy", "a_package_that_nobody_has"),
    ],
)
def test_what_the_users_code_raises_ends_with_one_line_and_code_1(run, here, line, said):
    code, out, err = run(line)
    assert (code, out) == (1, "")
    assert f"pellucid: error: {said}" in err or said in err
    assert "Traceback" not in err
    assert made(here) == []
    assert "Traceback" in run(line + " --debug")[2]


def test_what_cannot_be_done_right_ends_with_code_3(run, here):
    code, out, err = run("explain desk_toys:predict x.npy -m saliency")
    assert (code, out) == (3, "")
    assert "feature_ablation" in err
    assert made(here) == []
    assert run("explain desk_toys:predict x.npy -m saliency --tensors")[0] == 0
