"""The training loop and what it needs. Knows neither Ray nor the files of a run."""
