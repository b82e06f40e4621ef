import copy

import pytest
import torch

from hanok.compress.apply import layer_errors, linears, quantized
from hanok.compress.quantize import QUANTIZERS
from hanok.core.errors import UsageError
from hanok.model.config import ModelConfig
from hanok.model.model import Model
from hanok.model.size import stored
from hanok.model.weights import load_model, save_model
from hanok.nn.linear import Linear, rounded


def quantizer(name):
    return QUANTIZERS[name](QUANTIZERS[name].Config())


def a_linear(weight):
    linear = Linear(weight.shape[1], weight.shape[0])
    linear.weight.data.copy_(weight)
    return linear


KNOWN = {
    "identity": torch.eye(16),
    "zeros": torch.zeros(4, 8),
    "ramp": torch.arange(-32, 32).float().view(4, 16),
    "one spike": torch.full((3, 64), 1e-3).index_fill_(1, torch.tensor([5]), 40.0),
    "rows of different size": torch.logspace(-6, 6, 24).view(24, 1) * torch.linspace(-1, 1, 33),
    "noise": torch.randn(48, 80, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_int8_error_is_at_most_half_a_step(name):
    weight = KNOWN[name]
    packed = quantizer("int8").pack(a_linear(weight))
    scale = weight.abs().amax(1, keepdim=True) / 127
    error = (packed.unpacked().detach() - weight).abs()
    assert bool((error <= scale / 2 * (1 + 1e-5)).all())
    assert packed.weight.dtype == torch.int8 and int(packed.weight.abs().max()) <= 127


def test_a_shared_scale_breaks_the_bound():
    """Control: one scale for the whole matrix, instead of one per row, leaves small rows with nothing."""
    weight = KNOWN["rows of different size"]
    scale = weight.abs().max() / 127
    error = ((weight / scale).round() * scale - weight).abs()
    assert not bool((error <= weight.abs().amax(1, keepdim=True) / 127 / 2).all())


def test_what_is_on_the_grid_stays():
    packed = quantizer("int8").pack(a_linear(torch.arange(-127, 128).float().view(1, -1).repeat(3, 1)))
    assert torch.equal(packed.unpacked(), torch.arange(-127, 128).float().view(1, -1).repeat(3, 1))


@pytest.mark.parametrize("kind", sorted(QUANTIZERS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_product_is_the_unpacked_product(kind, dtype):
    linear = a_linear(KNOWN["noise"]).to(dtype)
    packed = quantizer(kind).pack(linear)
    x = torch.randn(7, 80, generator=torch.Generator().manual_seed(1)).to(dtype)
    plain = a_linear(packed.unpacked().detach().float()).to(dtype)
    plain.weight.data = packed.unpacked().detach().to(dtype)
    if kind == "int4":  # which rounds its rows, too
        want = (rounded(x) @ packed.unpacked().t()).to(dtype)
        assert torch.equal(packed(x), want) and not torch.equal(want, plain(x))
    else:
        assert torch.equal(packed(x), plain(x))
    assert torch.equal(linear.weight, KNOWN["noise"].to(dtype))  # the original is untouched


@pytest.fixture(scope="module", params=["llama-tiny", "griffin-tiny"])
def model(request):
    return Model(ModelConfig.preset(request.param, vocab=96, dim=64), seed=3)


TOKENS = [list(range(1, 40)), list(range(90, 20, -1))]


def test_every_linear_but_the_kept_is_packed(model):
    packed = quantized(model, quantizer("int8"))
    kinds = {name: module.kind for name, module in linears(packed).items()}
    assert kinds.pop("head") == "dense"
    assert set(kinds.values()) == {"int8"}
    assert {module.kind for module in linears(model).values()} == {"dense"}
    first = next(iter(kinds))
    assert linears(quantized(model, quantizer("int8"), keep=("head", "blocks.0.*")))[first].kind == "dense"


def test_reloaded_equals_in_memory(model, tmp_path):
    packed = quantized(model, quantizer("int8"))
    save_model(packed, tmp_path)
    again = load_model(tmp_path)
    for name, tensor in stored(packed).items():
        assert torch.equal(stored(again)[name], tensor), name
    tokens = torch.tensor([TOKENS[0]])
    with torch.no_grad():
        assert torch.equal(again(tokens), packed(tokens))


def test_errors_per_layer_are_those_of_the_definition(model):
    packed = quantized(model, quantizer("int8"))
    rows = {row.name: row for row in layer_errors(model, packed, TOKENS)}
    assert set(rows) == {name for name, module in linears(packed).items() if module.kind == "int8"}
    for name, row in rows.items():
        old, new = linears(model)[name], linears(packed)[name]
        assert row.weight_error == pytest.approx(
            float((new.unpacked() - old.weight).detach().norm() / old.weight.detach().norm()), rel=1e-4
        )
        assert 0 < row.weight_error < 0.02 and row.output_error is not None and 0 < row.output_error < 0.05
        assert row.bytes_after < 0.3 * row.bytes_before
    seen = []
    name, module = next(iter(linears(model).items()))
    handle = module.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        for sequence in TOKENS:
            model(torch.tensor([sequence]))
        x, y = (torch.cat([pair[i] for pair in seen], 1) for i in (0, 1))
        expected = float(torch.linalg.norm(linears(packed)[name](x) - y) / torch.linalg.norm(y))
    handle.remove()
    assert rows[name].output_error == pytest.approx(expected, rel=1e-5)


def test_without_calibration_no_output_error_is_claimed(model):
    assert all(row.output_error is None for row in layer_errors(model, quantized(model, quantizer("int8"))))


def test_users_mistakes(model):
    with pytest.raises(UsageError, match="fits no linear of this model"):
        quantized(model, quantizer("int8"), keep=("haed",))
    tied = Model(model.config.model_copy(update={"embeddings": "tied"}), seed=0)
    with pytest.raises(UsageError, match="add 'head' to keep"):
        quantized(tied, quantizer("int8"), keep=())
    assert copy.deepcopy(tied).head.weight.shape == (96, 64)


def test_tied_embeddings_survive_a_round_trip(model, tmp_path):
    tied = Model(model.config.model_copy(update={"embeddings": "tied"}), seed=0)
    packed = quantized(tied, quantizer("int8"))
    assert packed.head.weight is packed.embed.weight
    save_model(packed, tmp_path)
    tokens = torch.tensor([TOKENS[1]])
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(tokens), packed(tokens))
