"""A job: chunks of work done in order of their ids, their states merged in that order."""

from __future__ import annotations

import dataclasses

import torch

from pellucid.core.budget import Progress
from pellucid.core.method import Method, Result
from pellucid.core.question import Question


def answer(method: Method, question: Question, progress: Progress | None = None) -> Result:
    """A method's answer to a question: blocks of rows, each in chunks, merged in order, joined along rows."""
    method, rows = method.prepared(question), len(question.z)
    block_rows = max(1, method.block_rows(question))
    blocks = [question.block(slice(start, min(start + block_rows, rows))) for start in range(0, rows, block_rows)]
    counts = [method.chunks(block) for block in blocks]
    done, results = 0, []
    for block, count in zip(blocks, counts, strict=True):
        state = None
        for index in range(count):
            part = method.chunk(block, index)
            state = part if state is None else state.merge(part)
            done += 1
            if progress is not None:
                progress(method.name, done, sum(counts))
            if method.settled(state):
                break
        results.append(method.result(block, state))
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
    return dataclasses.replace(first, values=values, std_error=rows("std_error"), base=rows("base"), details=details)
