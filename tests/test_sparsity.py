"""Sparse activations, sparse weights and the schedules."""

import torch

from sparse_circuits.sparsity import abs_topk


def test_keeps_the_k_largest_magnitudes_of_each_row() -> None:
    x = torch.tensor([[1.0, -3.0, 2.0, 0.5], [0.0, 0.0, 0.0, -1.0]])
    assert abs_topk(x, 2).tolist() == [[0.0, -3.0, 2.0, 0.0], [0.0, 0.0, 0.0, -1.0]]
