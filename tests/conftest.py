"""Every test runs on one torch thread and starts from the same global random states."""

import os
import random

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads; two busy threads are slower than one

import numpy as np
import pytest
import torch

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
