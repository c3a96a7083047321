"""The fast 3x3 convolution against torch's, in float64 where it must be exact, and where it is chosen."""

import pytest
import torch
import torch.nn.functional as F

from wfm_sim.models import winograd
from wfm_sim.models.tokenizer_layers3d import CausalConv3d


@pytest.mark.parametrize(("height", "width", "strip"), [(2, 2, 512), (6, 10, 512), (12, 4, 5)])
def test_it_is_the_convolution(height: int, width: int, strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(winograd, "_STRIP", strip)
    monkeypatch.setattr(winograd, "_G", winograd._G.double())
    x, weight, bias = torch.randn(2, height, width, 5), torch.randn(3, 5, 3, 3), torch.randn(3)
    expected = F.conv2d(x.permute(0, 3, 1, 2).double(), weight.double(), bias.double(), padding=1)
    with torch.no_grad():
        got = winograd.conv3x3(x.double(), weight.double(), bias.double())
    assert torch.allclose(got.permute(0, 3, 1, 2), expected, atol=1e-12)


def test_it_is_chosen_for_wide_layers_without_gradients_and_changes_nothing_else() -> None:
    torch.manual_seed(0)
    layer = CausalConv3d(192, 200, (1, 3, 3), padding=1)
    x = torch.randn(2, 3, 16, 18, 192)
    assert not winograd.suits(x[0], layer.conv3d.weight[:, :, 0])  # gradients are wanted
    slow = layer(x).detach()
    with torch.no_grad():
        assert winograd.suits(x[0], layer.conv3d.weight[:, :, 0])
        fast = layer(x)
        assert not winograd.suits(x[0, :, :15], layer.conv3d.weight[:, :, 0])
    assert not torch.equal(fast, slow) and (fast - slow).abs().max() < 1e-5 * slow.abs().max()
