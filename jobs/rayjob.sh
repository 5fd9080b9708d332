#!/bin/sh
# The entrypoint of a RayJob: sh jobs/rayjob.sh SUBMISSION_ID COMMAND…
# KubeRay knows no exit codes: it runs a job that failed again on another cluster (`backoffLimit`), also for wrong input
# or configuration (2), which fails again. It does not do so with a job that was stopped, so with exit code 2 the job
# stops itself.
job=$1
shift
"$@"
code=$?
if [ "$code" -eq 2 ] && ray job stop --no-wait --address http://127.0.0.1:8265 "$job" >/dev/null; then
    # Ray ends this process.
    sleep 60
fi
exit "$code"
