"""TorchScript and exported programs: differentiable black boxes without layers.

Loading such a file runs the code in it (TorchScript) or rebuilds a program from it: load only files you trust.
"""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from pellucid.core.errors import BadInput, Unreliable, Unsupported, listing
from pellucid.core.inputs import Inputs
from pellucid.core.model import Model
from pellucid.models.chunks import in_chunks
from pellucid.models.options import Options, calling, whole


class ExportedModel(Model):
    """A private copy of an exported module, called on ``least`` to ``most`` rows at a time."""

    differentiable = True

    def __init__(self, name: str, module: nn.Module, options: Options, least: int = 1, most: float = math.inf) -> None:
        self.name = name
        options.onto(self, "logit", settled=False)
        self._options, self._module, self._rows = options, module, (least, most)
        tensors = [*module.parameters(), *module.buffers()]
        self.device = options.device or (tensors[0].device if tensors else torch.device("cpu"))
        # A frozen module keeps its weights as constants, which cannot be asked for their type.
        self.dtype = next((t.dtype for t in tensors if t.dtype.is_floating_point), torch.get_default_dtype())

    def receiving(self, batch: Inputs) -> Self:
        twin = super().receiving(batch)
        if not batch.tensor.is_floating_point():
            twin.differentiable = False
            twin.no_gradient = ": x holds whole numbers (ids), and there is no step between two ids"
        return twin

    def layers(self) -> tuple[str, ...]:
        raise Unsupported(
            f"{self.name} is an exported black box without layers; wrap the nn.Module that it came from, "
            "or use saliency(), integrated_gradients() or feature_ablation()"
        )

    def __call__(self, x: Tensor) -> Any:
        x = self._options.prepared(x) if self.differentiable else whole(x, self.name, self._ids_dtype)
        with calling(self.name, x):
            return in_chunks(self._module, x, *self._rows)

    @property
    def _ids_dtype(self) -> torch.dtype:
        return torch.int64 if self.dtype is None or self.dtype.is_floating_point else self.dtype


def scripted(module: torch.jit.ScriptModule, options: Options) -> ExportedModel:
    """A TorchScript module, in eval mode on a private copy (which holds parameters of its own)."""
    name = str(getattr(module, "original_name", type(module).__name__))
    training = any(child.training for child in module.modules() if hasattr(child, "training"))
    if training:
        warnings.warn(
            f"{name} is in train mode; it is computed as in eval mode on a private copy. Call .eval() to say so "
            "yourself",
            Unreliable,
            stacklevel=3,
        )
    try:
        with torch.no_grad():  # else the copied parameters would hang on the user's
            twin = copy.deepcopy(module).eval()
    except Exception as error:
        raise BadInput(
            f"{name} (TorchScript) cannot be copied ({type(error).__name__}: {error}), so it cannot be explained "
            "without touching it; pass a function that calls it: wrap(lambda x: net(x))"
        ) from error
    if options.device is not None:
        twin = twin.to(options.device)
    model = ExportedModel(name, twin, options)
    model.was_training = training
    weighted = (child for child in twin.modules() if next(child.parameters(recurse=False), None) is not None)
    model.ids = getattr(next(weighted, None), "original_name", "") in ("Embedding", "EmbeddingBag")
    return model


def program(exported: torch.export.ExportedProgram, options: Options, name: str = "ExportedProgram") -> ExportedModel:
    """A program of torch.export, called on as many rows as it was exported for."""
    asked = exported.graph_signature.user_inputs
    inputs = [node for node in exported.graph.nodes if node.op == "placeholder" and node.name in asked]
    if len(inputs) != 1 or not isinstance(inputs[0].meta.get("val"), Tensor):
        raise BadInput(
            f"{name} takes {len(asked)} inputs {listing(asked)}; expected one tensor. "
            "Wrap a function that fills in the others: wrap(lambda x: program.module()(x, mask))"
        )
    if _trains(exported):
        raise BadInput(
            f"{name} was exported in train mode, or normalises by the statistics of the batch, so that rows change one "
            "another; export it again from eval mode: torch.export.export(net.eval(), ...)"
        )
    sample = inputs[0].meta["val"]
    rows = sample.shape[0] if sample.ndim else 0
    least: float
    most: float
    if isinstance(rows, int):
        least = most = rows
    else:
        limits = exported.range_constraints.get(rows.node.expr)
        least, most = (1, math.inf) if limits is None else (_bound(limits.lower), _bound(limits.upper))
        least = least if least > 2 else 1  # 2 is what export writes where it only sets 0 and 1 aside
    if most < 1:
        raise BadInput(f"{name} takes no batch: its input is a single number; export it with rows on the first axis")
    if options.device is not None:
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, options.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, about its own
        twin = copy.deepcopy(exported.module()).requires_grad_(False)
    model = ExportedModel(name, twin, options, int(least), most)
    model.dtype = sample.dtype
    return model


def load_script(path: Path, options: Options) -> ExportedModel:
    """A TorchScript file (*.pt). Loading runs the code in it: load only files you trust."""
    try:
        module = torch.jit.load(str(path), map_location=options.device or "cpu")
    except (RuntimeError, ValueError) as error:
        raise BadInput(
            f"wrap: {str(path)!r} is not a TorchScript file ({_line(error)}); if it holds weights, "
            "load them into your nn.Module and wrap that"
        ) from error
    return scripted(module, options)


def load_program(path: Path, options: Options) -> ExportedModel:
    """A file of torch.export.save (*.pt2). Load only files you trust."""
    import logging
    import zipfile

    if not zipfile.is_zipfile(path):
        raise BadInput(f"wrap: {str(path)!r} is not a file of torch.export.save (no archive); export the model again")
    logger = logging.getLogger("torch.export")
    silent, logger.disabled = logger.disabled, True  # it would print the traceback that the error carries anyway
    try:
        exported = torch.export.load(path)
    except Exception as error:
        raise BadInput(
            f"wrap: {str(path)!r} is not a file of torch.export.save, or of another version ({_line(error)}); "
            "export the model again"
        ) from error
    finally:
        logger.disabled = silent
    return program(exported, options, path.stem)


def _trains(exported: torch.export.ExportedProgram) -> bool:
    """Whether an operation of the program was told that it is training (dropout, batch norm)."""
    for node in exported.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for argument, value in zip(schema.arguments if schema is not None else (), node.args, strict=False):
            if argument.name in ("train", "training") and value is True:
                return True
    return False


def _bound(limit: Any) -> float:
    try:
        return float(limit)
    except (TypeError, OverflowError):
        return math.inf


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:120] or type(error).__name__
