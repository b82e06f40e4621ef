"""Tensor parallelism: heads and hidden widths of a layer over ranks, by a plan made of the model's structure."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ParallelStyle, parallelize_module

from hanok.core.errors import UsageError
from hanok.nn.experts import ExpertLinear
from hanok.nn.ffn.base import Dense
from hanok.nn.linear import Linear
from hanok.nn.mixer.gqa import GQA
from hanok.nn.position.none import NoPosition
from hanok.nn.position.rope import RoPE
from hanok.train.parallel.experts import narrow

Plan = dict[str, ParallelStyle]


class Entry(ParallelStyle):
    """The input of a part, alike on all ranks; the gradients that its products send back are summed once."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        module.register_forward_pre_hook(lambda _, args: (_alike(args[0], device_mesh), *args[1:]))
        return module


class Columns(ParallelStyle):
    """Outputs of a Linear over ranks: y_r = x W_r^T, W_r the rows of W that belong to rank r."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        _split(module, device_mesh, weight=0, bias=0)
        module.register_forward_pre_hook(lambda _, args: (_alike(args[0], device_mesh),))
        module.register_forward_hook(lambda _, args, output: output.to_local())
        return module


class Rows(ParallelStyle):
    """Inputs of a Linear over ranks: y = sum_r x_r W_r^T + b, W_r the columns of W that belong to rank r."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        split, whole = [Shard(-1)], [Replicate()]
        _split(module, device_mesh, weight=1, bias=None)
        module.register_forward_pre_hook(lambda _, args: (DTensor.from_local(args[0], device_mesh, split),))
        module.register_forward_hook(lambda _, args, output: output.redistribute(device_mesh, whole).to_local())
        return module


class HiddenOfExperts(ParallelStyle):
    """The hidden width of stacked experts over ranks: every rank computes a part of every expert."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        assert isinstance(module, Dense)
        *_, down = module.products
        for name in module.products:
            _split(module.get_submodule(name), device_mesh, weight=2 if name == down else 1, bias=1)
        narrow(module, device_mesh.get_group(), by="hidden")
        return module


def split_tensor(model: nn.Module, mesh: DeviceMesh, *, experts: bool = True) -> list[str]:
    """Divide what can be divided over a mesh of one axis; return the parameters whose gradients are partial sums.

    Attention is divided by heads, a dense feed-forward network by its hidden width, experts likewise. What is not
    known to be divisible (other mixers, embeddings, norms; experts, if asked) every rank computes whole, and all alike.
    """
    ranks, plan, partial = mesh.size(), Plan(), list[str]()
    for name, module in model.named_modules():
        if isinstance(module, GQA) and by_heads(module):
            plan |= _attention(name, module, ranks)
            partial += [f"{name}.{norm}.{key}" for norm, key in _head_norms(module)]
        elif isinstance(module, Dense) and (experts or not _stacked(module)):
            plan |= _feed_forward(name, module, ranks)
    if not plan:
        raise UsageError("parallel.tensor: this model has no attention by heads and no feed-forward network to divide")
    parallelize_module(model, mesh, plan)
    for module in model.modules():
        if isinstance(module, GQA) and by_heads(module):
            module.heads, module.kv_heads = module.heads // ranks, module.kv_heads // ranks
    return partial


def by_heads(mixer: GQA) -> bool:
    """Return whether nothing in this attention but its projections knows how many heads there are."""
    normed_by_head = mixer.q_norm is None or mixer.config.qk_norm_over == "head"
    plain = mixer.sinks is None and mixer.q_gain is None
    return isinstance(mixer.position, RoPE | NoPosition) and plain and normed_by_head


def _attention(name: str, mixer: GQA, ranks: int) -> Plan:
    for what, count in (("heads", mixer.heads), ("key heads", mixer.kv_heads)):
        if count % ranks:
            raise UsageError(
                f"parallel.tensor: {name} has {count} {what}, which {ranks} ranks cannot share evenly; "
                f"tensor must divide {mixer.heads} heads and {mixer.kv_heads} key heads"
            )
    return {name: Entry(), **{f"{name}.{part}": Columns() for part in "qkv"}, f"{name}.o": Rows()}


def _feed_forward(name: str, network: Dense, ranks: int) -> Plan:
    *first, last = network.products
    out = network.get_submodule(last)
    assert isinstance(out, Linear)
    if out.inputs % ranks:
        raise UsageError(
            f"parallel.tensor: {name} has a hidden width of {out.inputs}, which {ranks} ranks cannot share evenly"
        )
    if isinstance(out, ExpertLinear):
        if out.bias is not None:
            raise UsageError(f"parallel.tensor: {name} has experts with biases, which are not divided; use expert")
        return {name: HiddenOfExperts()}
    return {name: Entry(), **{f"{name}.{part}": Columns() for part in first}, f"{name}.{last}": Rows()}


def _stacked(network: Dense) -> bool:
    return isinstance(network.get_submodule(network.products[0]), ExpertLinear)


def _head_norms(mixer: GQA) -> list[tuple[str, str]]:
    norms = {"q_norm": mixer.q_norm, "k_norm": mixer.k_norm}
    return [(name, key) for name, norm in norms.items() if norm is not None for key, _ in norm.named_parameters()]


def _alike(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """Return x as a tensor of the mesh that every rank holds whole; the gradient of it is summed."""
    return x if isinstance(x, DTensor) else DTensor.from_local(x, mesh, [Replicate()], run_check=False)


def _split(module: nn.Module, mesh: DeviceMesh, **dims: int | None) -> None:
    """Replace parameters by their shards along the dims given by name (None: whole on each rank).

    Every rank holds the same whole values before, so that nothing is sent.
    """
    for name, parameter in list(module.named_parameters(recurse=False)):
        dim = dims[name]
        place: Any = Replicate() if dim is None else Shard(dim)
        shard = distribute_tensor(parameter.detach(), mesh, [place], src_data_rank=None)
        module.register_parameter(name, nn.Parameter(shard, requires_grad=parameter.requires_grad))
