"""The pipeline job, for `ray job submit … -- python jobs/pipeline.py …` and for a RayJob's entrypoint."""

import sys
from pathlib import Path

# The job's own working directory comes first, so that what was submitted runs, whatever the image has installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fmnist.cli import main

if __name__ == "__main__":
    sys.exit(main(["pipeline", *sys.argv[1:]]))
