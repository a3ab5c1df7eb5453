"""The result: its rows, tables, maps, neighbours' formats and file."""

import random

import numpy as np
import pytest
import torch

import pellucid
from pellucid import BadInput, Unsupported, methods, players
from pellucid.core import archive
from tests.reference import nets

X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
pytestmark = pytest.mark.filterwarnings("ignore::pellucid.core.errors.Unreliable")


def image(method=None, **options):
    method = methods.integrated_gradients(steps=6) if method is None else method
    return pellucid.explain(nets.pooled().double(), X, method, **{"target": [0, 3, 1, 2], **options})


def table(method=None, **options):
    import pandas as pd

    frame = pd.DataFrame(np.linspace(-1, 1, 12).reshape(3, 4), columns=["age", "sex", "bp", "bmi"])
    net = nets.smooth_mlp(outputs=2)
    model = pellucid.wrap(lambda x: net(torch.as_tensor(x)), labels=["no", "yes"])
    method = methods.smooth_grad(samples=4) if method is None else method
    return pellucid.explain(model, torch.from_numpy(frame.to_numpy().copy()), method, **{"target": "yes", **options})


KINDS = {
    "image": image,
    "players": lambda: image(players=players.grid(2)),
    "players by row": lambda: image(players=torch.randint(0, 3, (4, 8, 8)) * 0 + torch.arange(8) // 3),
    "layer": lambda: image(methods.grad_cam()),
    "all outputs": lambda: image(target="all"),
    "layer, all outputs": lambda: image(methods.grad_cam(), target="all"),
    "errors": lambda: image(methods.expected_gradients(X[:2], samples=5)),
    "steps by row": lambda: image(methods.integrated_gradients(steps=2, tolerance=0.5)),
    "arrays": lambda: image(methods.integrated_gradients(4, baseline=X.flip(0) / 2)),
    "table": table,
    "random": lambda: image(methods.random_attribution()),
}

# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_one_row_keeps_its_batch_axis_and_all_that_belongs_to_it(make):
    e = make()
    for row in (0, 2, -1):
        one, place = e[row], row % len(e)
        assert len(one) == 1
        for name in ("values", "outputs", "data", "std_error", "base_values", "residual"):
            whole = getattr(e, name)
            if whole is None:
                assert getattr(one, name) is None
            else:
                np.testing.assert_array_equal(getattr(one, name), whole[place : place + 1])
        np.testing.assert_array_equal(one.map(), e.map()[place : place + 1])
        assert one.details["first_row"] == place
        index = e.target["index"]
        assert one.target["index"] == (index if isinstance(index, str) else [index[place]])
        for name in e.details["by_row"]:
            np.testing.assert_array_equal(one.details[name], e.details[name][place : place + 1])
    assert len(e[1:3]) == 2
    assert e[1:3][1] == e[2]


def test_rows_that_are_not_there():
    e = image()
    for row in (4, -5):
        with pytest.raises(IndexError, match=rf"row {row} is out of range; the explanation has 4 rows"):
            e[row]
    with pytest.raises(BadInput, match=r"consecutive rows only"):
        e[::2]


def test_rows_can_be_walked_over():
    e = image()
    assert [len(one) for one in e] == [1, 1, 1, 1]


def test_equal_means_equal_in_everything():
    from dataclasses import replace

    e = image()
    assert e == replace(e)
    assert e != replace(e, values=e.values + 1e-9)
    assert e != replace(e, values=e.values.astype(np.float32))
    assert e != replace(e, seed=1)
    assert e != replace(e, residual=None)
    assert e != "e"
    with pytest.raises(TypeError):
        hash(e)


def test_the_representation_says_what_it_is():
    assert repr(image()).startswith("Explanation(integrated_gradients, 4 rows, values (4, 3, 8, 8), residual ")
    assert repr(image(methods.grad_cam())) == "Explanation(grad_cam, 4 rows, values (4, 4, 4))"


def test_the_relative_residual_is_the_residual_over_the_gap():
    e = image()
    np.testing.assert_allclose(e.residual_relative, e.residual / np.abs(e.outputs - e.base_values), rtol=1e-15)
    flat = pellucid.explain(lambda x: x[:, 0] * 0 + 1, X[:2, 0, 0], methods.integrated_gradients(2), target=0)
    np.testing.assert_array_equal(flat.residual_relative, [0, 0])  # nothing to explain, nothing missed
    assert image(methods.saliency()).residual_relative is None


# ---------------------------------------------------------------- tables


def test_a_table_has_a_line_for_each_row_output_and_feature():
    frame = table().to_dataframe()
    assert list(frame.columns) == ["row", "output", "feature", "value", "std_error"]
    e = table()
    for (row, feature), part in frame.groupby(["row", "feature"]):
        place = int(feature.removeprefix("x"))
        assert part["value"].tolist() == [e.values[row, place]]
        assert part["std_error"].tolist() == [e.std_error[row, place]]
    assert set(frame["output"]) == {"yes"}
    assert len(frame) == 12


def test_a_table_of_all_outputs():
    e = table(target="all")
    frame = e.to_dataframe().set_index(["row", "output", "feature"])["value"]
    for row in range(3):
        for column, output in enumerate(["no", "yes"]):
            for feature in range(4):
                assert frame[row, output, f"x{feature}"] == e.values[row, feature, column]


def test_a_table_names_the_output_of_each_row():
    frame = image(methods.grad_cam()).to_dataframe()
    assert frame.groupby("row")["output"].first().tolist() == ["output 0", "output 3", "output 1", "output 2"]
    assert frame["feature"].iloc[5] == "1,1"  # position 1, 1 of a layer of 4 x 4
    named = image(players=players.groups({"left": list(range(4)), "rest": list(range(4, 192))})).to_dataframe()
    assert named["feature"].tolist() == ["left", "rest"] * 4


def test_the_columns_of_a_frame_name_the_features():
    import pandas as pd

    frame = pd.DataFrame({"age": [1.0, 2.0], "bmi": [3.0, -4.0]})
    e = pellucid.explain(torch.nn.Linear(2, 1).eval(), frame, methods.input_x_gradient(), target=0)
    assert e.feature_names == ("age", "bmi")
    assert e.to_dataframe()["feature"].tolist() == ["age", "bmi"] * 2


def test_top_has_the_largest_of_each_row_and_output():
    e = table(target="all")
    top = e.top(2)
    assert len(top) == 3 * 2 * 2
    for (row, output), part in top.groupby(["row", "output"]):
        values = e.values[row, :, ["no", "yes"].index(output)]
        expected = values[np.argsort(-np.abs(values))[:2]]
        assert part["value"].tolist() == expected.tolist()
    assert len(e.top(100)) == 24


# ---------------------------------------------------------------- maps


def test_the_map_of_an_image_sums_its_channels_with_their_signs():
    e = image()
    np.testing.assert_array_equal(e.map(), e.values.sum(1))
    assert e.map().min() < 0 < e.map().max()
    np.testing.assert_allclose(e.map().sum((1, 2)), e.values.sum((1, 2, 3)), atol=1e-14)


def test_the_map_of_players_spreads_their_values():
    e = image(players=players.grid(2, 4))
    expected = (e.values.reshape(4, 2, 4) / 8).repeat(4, 1).repeat(2, 2)  # 8 pixels a cell, all channels together
    np.testing.assert_allclose(e.map(), expected, rtol=1e-14)


@pytest.mark.parametrize("shape", [(5,), (6, 7), (2, 9)])
def test_maps_of_tables_tokens_and_signals(shape):
    x = torch.rand(2, *shape)
    e = pellucid.explain(lambda x: (x**2).flatten(1).sum(1), x, methods.input_x_gradient(), target=0)
    expected = {1: (2, 5), 2: (2, shape[-1])}[len(shape)]
    summed = e.values if len(shape) == 1 else e.values.sum(1)
    assert e.dims in (("feature",), ("channel", "time"))
    assert e.map().shape == expected
    np.testing.assert_allclose(e.map(), summed, rtol=1e-6)


def test_a_layer_that_does_not_fit_the_input_has_values_but_no_map():
    class Reshaped(torch.nn.Module):
        """Pictures that come as rows of a table."""

        def __init__(self):
            super().__init__()
            self.conv, self.fc = torch.nn.Conv2d(1, 3, 3), torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(torch.relu(self.conv(x.reshape(-1, 1, 6, 6))).mean((2, 3)))

    e = pellucid.explain(nets.seeded(Reshaped), torch.rand(2, 36), methods.grad_cam(), target=0)
    assert e.values.shape == (2, 4, 4)
    with pytest.raises(Unsupported, match=r"map: .*layer_height.*use values"):
        e.map()


# ---------------------------------------------------------------- neighbours


@pytest.mark.parametrize("target", ["yes", "all"])
def test_the_numbers_go_to_shap(target):
    import shap

    e = table(methods.integrated_gradients(8), target=target)
    other = e.to_shap()
    assert isinstance(other, shap.Explanation)
    np.testing.assert_array_equal(other.values, e.values)
    np.testing.assert_array_equal(other.base_values, e.base_values)
    np.testing.assert_array_equal(other.data, e.data)
    assert len(other[0].values) == 4
    if target == "yes":
        assert other[1:].values.shape == (2, 4)


def test_without_shap_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(Unsupported, match=r"pip install 'pellucid\[shap\]'"):
        table().to_shap()


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("suffix", [".npz", "", ".other"])
def test_what_is_saved_comes_back_equal(make, suffix, tmp_path):
    e, path = make(), tmp_path / f"a b ü{suffix}"
    e.save(path)
    assert list(tmp_path.iterdir()) == [path]
    back = pellucid.load(str(path))
    assert back == e
    assert repr(back) == repr(e)
    np.testing.assert_array_equal(back.map(), e.map())
    assert back[1] == e[1]
    assert back.to_dataframe().equals(e.to_dataframe())


def test_the_baseline_is_stored_with_its_hash(tmp_path):
    e = KINDS["arrays"]()
    e.save(tmp_path / "e.npz")
    (name, stored), *_ = pellucid.load(tmp_path / "e.npz").details["arrays"].items()
    np.testing.assert_array_equal(stored, X.flip(0) / 2)
    assert e.method["fields"]["baseline"]["fields"]["value"]["array"] == name


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "e.npz"
    first, second = table(), table(seed=1)
    first.save(path)
    second.save(path)
    assert pellucid.load(path) == second

    def half(file, **arrays):
        file.write(b"half of it")
        raise OSError("the disk is full")

    monkeypatch.setattr(archive.np, "savez_compressed", half)
    with pytest.raises(OSError, match="the disk is full"):
        first.save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert pellucid.load(path) == second


def test_places_that_are_not_there(tmp_path):
    with pytest.raises(BadInput, match=r"load: there is no file"):
        pellucid.load(tmp_path / "none.npz")
    with pytest.raises(BadInput, match=r"load: there is no file"):
        pellucid.load(tmp_path)
    with pytest.raises(BadInput, match=r"save: the folder .* does not exist"):
        table().save(tmp_path / "none" / "e.npz")


def test_a_damaged_file_is_refused_and_never_read_wrong(tmp_path):
    """Cut off at any length, or with any byte changed: refused, or (a byte that does not matter) read right."""
    e, path = table(), tmp_path / "e.npz"
    e.save(path)
    whole, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for place in range(0, len(whole), 13):
        flipped = bytearray(whole)
        flipped[place] ^= chance.randrange(1, 256)
        for damaged in (whole[:place], bytes(flipped)):
            path.write_bytes(damaged)
            try:
                assert pellucid.load(path) == e
            except BadInput as error:
                assert "is not a pellucid explanation or is damaged" in str(error) or "has schema" in str(error)  # noqa: PT017
                refused += 1
    assert refused > 1.5 * len(whole) / 13


def test_a_file_that_lost_an_array_is_refused(tmp_path):
    """An optional array that is gone would otherwise pass for one that was never there."""
    import zipfile

    path, smaller = tmp_path / "e.npz", tmp_path / "smaller.npz"
    table().save(path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(smaller, "w") as part:
        for name in whole.namelist():
            if name != "std_error.npy":
                part.writestr(name, whole.read(name))
    with pytest.raises(BadInput, match="is not a pellucid explanation or is damaged"):
        pellucid.load(smaller)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "e.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(BadInput, match="is not a pellucid explanation"):
        pellucid.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(BadInput, match="is not a pellucid explanation"):
        pellucid.load(path)
    np.savez(path, **{"explanation.json": np.array([{"a": 1}], dtype=object)})  # a pickle
    with pytest.raises(BadInput, match="is not a pellucid explanation"):
        pellucid.load(path)


def test_a_file_of_a_later_version_says_so(tmp_path):
    from dataclasses import replace

    path = tmp_path / "e.npz"
    replace(table(), schema=99).save(path)
    with pytest.raises(BadInput, match=r"has schema 99, this version reads up to 1; update pellucid"):
        pellucid.load(path)
