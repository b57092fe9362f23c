"""Pruning anew keeps the circuit's settings and means, and never writes over another circuit."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_circuits import small_circuit

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.viewer.reprune import reprune


@pytest.mark.filterwarnings("ignore:task .* has")
def test_each_goes_to_a_folder_of_its_own(tmp_path: Path) -> None:
    circuit = small_circuit()
    loop = replace(circuit.config.loop, steps=2)
    circuit.config = replace(circuit.config, batch_pairs=2, loop=loop)
    target = 2 * max(circuit.loss("calibrate"), 1.0)
    found, folder = reprune(circuit, target, tmp_path)
    assert folder == tmp_path / f"quotes-{target:g}"
    assert found.config == replace(circuit.config, target_loss=target)
    assert found.means is circuit.means
    assert found.loss("calibrate") <= target
    assert Circuit.load(folder, circuit.model, circuit.task).nodes == found.nodes
    assert [row[0] for row in found.found["learning"]] == [1, 2]
    _, second = reprune(circuit, target, tmp_path)
    assert second == tmp_path / f"quotes-{target:g}-2"
    assert reprune(circuit, target)[1] is None
