"""The model card: `measure` and `answers` find numbers, `recipe` how to train again, `card` joins, `page` writes."""
