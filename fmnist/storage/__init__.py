"""Artifact stores: a folder, or a prefix of an S3 bucket.

The file system for Ray Train is in ``fmnist.storage.arrow``, apart from these because importing pyarrow takes time.
"""

from fmnist.storage.folder_store import FolderStore
from fmnist.storage.s3_store import S3Store
from fmnist.storage.store import ConflictError, Entry, MissingKeyError, NoConditionsError, Store, Versioned, open_store
