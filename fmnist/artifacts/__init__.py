"""A run's folder, its manifest, and the store it lives in.

The file system for Ray Train is in ``fmnist.artifacts.arrow``, apart from these because importing pyarrow takes time.
"""

from fmnist.artifacts.folder_store import FolderStore
from fmnist.artifacts.manifest import Manifest, ManifestFile, sha256_of
from fmnist.artifacts.run import (
    BEST,
    CANDIDATES,
    CANDIDATES_TABLE,
    CHECKPOINTS,
    CONFIG,
    DATA,
    ENVIRONMENT,
    FOLDS,
    FOLDS_TABLE,
    HISTORY,
    MANIFEST,
    METRICS,
    MODEL,
    PHASES,
    PLOTS,
    PREDICTIONS,
    REPORT,
    REPORT_MARKDOWN,
    TRIALS,
    TRIALS_HISTORY,
    TRIALS_TABLE,
    Problem,
    Pulled,
    RunFolder,
    State,
)
from fmnist.artifacts.run_comparison import (
    TEST_ACCURACY,
    TEST_ACCURACY_INTERVAL,
    Number,
    Pairs,
    RunComparison,
    compare_runs,
)
from fmnist.artifacts.run_id import check_run_id, new_run_id
from fmnist.artifacts.run_list import RunSummary, list_runs
from fmnist.artifacts.s3_store import S3Store
from fmnist.artifacts.store import Entry, MissingKeyError, Store, open_store

__all__ = [
    "BEST",
    "CANDIDATES",
    "CANDIDATES_TABLE",
    "CHECKPOINTS",
    "CONFIG",
    "DATA",
    "ENVIRONMENT",
    "FOLDS",
    "FOLDS_TABLE",
    "HISTORY",
    "MANIFEST",
    "METRICS",
    "MODEL",
    "PHASES",
    "PLOTS",
    "PREDICTIONS",
    "REPORT",
    "REPORT_MARKDOWN",
    "TEST_ACCURACY",
    "TEST_ACCURACY_INTERVAL",
    "TRIALS",
    "TRIALS_HISTORY",
    "TRIALS_TABLE",
    "Entry",
    "FolderStore",
    "Manifest",
    "ManifestFile",
    "MissingKeyError",
    "Number",
    "Pairs",
    "Problem",
    "Pulled",
    "RunComparison",
    "RunFolder",
    "RunSummary",
    "S3Store",
    "State",
    "Store",
    "check_run_id",
    "compare_runs",
    "list_runs",
    "new_run_id",
    "open_store",
    "sha256_of",
]
