"""The table of addresses by which `folded` tells `folded_loops` what is left of a model: a line a layer."""

# Columns of a sublayer, addresses and counts; the MLP's begin at MLP.
# What it reads: whether it acts at all, how many channels of the normed stream and which, the norm's weight and bias,
# the normed position channels [positions, d_position], their share of each row computed [channels, rows], and the rest
# of it [rows].
ACTS, READS, READ, NORM, NORM_BIAS, POSITIONS, SPREAD, BASE = range(8)
# What it writes: how many channels and which; and for all channels what those held bring [d_model].
WRITES, WRITTEN, HELD = 8, 9, 10
# Where what removed nodes become differs from place to place (`Table.starts`), lines of BASE and HELD above and of
# Q_HELD, K_HELD, V_HELD, REST and MLP_REST below lie behind each other, one a place, as of a model without kept nodes.
# What kept ones would be there is told apart: channels read, and what goes into the second matrix (v mixed by attention
# or neurons). Then the edges that are cut: how many, their rows and inputs, their weights and what they carry.
READ_THERE, IN_CUTS, IN_CUT_ENDS, IN_CUT_VALUES = 26, 27, 28, 29
OUT_THERE, OUT_CUTS, OUT_CUT_ENDS, OUT_CUT_VALUES = 30, 31, 32, 33
MLP = 40
# Of attention: kept channels of q, k and v (count, which); their values when held [width]; the heads that are not
# constant (count, which); each head's sink logit; what the constant values of such a head bring when all its weight is
# on keys [heads, d_model]; the v channels to be mixed, kept ones or, place by place, all of such heads (count, which);
# what each of those brings [channels, d_model]; all else by position [T, d_model].
Q, K, V = 11, 13, 15
Q_HELD, K_HELD, V_HELD = 17, 18, 19
HEADS, HEAD, SINK, HEAD_BRINGS, VALUE_BRINGS, REST = 20, 21, 22, 23, 24, 25
MIXES, MIXED = 34, 35
# Of the MLP: kept neurons (count, which); all neurons where nothing is read that is not zero [mlp]; what each kept
# neuron brings [neurons, d_model]; all else [d_model].
NEURONS, NEURON, AT_REST, NEURON_BRINGS, MLP_REST = MLP + 11, MLP + 12, MLP + 13, MLP + 14, MLP + 15
COLUMNS = 80
