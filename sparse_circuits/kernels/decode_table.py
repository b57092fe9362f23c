"""The table of addresses by which `decode` tells `decode_loops` where everything lies: a line a layer, and one more."""

# Columns. Norms: weight, bias; matrices, as columns of nonzeros: start, row, value, finite, bias.
NORM_1, NORM_2, NORM_P1, NORM_P2 = 0, 2, 4, 6
C_ATTN, ATTN_PROJ, C_FC, MLP_PROJ = 8, 13, 18, 23
SINK, KEYS, VALUES, ODD = 28, 29, 30, 31
COLUMNS = 32
# Places of AbsTopK, in the order of `config.ABS_TOPK_SITES`.
ATTN_IN, Q, K, V, ATTN_OUT, MLP_IN, NEURON, MLP_OUT, POST_ATTN, POST_MLP = range(10)
PLACES = 10
NO_POSITIONS, LEARNED, CONCATENATED = range(3)
