"""Circuit size against target loss, for many models, tasks and methods: shared by processes, resumed at any time."""
