"""Text to train on: its `sources` and `idioms`, its packing (`build`), its reading (`packed`), its `bigram` loss."""
