"""The report card: how far a circuit can be trusted, as rows of figures with verdicts."""

from sparse_circuits.circuits.report.build import report
from sparse_circuits.circuits.report.rows import POINTS, Card, Row, Verdict

__all__ = ["POINTS", "Card", "Row", "Verdict", "report"]
