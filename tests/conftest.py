"""Every test runs on one torch thread and starts from the same global random states."""

import os
import random
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads; two busy threads are slower than one

import numpy as np
import pytest
import torch

from pellucid import judging
from tests.reference.contestants import rows
from tests.reference.desk import desk, here, run  # noqa: F401 - fixtures of the command line's tests

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - the legacy state is what captum draws from
    torch.manual_seed(0)


@pytest.fixture
def command_line(capsys):
    """Run a command line: exit code, stdout, stderr."""
    from pellucid.app import cli

    def go(line, *more):
        capsys.readouterr()
        try:
            cli.main([*line.split(), *more])
        except SystemExit as end:
            code = end.code or 0
        else:
            code = 0
        out, err = capsys.readouterr()
        return code, out, err

    return go


@pytest.fixture
def no_digits(monkeypatch):
    """As on a machine without the demo extra: the fourth check does not apply."""

    def missing():
        raise ImportError("the digits are not installed")

    judging._tag_precision.cache_clear()
    monkeypatch.setattr(judging, "_tagged", missing)


@pytest.fixture
def small_digits(monkeypatch):
    """Instead of digits, 6 x 6 pictures whose class is the brightness of two pixels, the tag."""
    tag = torch.zeros(9, 1, 6, 6, dtype=torch.bool)
    tag[:, 0, 1, 1] = tag[:, 0, 1, 2] = True
    x = rows(9, 1, 6, 6) * 0.4
    x[tag] = 1.0
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2)).eval()
    torch.nn.init.zeros_(net[1].weight)
    net[1].weight.data[1] = tag[0].flatten().float()
    examples = SimpleNamespace(x=x, y=torch.ones(9, dtype=torch.long), truth={"tag": tag})
    judging._tag_precision.cache_clear()
    monkeypatch.setattr(judging, "_tagged", lambda: (net, examples))
    yield examples
    judging._tag_precision.cache_clear()
