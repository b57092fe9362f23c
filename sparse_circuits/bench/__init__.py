"""Measured beside what a user would run instead: `shapes`, the opponent, our side, and the cases that pair them."""
