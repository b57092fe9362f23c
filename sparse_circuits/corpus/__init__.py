"""Text to train on: its `sources` and `idioms`, packing (`build`), reading (`packed`), a bigram loss."""
