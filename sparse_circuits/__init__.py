"""Train weight-sparse transformers on code, find the circuit behind a behaviour, and check it."""
