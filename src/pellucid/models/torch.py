"""nn.Module behind the model contract: a private replica that shares parameters, preprocessing as data, layers by
name."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from pellucid.core.errors import BadInput, Unreliable, Unsupported, listing
from pellucid.core.inputs import Inputs
from pellucid.core.model import Model, Tape, axis_names
from pellucid.models.folding import folded
from pellucid.models.options import Options, calling, whole

# Entries up to which a buffer is copied before every call: batch norm changes its own without counting a version.
_SMALL = 2**16
_COPYING = (
    *("__deepcopy__", "__new__", "__reduce__", "__reduce_ex__"),
    *("__getstate__", "__getnewargs__", "__getnewargs_ex__"),
)
_ATOMS = (type(None), bool, int, float, str)


class TorchModel(Model):
    """An nn.Module, any device, any mode, frozen or not; the module itself is never called, hooked or changed."""

    differentiable = True

    def __init__(self, module: nn.Module, options: Options) -> None:
        module = getattr(module, "_orig_mod", module)  # what torch.compile wrapped: hooks need the module itself
        self.name = type(module).__name__
        options.onto(self, "logit", settled=False)
        self._options = options
        tensors = [*module.parameters(), *module.buffers()]
        refuse_unready(module, tensors)
        home = tensors[0].device if tensors else torch.device("cpu")
        self.device = options.device or home
        self.dtype = next((t.dtype for t in tensors if t.dtype.is_floating_point), None)
        self.was_training = any(child.training for child in module.modules())
        if self.was_training:
            warnings.warn(
                f"{self.name} is in train mode; it is computed as in eval mode on a private replica. Call "
                ".eval() to say so yourself",
                Unreliable,
                stacklevel=4,
            )
        self._replica: nn.Module = replica(module, share=self.device == home).to(self.device)
        self._buffers = Buffers(self._replica, module)
        self._first = _first_weighted(self._replica)
        self.ids = isinstance(self._first, (nn.Embedding, nn.EmbeddingBag))
        self._named = _named_outputs(module)

    def receiving(self, batch: Inputs) -> Self:
        twin = super().receiving(batch)
        if not batch.tensor.is_floating_point():
            twin.differentiable = False
            twin.no_gradient = (
                ": x holds ids, and there is no step between two ids; explain their embeddings instead, such as "
                "wrap(lambda e: net(inputs_embeds=e), axis=-1) at e = net.get_input_embeddings()(x)"
            )
        return twin

    def seeing(self, outputs: Tensor) -> Self:
        twin = super().seeing(outputs)
        if twin.labels is None and self._named is not None and len(self._named) == outputs.shape[1]:
            twin.labels = self._named
        return twin

    def __call__(self, x: Tensor) -> Any:
        x = self._options.prepared(x) if self.differentiable else whole(x, self.name)
        self._buffers.renew()
        with calling(self.name, x):
            return self._replica(x)

    def layers(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._replica.named_modules() if name)

    def batch_norms(self) -> tuple[str, ...]:
        norms = nn.modules.batchnorm._BatchNorm
        return tuple(n for n, m in self._replica.named_modules() if isinstance(m, norms) and m.running_mean is None)

    def submodule(self, layer: str) -> nn.Module:
        """The replica's module of this name."""
        modules: dict[str, nn.Module] = dict(self._replica.named_modules())
        if layer not in modules or not layer:
            raise BadInput(f"layer {layer!r} not found; have {listing(self.layers())}")
        return modules[layer]

    def layer_kind(self, layer: str) -> str | None:
        module = self.submodule(layer)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return "convolution"
        return "norm" if "norm" in type(module).__name__.lower() else None  # models bring norms of their own

    def affine(self, layer: str) -> tuple[Tensor, Tensor | None] | None:
        module = self.submodule(layer)
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if not isinstance(weight, Tensor) or weight.ndim == 0:
            return None
        return weight, bias if isinstance(bias, Tensor) else None

    @contextmanager
    def capture(self, *layers: str) -> Iterator[Tape]:
        tape = Tape()

        def recorder(layer: str) -> Any:
            def record(_module: nn.Module, _inputs: Any, output: Any) -> Any:
                value = output[0] if isinstance(output, (tuple, list)) and output else output
                tape.values.pop(layer, None)
                if not isinstance(value, Tensor):
                    return None
                kept = value.clone()
                if torch.is_grad_enabled() and not kept.requires_grad and kept.is_floating_point():
                    kept.requires_grad_()
                tape.values[layer] = kept
                # The model goes on with a copy, so that no operation in place (nn.ReLU(inplace=True)) changes
                # the kept one.
                return kept.clone() if value is output else _with_first(output, kept.clone())

            return record

        handles = [self.submodule(layer).register_forward_hook(recorder(layer)) for layer in layers]
        try:
            yield tape
        finally:
            for handle in handles:
                handle.remove()

    def entered(self, layer: str, z: Tensor, x: Tensor) -> Any:
        def put(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            value = z.clone()  # an operation in place goes on with the copy
            return _with_first(output, value) if isinstance(output, (tuple, list)) and output else value

        handle = self.submodule(layer).register_forward_hook(put)
        try:
            return self(x)
        finally:
            handle.remove()

    def fast(self, x: Tensor) -> Model:
        """A copy with BatchNorm folded into convolutions and channels-last memory; this model where that changes
        nothing."""
        self._buffers.renew()
        module = folded(self._replica, self._options.prepared(x[:1]))
        if module is None:
            return self
        quick = copy.copy(self)
        quick._replica, quick.folded, quick._buffers = module, True, Buffers(module, module)
        return quick

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in [*self._replica.named_parameters(), *self._replica.named_buffers()]:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:32]

    def weighted(self) -> tuple[str, ...]:
        names = tuple(
            name
            for name, m in self._replica.named_modules()
            if hasattr(m, "reset_parameters") and next(m.parameters(recurse=False), None) is not None
        )
        if not names:
            raise Unsupported(f"{self.name} has no layer that can draw its weights afresh")
        return names

    def randomised(self, seed: int, layers: Sequence[str] | None = None) -> Model:
        self._buffers.renew()
        module = copy.deepcopy(self._replica)
        weighted, modules = self.weighted(), dict(module.named_modules())
        chosen = weighted[-1:] if layers is None else layers
        unknown = [name for name in chosen if name not in weighted]
        if unknown:
            raise BadInput(f"layer {unknown[0]!r} cannot draw its weights afresh; have {listing(weighted)}")
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            for name in chosen:
                reset: Any = modules[name]
                reset.reset_parameters()
        other = copy.copy(self)
        other._replica, other._buffers = module, Buffers(module, module)
        return other

    def dims(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        if not self.differentiable and len(shape) == 1:
            return ("token",)
        if len(shape) == 2 and isinstance(self._first, nn.Conv2d):
            return ("height", "width")
        if len(shape) == 2:
            return ("channel", "time") if isinstance(self._first, nn.Conv1d) else ("token", "embedding")
        return axis_names(shape, self.axis)


def replica(module: nn.Module, share: bool = True) -> nn.Module:
    """A copy in eval mode of every module object that reads the original's parameters (or its own) but never needs
    their gradients, which saves memory; buffers are its own, since a forward pass may write to them."""
    with torch.inference_mode(False):
        return _replica(module, share)


def _replica(module: nn.Module, share: bool) -> nn.Module:
    memo: dict[int, Any] = {}
    for child in module.modules():
        # What a forward pass left on the module (activations, attention maps) has a history that cannot be copied.
        memo |= {id(tensor): tensor.detach().clone() for tensor in _tensors(vars(child)) if not tensor.is_leaf}
        # A module has a dozen empty dicts of hooks, which copy.deepcopy is slow at.
        memo |= {id(each): OrderedDict() for each in vars(child).values() if type(each) is OrderedDict and not each}
    if share:
        memo |= {id(parameter): _alias(parameter) for parameter in module.parameters()}
    try:
        _copy_plain(module, memo)
        twin = copy.deepcopy(module, memo)
    except Exception as error:
        raise BadInput(
            f"{type(module).__name__} cannot be copied ({type(error).__name__}: {error}), so it cannot be "
            "explained without touching it; "
            "pass a function that calls it: wrap(lambda x: net(x))"
        ) from error
    for child in twin.modules():
        # Forward hooks can be part of what the model computes (weight norm, steering); a backward hook would
        # only change its gradient.
        child._backward_hooks.clear()
        child._backward_pre_hooks.clear()
    twin.eval()
    return twin if share else twin.requires_grad_(False)


def _copy_plain(module: nn.Module, memo: dict[int, Any]) -> None:
    """Copies of all modules without a way of their own of being copied, into ``memo``: what copy.deepcopy would make of
    them, in a third of its time."""
    plain = [child for child in module.modules() if _is_plain(type(child))]
    for child in plain:
        memo[id(child)] = object.__new__(type(child))
    for child in plain:
        vars(memo[id(child)]).update(
            (name, value if type(value) in _ATOMS else copy.deepcopy(value, memo))
            for name, value in vars(child).items()
        )


def _is_plain(kind: Any) -> bool:
    """Whether a class of modules leaves to Python and to nn.Module how it is copied."""
    same = all(getattr(kind, name, None) is getattr(object, name, None) for name in _COPYING)
    return same and kind.__setstate__ is nn.Module.__setstate__


class Buffers:
    """The buffers of a replica, renewed from the user's module before every call.

    So a forward pass that writes to a buffer finds it as the user left it, every time, and a running mean that goes on
    being trained is seen.
    """

    def __init__(self, twin: nn.Module, module: nn.Module) -> None:
        pairs = zip(twin.modules(), module.modules(), strict=True) if twin is not module else ()
        self._places = [(mine._buffers, theirs._buffers, name) for mine, theirs in pairs for name in theirs._buffers]
        self._seen = [self._versions(*place) for place in self._places]

    def renew(self) -> None:
        """Copy the small ones, and the large ones that have changed."""
        for i, (mine, theirs, name) in enumerate(self._places):
            source = theirs.get(name)
            if source is None or (source.numel() > _SMALL and self._versions(mine, theirs, name) == self._seen[i]):
                continue
            old = mine.get(name)
            # A new tensor, not new numbers in the old one, which the graph of an earlier call may hold.
            mine[name] = source.detach().clone().to(source.device if old is None else old.device)
            self._seen[i] = self._versions(mine, theirs, name)

    @staticmethod
    def _versions(*place: Any) -> list[tuple[int, int]]:
        mine, theirs, name = place
        both = (mine.get(name), theirs.get(name))
        return [(id(t), -1 if t.is_inference() else t._version) for t in both if t is not None]


def refuse_unready(module: nn.Module, tensors: list[Tensor]) -> None:
    """Raise ``BadInput`` for a module whose weights are not there yet, or that is not one to itself."""
    name = type(module).__name__
    if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):
        raise BadInput(
            f"{name} is the module of an ExportedProgram, which has no modes; pass the ExportedProgram itself"
        )
    if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise BadInput(
            f"{name} has lazy parameters, which get their shapes at the first call; "
            "call it once on a batch before wrapping it"
        )
    if any(tensor.device.type == "meta" for tensor in tensors):
        raise BadInput(f"{name} has parameters on the meta device, which hold no numbers; load its weights first")


def _named_outputs(module: nn.Module) -> tuple[str, ...] | None:
    """The class names a Hugging Face model carries, unless they are mere numbers."""
    names = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(names, dict) or any(str(name).startswith("LABEL_") for name in names.values()):
        return None
    return tuple(str(name) for _, name in sorted(names.items()))


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _tensors(entry)


def _alias(parameter: nn.Parameter) -> nn.Parameter:
    """The same numbers in the same memory, without a gradient; parameters of other classes know things we do not."""
    if type(parameter) is not nn.Parameter:
        return parameter
    # One made in inference mode could not take part in a graph.
    numbers = parameter.detach().clone() if parameter.is_inference() else parameter.detach()
    return nn.Parameter(numbers, requires_grad=False)


def _with_first(output: Any, first: Tensor) -> Any:
    every = (first, *output[1:])
    return type(output)(*every) if hasattr(output, "_fields") else type(output)(every)


def _first_weighted(module: nn.Module) -> nn.Module | None:
    return next((m for m in module.modules() if next(m.parameters(recurse=False), None) is not None), None)
