"""Plücker rays."""

import torch

from wfm_sim.models.plucker import plucker_rays, ray_tokens, rays

FOCAL = torch.tensor([80.0, 82.0, 48.0, 32.0])


def _pose() -> torch.Tensor:
    """A world-to-camera pose [3, 4]: turned about a slanted axis and moved."""
    axis = torch.tensor([[0.0, -0.3, 0.2], [0.3, 0.0, -0.5], [-0.2, 0.5, 0.0]])
    return torch.cat((torch.linalg.matrix_exp(axis), torch.tensor([[0.4], [-0.7], [1.1]])), dim=1)


def test_a_point_on_a_ray_is_seen_at_the_pixels_centre() -> None:
    w2c = _pose()
    centre, directions = rays(FOCAL, w2c, (64, 96))
    row, column = 13, 71
    seen = w2c[:, :3] @ (centre + 2.5 * directions[row, column]) + w2c[:, 3]
    u, v = FOCAL[:2] * seen[:2] / seen[2] + FOCAL[2:]
    assert torch.allclose(torch.stack((u, v)), torch.tensor([column + 0.5, row + 0.5]), atol=1e-3)
    assert torch.allclose(w2c[:, :3] @ centre + w2c[:, 3], torch.zeros(3), atol=1e-6)


def test_the_moment_is_that_of_any_point_of_the_ray() -> None:
    w2c = _pose()
    direction, moment = plucker_rays(FOCAL, w2c, (64, 96), "direction-moment").chunk(2, dim=-1)
    centre, _ = rays(FOCAL, w2c, (64, 96))
    point = centre + 3 * direction
    assert torch.allclose(torch.linalg.cross(point, direction), moment, atol=1e-5)
    assert torch.allclose(direction.norm(dim=-1), torch.ones(64, 96))
    other = plucker_rays(FOCAL, w2c, (64, 96), "moment-direction")
    assert torch.equal(other, torch.cat((moment, direction), dim=-1))


def test_a_token_holds_the_rays_of_its_own_pixels_row_by_row() -> None:
    pixels = torch.randn(2, 3, 8, 12, 6)
    tokens = ray_tokens(pixels, 4)
    assert tokens.shape == (2, 3, 6, 96)
    assert torch.equal(tokens[1, 2, 4].view(4, 4, 6), pixels[1, 2, 4:8, 4:8])
