"""Parts of the DiT that have two ways of being computed: both must say the same."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wfm_sim.models.checkpoint import fast_dtype
from wfm_sim.models.dit import block_causal_mask
from wfm_sim.models.dit_layers import linear, strip_attention


@pytest.mark.parametrize("rows", [4, 8, 12])
def test_attention_in_strips_equals_attention_under_the_whole_mask(rows: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 20, 8).unbind(0)
    allowed = block_causal_mask(5, 4, window=2)
    mask = torch.zeros(20, 20).masked_fill(~allowed, -1e9)
    strips = tuple(mask[a : a + rows, : min(a + rows, 20)] for a in range(0, 20, rows))
    whole = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    assert torch.allclose(strip_attention(q, k, v, strips), whole, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_long_sums_in_bfloat16_do_not_depend_on_the_number_of_rows(bias: bool) -> None:
    if fast_dtype() != torch.bfloat16:
        pytest.skip("no native bfloat16 on this CPU, so float32 is used")
    torch.manual_seed(0)
    layer = nn.Linear(1024, 256, bias=bias).to(torch.bfloat16)
    x = torch.randn(1024, 1024).to(torch.bfloat16)
    with torch.inference_mode():
        whole = linear(x, layer)
        assert all(torch.equal(linear(x[:n], layer), whole[:n]) for n in (1, 3, 64, 128, 192, 320, 1000))
        exact = F.linear(x.float(), layer.weight.float(), None if layer.bias is None else layer.bias.float())
    assert (whole - exact).abs().max() < 0.02
