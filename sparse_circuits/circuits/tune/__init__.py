"""Search for the settings of pruning that lead to the smallest circuits, by many workers, resumed at any time."""
