"""Ray: clusters, workers, tasks, their events and checkpoints."""
