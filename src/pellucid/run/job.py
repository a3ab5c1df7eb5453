"""A job: chunks of work done in order of their ids, their states merged in that order.

A chunk is a pure function of the question and its id, so a stored one is as good as a fresh one: one process, several
workers and a run that was killed and resumed give the same bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pellucid.core.budget import Run
from pellucid.core.method import Method, Result
from pellucid.core.question import Question
from pellucid.core.state import State
from pellucid.run.store import Store
from pellucid.run.workers import prefill


@dataclasses.dataclass(frozen=True)
class Job:
    """The chunks of a method's answer to a question: blocks of rows, each in as many chunks as the method says."""

    method: Method
    blocks: tuple[Question, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, method: Method, question: Question) -> Job:
        """Cut the work; everything that decides how is part of the question or of the method."""
        method, rows = method.prepared(question), len(question.z)
        size = max(1, method.block_rows(question))
        blocks = tuple(question.block(slice(start, min(start + size, rows))) for start in range(0, rows, size))
        return cls(method, blocks, tuple(method.chunks(block) for block in blocks))

    def chunk(self, block: int, index: int, store: Store | None) -> State:
        """One chunk, from the store if it is there, and into it if it was not."""
        key, cost = f"{block}-{index}", self.blocks[block].executor.cost
        if store is not None and (stored := store.load(key)) is not None:
            known: State = stored[0]
            spent = stored[1]
            cost.forwards += spent["forwards"]
            cost.backwards += spent["backwards"]
            return known
        forwards, backwards = cost.forwards, cost.backwards
        state = self.method.chunk(self.blocks[block], index)
        if store is not None:
            store.save(key, state, {"forwards": cost.forwards - forwards, "backwards": cost.backwards - backwards})
        return state

    def state(self, block: int, store: Store | None) -> Iterator[State]:
        """The merged state of a block after each of its chunks, until the method has enough."""
        state: Any = None
        for index in range(self.counts[block]):
            part = self.chunk(block, index, store)
            state = part if state is None else state.merge(part)
            yield state
            if self.method.settled(state):
                return


def answer(method: Method, question: Question, run: Run, spec: Mapping[str, Any]) -> Result:
    """The answer to a question; ``spec`` says all that the numbers depend on, and its hash names the folder.

    Jobs with a store or with workers compute on one thread in every process, since the order of sums inside an
    operation depends on the number of threads.
    """
    long = run.store is not None or run.workers > 1
    with one_thread() if long else contextlib.nullcontext():
        job = Job.of(method, question)
        with Store.opened(run.store, spec, temporary=run.workers > 1, resume=run.resume) as store:
            if run.workers > 1 and store is not None:
                prefill(job, store, run)
            results, done, total = [], 0, sum(job.counts)
            for block in range(len(job.blocks)):
                state: State | None = None
                for merged in job.state(block, store):
                    state = merged
                    done += 1
                    if run.progress is not None:
                        run.progress(method.name, done, total)
                results.append(job.method.result(job.blocks[block], state))
        return join(results)


def join(results: list[Result]) -> Result:
    """Results of consecutive blocks of rows as one."""
    first = results[0]
    if len(results) == 1:
        return first

    def rows(name: str) -> torch.Tensor | None:
        parts = [getattr(result, name) for result in results]
        return None if parts[0] is None else torch.cat(parts)

    details = {
        name: torch.cat([result.details[name] for result in results]) if name in first.by_row else value
        for name, value in first.details.items()
    }
    values = rows("values")
    if values is None:
        raise TypeError("a result has no values")
    return dataclasses.replace(
        first,
        values=values,
        std_error=rows("std_error"),
        base=rows("base"),
        details=details,
        outputs=rows("outputs"),
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what happens inside: the same bits whatever the machine has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
