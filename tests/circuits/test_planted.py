"""On the model whose circuit is written out, pruning returns exactly that circuit."""

from dataclasses import replace

import planted
import pytest

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.config import PruneConfig
from sparse_circuits.circuits.prune import GivenUp, prune


def found(config: PruneConfig) -> Circuit:
    model = planted.model()
    return prune(model, planted.task(), config=config, means=planted.means(model))


def test_the_planted_nodes_and_edges_come_back() -> None:
    circuit = found(planted.CONFIG)
    assert circuit.nodes == planted.NODES
    assert {(edge.source, edge.target) for edge in circuit.edges} == planted.EDGES
    assert set(circuit.dropped) == planted.SUPERFLUOUS
    for split in ("calibrate", "report", "ood"):
        assert circuit.found["losses"][split]["model"] < 0.05
        assert circuit.loss(split) == circuit.found["losses"][split]["circuit"] < 0.1
    assert circuit.found["sizes"]["cleaned_edges"] == len(planted.EDGES) + len(planted.SUPERFLUOUS)


def test_without_edge_search_the_superfluous_weights_stay() -> None:
    circuit = found(replace(planted.CONFIG, drop_edges=False))
    assert circuit.nodes == planted.NODES
    assert {(edge.source, edge.target) for edge in circuit.edges} == planted.EDGES | planted.SUPERFLUOUS


def test_held_at_zero_the_query_belongs_to_it_too() -> None:
    """At zero, unlike at its mean, query 0 asks nothing."""
    circuit = found(replace(planted.CONFIG, ablation="zero"))
    assert circuit.nodes == planted.NODES | {"0.attn.act_in": (0, 1, 2), "0.attn.q": (0,)}
    query = (("0.attn.act_in", 2), ("0.attn.q", 0))
    assert {(edge.source, edge.target) for edge in circuit.edges} == planted.EDGES | {query}


@pytest.mark.parametrize(
    "settings",
    [
        {"restore": "random", "restore_fraction": 0.1},
        {"restore": "adversarial", "restore_fraction": 0.1},
        {"final_norm": "frozen", "k_rate": 0.1, "runs": 2},
    ],
    ids=["random", "adversarial", "others"],
)
def test_with_other_settings_too(settings: dict) -> None:
    circuit = found(replace(planted.CONFIG, **settings))
    assert circuit.nodes == planted.NODES
    assert {(edge.source, edge.target) for edge in circuit.edges} == planted.EDGES


def test_resampling_keeps_what_the_means_do_not_show() -> None:
    """Another prompt's query asks the same and its decoys do the same: resampled, the circuit is the same too."""
    circuit = found(replace(planted.CONFIG, ablation="resample"))
    assert circuit.nodes == planted.NODES
    assert circuit.loss("report") < 0.1


def test_tied_masks_keep_the_query_beside_its_key() -> None:
    """With one mask for q and k both are kept at first; cleaning then sees that the query is not needed."""
    tied = found(replace(planted.CONFIG, tie_qk=True, clean=False))
    assert tied.scores is not None
    q, k = (tied.scores[tied.space.slices[f"0.attn.{name}"]] for name in "qk")
    assert q.tolist() == k.tolist()
    assert found(replace(planted.CONFIG, tie_qk=True)).nodes == planted.NODES


def test_a_calibrated_target_needs_less() -> None:
    """Which quote it was still shows in one neuron alone, and without attention: not strongly, but surely."""
    circuit = found(replace(planted.CONFIG, calibrated=True, target_loss=0.15))
    assert circuit.loss("calibrate", calibrated=True) <= 0.15 < circuit.loss("calibrate")
    assert circuit.size < sum(map(len, planted.NODES.values()))
    assert all(set(channels) <= set(planted.NODES[site]) for site, channels in circuit.nodes.items())


def test_what_is_too_large_before_cleaning_is_given_up() -> None:
    model = planted.model()
    given = {"config": planted.CONFIG, "means": planted.means(model)}
    edges = prune(model, planted.task(), **given).found["sizes"]["connected_edges"]
    assert len(prune(model, planted.task(), **given, most_edges=edges).edges) == len(planted.EDGES)
    with pytest.raises(GivenUp):
        prune(model, planted.task(), **given, most_edges=edges - 1)
