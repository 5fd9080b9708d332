#!/bin/sh
# Three searches of the study's space on all images, each best trial retrained, and the report of the whole study.
#
#     sh docs/results/searches.sh [folder of the runs]
#
# It takes a night on two cores. After an interruption the same command goes on where it was. WEIGHTS names a file of
# VGG16's weights for the transfer stages, which are left out without it. LIMIT uses so many training images, for a try.
set -eu
artifacts=${1:-artifacts}
for seed in 0 1 2; do
    python -m fmnist tune --space notebook --seed "$seed" --precision auto ${LIMIT:+--limit "$LIMIT"} \
        --skip-finished --artifacts "$artifacts" --run-id "tune-notebook-$seed"
done
if [ -n "${WEIGHTS:-}" ]; then
    set -- --backbone vgg16 --weights "$WEIGHTS"
else
    set -- --stages train,tune,crossval
fi
python -m fmnist pipeline --profile laptop --precision auto ${LIMIT:+--limit "$LIMIT"} \
    --skip-finished --artifacts "$artifacts" --run-id study "$@"
python -m fmnist runs list --artifacts "$artifacts"
