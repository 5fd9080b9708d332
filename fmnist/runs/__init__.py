"""A run's life: its folder, its manifest, how it is opened and finished, and how runs are listed and compared."""

from fmnist.runs.comparison import TEST_ACCURACY, TEST_ACCURACY_INTERVAL, Number, Pairs, RunComparison, compare_runs
from fmnist.runs.files import *  # noqa: F403  (the names of all files)
from fmnist.runs.folder import Problem, Pulled, RunFolder, State
from fmnist.runs.listing import RunSummary, list_runs
from fmnist.runs.manifest import Manifest, ManifestFile, utc
from fmnist.runs.run_id import FEATURES, TENSORBOARD, check_run_id, new_run_id
