"""Flags made from the parameters of functions and the fields of dataclasses, so that none is written twice.

A command is a function of its console and more. A parameter annotated with ``From(...)`` stands for all parameters of
another function or dataclass, each of which becomes a flag; the command receives what the user gave, as a dict (or as
the dataclass, if it is annotated so). The source may be named by text, and is then imported only when the flags are
needed: ``pellucid --help`` loads no torch.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any

import typer

from pellucid.app import arguments
from pellucid.app.console import Console, Voice

_BY_NAME = {
    "labels": arguments.labels,
    "players": arguments.division,
    "space": arguments.space,
    "target": arguments.target,
    "truth": arguments.target,
}
_PLAIN = {bool: bool, int: int, float: float}


@dataclass(frozen=True)
class From:
    """All parameters of ``source`` (a callable, or text ``module:name``) as flags; ``only`` some or ``without``
    some."""

    source: Any
    title: str
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    @property
    def callable(self) -> Callable[..., Any]:
        """The function or dataclass itself."""
        if not isinstance(self.source, str):
            return typing.cast("Callable[..., Any]", self.source)
        module, _, name = self.source.partition(":")
        return typing.cast("Callable[..., Any]", getattr(importlib.import_module(module), name))

    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters that become flags."""
        every = arguments.signature(self.callable)
        return {
            name: p for name, p in every.items() if (not self.only or name in self.only) and name not in self.without
        }

    def flags(self) -> list[inspect.Parameter]:
        """One optional keyword for Typer for each parameter; None means not given."""
        said = documented(self.callable)
        return [self._flag(p, said.get(p.name, "")) for p in self.parameters().values()]

    def _flag(self, p: inspect.Parameter, said: str) -> inspect.Parameter:
        hint = _PLAIN.get(_one_type(p.annotation), str)
        dashed = p.name.replace("_", "-")
        if hint is bool and p.default is False:
            names = [f"--{dashed}"]
        else:
            names = [f"--{dashed}/--no-{dashed}" if hint is bool else f"--{dashed}"]
        said = re.sub(r"\bNone\b", "none", said)
        if p.default not in (None, False, p.empty):
            several = isinstance(p.default, (tuple, list))
            default = ",".join(map(str, p.default)) if several else p.default
            said = f"{said} (default: {default})".lstrip()  # not in brackets, which are Typer's marks for colours
        option = typer.Option(*names, help=said, show_default=False, rich_help_panel=self.title)
        return inspect.Parameter(p.name, p.KEYWORD_ONLY, default=None, annotation=Annotated[hint | None, option])

    def collect(self, given: dict[str, Any]) -> dict[str, Any]:
        """What the user gave for these parameters, taken out of ``given``, as values of their types."""
        collected = {}
        for name, p in self.parameters().items():
            value = given.pop(name)
            if value is None:
                continue
            where = f"--{name.replace('_', '-')}"
            if name in _BY_NAME:
                value = _BY_NAME[name](value, where)
            elif isinstance(value, str):
                value = arguments.convert(value, p.annotation, where)
            collected[name] = value
        return collected


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer wants it: a flat function with one parameter a flag, run inside a session of its console."""
    voice = From(Voice, "Output")
    groups: dict[str, tuple[From, Any]] = {}
    flat: list[inspect.Parameter] = []
    for p in inspect.signature(command, eval_str=True).parameters.values():
        parts = typing.get_args(p.annotation) if typing.get_origin(p.annotation) is Annotated else (p.annotation,)
        group = next((part for part in parts if isinstance(part, From)), None)
        if group is not None:
            groups[p.name] = (group, parts[0])
            flat += group.flags()
        elif p.annotation is not Console:
            flat.append(p.replace(kind=p.KEYWORD_ONLY))

    def run(**given: Any) -> None:
        console = Console(Voice(**voice.collect(given)))
        with console.session():
            built: dict[str, Any] = {}
            for name, (group, kind) in groups.items():
                collected = group.collect(given)
                built[name] = kind(**collected) if isinstance(kind, type) and is_dataclass(kind) else collected
            command(console=console, **given, **built)

    flat += voice.flags()
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in flat}
    return run


def documented(source: Callable[..., Any]) -> dict[str, str]:
    """What a docstring says of each parameter: the clause that begins with its name in double backquotes.

    >>> def f(steps, rule):
    ...     '''Do it. ``steps``: how many; ``rule`` names the rule (two are known).'''
    >>> documented(f)
    {'steps': 'how many', 'rule': 'names the rule (two are known)'}
    """
    text = " ".join(inspect.cleandoc(source.__doc__ or "").split())
    said: dict[str, str] = {}
    for clause in re.split(r"(?<=[.;])\s+(?=(?:- )?``)|\s+- (?=``)", text):
        subject = re.search(r"(?:^|[.:] )(?:- )?((?:``\w+``(?:, | and )?)+)(.*)$", clause)
        if subject is None:
            continue
        rest = re.sub(r"``|^ (?:is|are) (?:the )?", "", subject[2]).strip(" :").rstrip(".;")
        for name in re.findall(r"``(\w+)``", subject[1]):
            said.setdefault(name, re.split(r"\. ", rest)[0])
    return said


def _one_type(hint: Any) -> Any:
    """The type of an annotation that has one beside None."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    kinds = [one for one in (typing.get_args(hint) if union else (hint,)) if one is not type(None)]
    return kinds[0] if len(kinds) == 1 else None
