"""Ray: the cluster, its workers and tasks, what they report, and their checkpoints."""
