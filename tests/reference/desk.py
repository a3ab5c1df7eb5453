"""A folder as a user of the command line has it: toy models, inputs, and files that are broken."""

import sys

import numpy as np
import pytest

TOYS = """
import torch

def table():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Softplus(), torch.nn.Linear(8, 3)).eval()

def picture():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(4, 3)).eval()

net = table()

def predict(x):
    return x[:, :2] * 2

def broken(x):
    raise RuntimeError("boom\\nand more")

def sick():
    raise OSError("no weights")

def loud():
    print("loading the weights")
    return table()

def touched():
    open("touched", "w").close()
    return table()

def careless():
    return table().train()
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with toy models and inputs, as a user has it."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("desk")
    draws = np.random.default_rng(0)
    (folder / "desk_toys.py").write_text(TOYS)
    (folder / "desk_ill.py").write_text("import a_package_that_nobody_has\n")
    np.save(folder / "x.npy", draws.normal(size=(12, 4)).astype(np.float32))
    np.save(folder / "one.npy", draws.normal(size=(1, 4)).astype(np.float32))
    np.save(folder / "words.npy", np.array(["a", "b"], dtype=object), allow_pickle=True)
    rows = [",".join(f"{v:.3f}" for v in row) for row in draws.normal(size=(6, 4))]
    (folder / "x.csv").write_text("\n".join(["size,weight,age,price", *rows]))
    (folder / "empty.csv").write_text("")
    (folder / "labels.txt").write_text("cat\ndog\n\nowl\n")
    for name in ("photos", "nothing", "kept"):
        (folder / name).mkdir()
    for i in range(3):
        pixels = draws.integers(0, 255, (12, 16 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"p{i}.png")
    (folder / "cut.png").write_bytes((folder / "photos" / "p0.png").read_bytes()[:150])
    (folder / "text.jpg").write_text("not a picture")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 and then nothing")
    return folder


@pytest.fixture
def here(desk, tmp_path, monkeypatch):
    """An empty working directory beside the user's files, and an unchanged process afterwards."""
    for path in desk.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("desk_")]:
        del sys.modules[name]


@pytest.fixture
def run(here, command_line):
    """Run a command line in an empty folder: exit code, stdout, stderr."""
    return command_line


def made(folder):
    """What is in the folder beside the user's own files, hidden leftovers included."""
    return sorted(path.name for path in folder.iterdir() if not path.is_symlink() and path.name != "__pycache__")
