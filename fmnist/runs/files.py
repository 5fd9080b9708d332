"""The names of files and folders in a run's folder."""

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
DATA = "data.json"
METRICS = "metrics.json"
HISTORY = "history.csv"
MODEL = "model.keras"
PREDICTIONS = "predictions.csv"
PLOTS = "plots"
REPORT = "report.html"
REPORT_MARKDOWN = "report.md"
CHECKPOINTS = "checkpoints"
TRIALS = "trials"
TRIALS_TABLE = "trials.csv"
TRIALS_HISTORY = "trials_history.csv"
BEST = "best.yaml"
FOLDS = "folds"
FOLDS_TABLE = "folds.csv"
PHASES = "phases"
CANDIDATES = "candidates"
CANDIDATES_TABLE = "candidates.csv"
MANIFEST = "manifest.json"
LEASE = "lease.json"
# The manifest of a run that is being replaced, while it is.
REPLACED = "replaced.json"
# Where an unfinished run keeps what it resumes from, and the files that are written last there: by Ray Tune, by Ray
# Train, of a trial or fold, of what has ended.
SEARCH = "search"
SNAPSHOT = "checkpoint_manager_snapshot.json"
STATE = "state.json"
OUTCOME = "outcome.json"
STATE_FOLDERS = (CHECKPOINTS, TRIALS, FOLDS, PHASES, SEARCH)
PROGRESS = (SNAPSHOT, STATE, OUTCOME)
