"""What users pass as x: every kind becomes one checked batch, or a clear error; callables get their own kind back."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import pellucid
from pellucid import BadInput, Unreliable, methods, removal
from pellucid.core import inputs
from pellucid.core.frame import Frame

TABLE = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]


def linear(dtype=torch.float32):
    net = torch.nn.Linear(3, 2).to(dtype).eval()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.0, 1.0, 1.0]]))
    return net


def read(x, **options):
    return inputs.read(x, pellucid.wrap(linear(), **options))


def frame_of(x):
    return pd.DataFrame(x, columns=["a", "b", "c"])


KINDS = {
    "torch": torch.tensor(TABLE),
    "torch float64": torch.tensor(TABLE, dtype=torch.float64),
    "torch bfloat16": torch.tensor(TABLE, dtype=torch.bfloat16),
    "not contiguous": torch.tensor(TABLE).T.contiguous().T,
    "requires grad": torch.tensor(TABLE, requires_grad=True),
    "numpy": np.array(TABLE),
    "numpy float16": np.array(TABLE, dtype=np.float16),
    "numpy longdouble": np.array(TABLE, dtype=np.longdouble),
    "big endian": np.array(TABLE).astype(">f8"),
    "reversed view": np.array(TABLE)[:, ::-1][:, ::-1],
    "read only": np.broadcast_to(np.array(TABLE), (2, 3)),
    "object numbers": np.array(TABLE, dtype=object),
    "list": TABLE,
    "tuple": tuple(map(tuple, TABLE)),
    "frame": frame_of(TABLE),
    "nullable frame": frame_of(TABLE).astype("Float64"),
    "object frame": frame_of(TABLE).astype(object),
}


@pytest.mark.parametrize("x", KINDS.values(), ids=KINDS)
def test_every_kind_is_the_same_batch(x):
    batch = read(x)
    assert batch.tensor.dtype == torch.float32
    assert batch.tensor.is_contiguous()
    assert not batch.tensor.requires_grad
    torch.testing.assert_close(batch.tensor, torch.tensor(TABLE))


def test_the_batch_is_private():
    for x in (torch.tensor(TABLE), np.array(TABLE, dtype=np.float32), frame_of(TABLE).astype(np.float32)):
        read(x).tensor.zero_()
        assert np.asarray(x)[0, 0] == 1


def test_a_batch_in_inference_mode_can_be_explained():
    with torch.inference_mode():
        e = pellucid.explain(linear(), torch.tensor(TABLE), methods.saliency(), target=0)
    np.testing.assert_allclose(e.values[0], [1.0, -2.0, 0.5])


def test_whole_numbers_become_floats_and_keep_large_values():
    big = 2**24 + 1  # float32 cannot hold it
    assert inputs.read(np.array([[big, 1]]), pellucid.wrap(lambda x: x)).tensor.dtype == torch.float64
    assert inputs.read(pd.DataFrame({"id": [big]}), pellucid.wrap(lambda x: x)).tensor.tolist() == [[big]]
    assert read(torch.tensor([[1, 2, 3]])).tensor.dtype == torch.float32
    assert read(np.array([[True, False, True]])).tensor.tolist() == [[1.0, 0.0, 1.0]]
    assert read(np.array([[1, 2, 40_000]], dtype=np.uint16)).tensor.tolist() == [[1.0, 2.0, 40_000.0]]


@pytest.mark.parametrize("bounds", [None, (0.0, 255.0), (-1.0, 1.0)])
def test_uint8_is_scaled_to_the_bounds(bounds):
    low, high = bounds or (0.0, 1.0)
    levels = np.array([[0, 51, 255]], dtype=np.uint8)
    expected = [low, low + 0.2 * (high - low), high]
    for x in (levels, torch.from_numpy(levels)):
        np.testing.assert_allclose(read(x, bounds=bounds).tensor[0], expected, rtol=1e-6)


def test_a_uint8_background_and_baseline_are_scaled_as_x_is():
    levels = np.array([[0, 51, 255]], dtype=np.uint8)
    x = torch.tensor([[1.0, 1.0, 1.0]])
    w = torch.tensor([1.0, -2.0, 0.5])
    expected = w * (1 - torch.tensor([0.0, 0.2, 1.0]))
    for absent in (removal.baseline(levels[0]), removal.marginal(levels), removal.marginal(torch.from_numpy(levels))):
        e = pellucid.explain(linear(), x, methods.feature_ablation(absent), target=0)
        np.testing.assert_allclose(e.values[0], expected, atol=1e-6)


def test_pictures_become_channels_first():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    seen = []

    def brightness(x):
        seen.append(x)
        return x.mean((1, 2, 3))

    pictures = [Image.fromarray(p) for p in pixels]
    e = pellucid.explain(brightness, pictures, methods.random_attribution())
    assert isinstance(seen[0], np.ndarray)
    np.testing.assert_allclose(e.data, pixels.transpose(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(e.outputs, pixels.mean((1, 2, 3)) / 255)
    assert e.map().shape == (2, 5, 4)
    one = inputs.read(pictures[0], pellucid.wrap(brightness))
    assert one.tensor.shape == (1, 3, 5, 4)


def test_grey_pictures_have_one_channel_and_other_modes_become_colour():
    grey = Image.fromarray(np.full((2, 3), 51, dtype=np.uint8))
    model = pellucid.wrap(lambda x: x)
    assert inputs.read(grey, model).tensor.shape == (1, 1, 2, 3)
    for mode in ("1", "P", "LA", "RGBA", "CMYK"):
        batch = inputs.read([grey.convert(mode)], model).tensor
        assert batch.shape == (1, 3, 2, 3)
    assert inputs.read([grey, grey.convert("RGB")], model).tensor.shape == (2, 3, 2, 3)


def test_column_names_are_kept():
    e = pellucid.explain(linear(), frame_of(TABLE), methods.saliency(), target=0)
    assert e.feature_names == ("a", "b", "c")
    assert pellucid.explain(linear(), np.array(TABLE), methods.saliency(), target=0).feature_names == ("x0", "x1", "x2")


WRONG = {
    "1-d": (np.array([1.0, 2.0, 3.0]), r"x\[None\]"),
    "0-d": (np.float64(3.0), r"shape \(B, ...\)"),
    "series": (pd.Series([1.0, 2.0, 3.0]), r"x\[None\]"),
    "no rows": (np.empty((0, 3)), "empty"),
    "no columns": (torch.empty(2, 0), "empty"),
    "empty frame": (frame_of(TABLE)[:0], "empty"),
    "empty list": ([], "shape"),
    "NaN": (np.array([[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]]), "row 1"),
    "infinite": (torch.tensor([[1.0, torch.inf, 3.0]]), "infinite"),
    "overflow": (np.array([[1.0, 1e300, 3.0]]), "too large"),
    "complex": (np.array([[1j, 2, 3]]), "real numbers"),
    "complex tensor": (torch.zeros(2, 3, dtype=torch.complex64), "real numbers"),
    "text": (np.array([["a", "b", "c"]]), "encode"),
    "digits as text": (np.array([["1", "2", "3"]], dtype=object), "encode"),
    "object": (np.array([[1.0, None, 3.0]], dtype=object), "NoneType"),
    "dates": (np.array([["2020-01-01"] * 3], dtype="datetime64[D]"), "dates"),
    "string": ("photo.png", "str"),
    "ragged": ([[1.0], [2.0, 3.0]], "list"),
    "list of tensors": ([torch.zeros(3), torch.zeros(3)], "torch.stack"),
    "dict": ({"a": 1}, "dict"),
    "sparse": (torch.eye(3).to_sparse(), "to_dense"),
    "meta": (torch.zeros(2, 3, device="meta"), "meta"),
    "missing numbers": (frame_of([[1, None, 3]]).astype("Int64"), "NaN"),
    "frame of text": (frame_of([["u", "v", "w"]]), "'a'"),
    "frame of dates": (frame_of(pd.to_datetime(["2020-01-01"]).repeat(3).to_numpy()[None]), "days since"),
    "twice the name": (pd.DataFrame(TABLE, columns=["a", "b", "a"]), "'a' comes twice"),
    "pictures of two sizes": ([Image.new("L", (2, 2)), Image.new("L", (3, 2))], "one size"),
}


@pytest.mark.parametrize(("x", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_refused(x, words):
    with pytest.raises(BadInput, match=words):
        pellucid.explain(linear(), x, methods.saliency(), target=0)


def test_a_sparse_matrix_and_a_broken_picture_are_refused(tmp_path):
    from scipy import sparse

    with pytest.raises(BadInput, match="toarray"):
        read(sparse.eye(3).tocsr())
    path = tmp_path / "half.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as picture, pytest.raises(BadInput, match="cannot be read"):
        read(picture)


# ---------------------------------------------------------------- DataFrames with text

PEOPLE = pd.DataFrame(
    {
        "age": [30, 50, 41],
        "city": ["Rome", "Oslo", "Rome"],
        "size": pd.Categorical(["S", "L", "M"], categories=["S", "M", "L"], ordered=True),
        "member": [True, False, True],
    }
)


def points(people):
    """A literal score on the columns as a user sees them: 1 a year, 100 for Oslo, 1000 for L, 10 for members."""
    assert list(people.columns) == ["age", "city", "size", "member"]
    assert people["member"].dtype == bool
    assert people["size"].dtype == PEOPLE["size"].dtype
    return people["age"] + 100.0 * (people["city"] == "Oslo") + 1000.0 * (people["size"] == "L") + 10 * people["member"]


def test_a_frame_comes_back_as_it_was():
    frame = Frame.of(PEOPLE)
    numbers = frame.encode(PEOPLE)
    np.testing.assert_array_equal(numbers, [[30, 1, 0, 1], [50, 0, 2, 0], [41, 1, 1, 1]])
    pd.testing.assert_frame_equal(frame.decode(numbers), PEOPLE.astype({"age": float}))
    stored = Frame.restored(frame.to_dict())
    pd.testing.assert_frame_equal(stored.decode(numbers), PEOPLE.astype({"age": float}))


def test_codes_are_stable_and_new_text_gets_the_next_one():
    frame = Frame.of(PEOPLE)
    later = PEOPLE.assign(city=["Bonn", "Rome", "Oslo"])[["member", "size", "city", "age"]]
    np.testing.assert_array_equal(frame.encode(later)[:, 1], [2, 1, 0])
    np.testing.assert_array_equal(frame.encode(PEOPLE)[:, 1], [1, 0, 1])
    with pytest.raises(BadInput, match="'XL' is not among"):
        frame.encode(PEOPLE.assign(size=pd.Categorical(["XL", "S", "S"])))
    with pytest.raises(BadInput, match="missing 'city'"):
        frame.encode(PEOPLE.drop(columns="city"))


@pytest.mark.parametrize("code", [0.5, -1.0, 2.0])
def test_codes_that_stand_for_nothing_are_refused(code):
    frame = Frame.of(PEOPLE)
    numbers = frame.encode(PEOPLE)
    numbers[0, 1] = code
    with pytest.raises(BadInput, match="marginal"):
        frame.decode(numbers)


def test_a_text_frame_with_a_background_is_explained_exactly():
    background = pd.DataFrame(
        {
            "member": [False, False],
            "city": ["Oslo", "Bonn"],  # Bonn is new
            "age": [20, 40],
            "size": pd.Categorical(["S", "S"], categories=["S", "M", "L"], ordered=True),
        }
    )  # in another order of columns
    e = pellucid.explain(points, PEOPLE, methods.feature_ablation(removal.marginal(background)), target=0)
    expected = np.array([[0, -50, 0, 10], [20, 50, 1000, 0], [11, -50, 0, 10]])
    np.testing.assert_allclose(e.values, expected)
    assert e.feature_names == ("age", "city", "size", "member")
    again = pellucid.explain(points, PEOPLE[1:2], methods.feature_ablation(removal.marginal(background)), target=0)
    np.testing.assert_allclose(again.values, expected[1:2])


def test_a_baseline_row_may_be_a_frame_and_a_number_warns():
    e = pellucid.explain(points, PEOPLE, methods.feature_ablation(PEOPLE[:1]), target=0)
    np.testing.assert_allclose(e.values, [[0, 0, 0, 0], [20, 100, 1000, -10], [11, 0, 0, 0]])
    with pytest.warns(Unreliable, match="'city' the number 0 stands for a category"):
        pellucid.explain(points, PEOPLE, methods.feature_ablation(), target=0)


def test_an_explanation_of_a_text_frame_can_be_scored_and_stored(tmp_path):
    e = pellucid.explain(points, PEOPLE, methods.feature_ablation(PEOPLE[1:2]), target=0)
    e.save(tmp_path / "e.npz")
    stored = pellucid.load(tmp_path / "e.npz")
    assert stored == e
    scores = pellucid.evaluate(points, stored, [pellucid.metrics.deletion(reference=PEOPLE[1:2])])
    (cell,) = scores.cells
    np.testing.assert_allclose(cell.curve[:, 0], points(PEOPLE))
    np.testing.assert_allclose(cell.curve[:, -1], points(PEOPLE)[1])


def test_the_same_codes_of_other_text_are_another_background():
    one, other = (pd.DataFrame({"city": cities}) for cities in (["Oslo", "Rome"], ["Bonn", "Wien"]))
    assert torch.equal(removal.marginal(one).background, removal.marginal(other).background)
    assert removal.marginal(one) == removal.marginal(one.copy())
    assert removal.marginal(one) != removal.marginal(other)
    assert removal.baseline(one) != removal.baseline(other)
    described = [methods.feature_ablation(removal.marginal(frame)).describe() for frame in (one, one.copy(), other)]
    assert described[0] == described[1] != described[2]


def test_numeric_backgrounds_match_by_name():
    x = frame_of(TABLE)
    weights = np.array([1.0, 10.0, 100.0])
    background = pd.DataFrame({"c": [3.0], "b": [2.0], "a": [1.0]})

    def score(frame):
        return frame.to_numpy() @ weights

    e = pellucid.explain(score, x, methods.feature_ablation(removal.marginal(background)), target=0)
    np.testing.assert_allclose(e.values, (np.array(TABLE) - [1, 2, 3]) * weights)
    net = pellucid.explain(linear(), x, methods.feature_ablation(removal.marginal(background)), target=0)
    np.testing.assert_allclose(net.values, (np.array(TABLE) - [1, 2, 3]) * [1, -2, 0.5], atol=1e-6)
    with pytest.raises(BadInput, match="missing 'a'"):
        pellucid.explain(score, x, methods.feature_ablation(removal.marginal(background[["b", "c"]])), target=0)
