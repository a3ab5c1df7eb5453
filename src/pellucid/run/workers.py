"""Several processes on one job: each fills its share of the store, then the job is merged from it in order."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from typing import TYPE_CHECKING

import torch

from pellucid.core.budget import Run
from pellucid.core.errors import Unsupported
from pellucid.run.store import Store

if TYPE_CHECKING:
    from pellucid.run.job import Job

_POLL_SECONDS = 0.1


def prefill(job: Job, store: Store, run: Run) -> None:
    """Do the chunks of a job in ``run.workers`` processes that were forked from this one.

    A method that may stop early is shared out by blocks of rows, since whether a chunk is needed depends on the chunks
    before it; any other by chunks. A single share, and any chunk still missing, is done by the caller. A worker's error
    is raised here.
    """
    if sys.platform == "win32" or "fork" not in multiprocessing.get_all_start_methods():
        raise Unsupported("run: workers need processes that fork, which this system does not have; use workers=1")
    if job.blocks[0].z.device.type != "cpu":
        raise Unsupported("run: workers share one model by forking, which a GPU does not allow; use workers=1")
    stops = getattr(job.method, "tolerance", None) is not None
    blocks = range(len(job.blocks))
    shares = [[(b, None)] for b in blocks] if stops else [[(b, i)] for b in blocks for i in range(job.counts[b])]
    if len(shares) < 2:
        return  # one process does it all, and may as well be this one, with all of its threads
    context = multiprocessing.get_context("fork")
    failures = context.SimpleQueue()

    def work(number: int) -> None:
        torch.set_num_threads(1)
        try:
            for share in shares[number :: run.workers]:
                for block, index in share:
                    if index is None:
                        for _ in job.state(block, store):
                            pass
                    elif not store.has(f"{block}-{index}"):
                        job.chunk(block, index, store)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            failures.put((type(error).__name__, str(error), traceback.format_exc()))
            os._exit(1)
        os._exit(0)  # without the parent's exit handlers

    workers = [
        context.Process(target=work, args=(number,), daemon=True) for number in range(min(run.workers, len(shares)))
    ]
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            if run.progress is not None:
                there = sum(store.has(f"{b}-{i}") for b in blocks for i in range(job.counts[b]))
                run.progress(f"{job.method.name} ({run.workers} workers)", there, sum(job.counts))
            time.sleep(_POLL_SECONDS)
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
            worker.join()
    if not failures.empty():
        name, text, trace = failures.get()
        raise RuntimeError(f"a worker failed with {name}: {text}\n{trace}")
