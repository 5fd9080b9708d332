"""Runs in TensorBoard and MLflow, made of the documents in the run folder: a kill or a resume leaves no gap."""
