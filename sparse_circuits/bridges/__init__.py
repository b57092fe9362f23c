"""Bridges between a dense and a sparse model: `bridge`, `passes`, `train`, `check`; `steering` and what measures it."""
