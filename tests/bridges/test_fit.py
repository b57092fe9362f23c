"""Fitted maps are those of least squares."""

import torch
from small_bridges import identity, model, tokens, unlike

from sparse_circuits.bridges.fit import fit_maps_
from sparse_circuits.bridges.passes import nmse


def test_between_equal_models_they_change_nothing() -> None:
    bridge = identity(model())
    with torch.no_grad():
        for parameter in bridge.maps.parameters():
            parameter.normal_()
    fit_maps_(bridge, [tokens(4, 20, seed) for seed in range(3)])
    for site in bridge.sites:
        h = bridge.dense.residual(tokens(2, 20, 9), site)
        torch.testing.assert_close(bridge.encode(site, h), h, atol=0.02, rtol=0.02)
        torch.testing.assert_close(bridge.decode(site, h), h, atol=0.02, rtol=0.02)


@torch.no_grad()
def test_they_are_the_regressions_of_each_stream_on_the_other() -> None:
    bridge = unlike(topk=None)
    batches = [tokens(4, 20, seed) for seed in range(3)]
    fit_maps_(bridge, batches)
    for site in bridge.sites:
        h_d, h_s = (torch.cat([m.residual(b, site) for b in batches]) for m in (bridge.dense, bridge.sparse))
        for guess, source, target in ((bridge.encode(site, h_d), h_d, h_s), (bridge.decode(site, h_s), h_s, h_d)):
            x = torch.cat([source, torch.ones_like(source[..., :1])], dim=2).flatten(0, 1).double()
            best = x @ torch.linalg.lstsq(x, target.flatten(0, 1).double()).solution
            least = nmse(best.view(target.shape), target)
            torch.testing.assert_close(nmse(guess, target), least, atol=1e-3, rtol=1e-3)
