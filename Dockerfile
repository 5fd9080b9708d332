# One image for the head, the workers and the driver of a Ray cluster, and for `docker run`. `make image` builds it.
#   fmnist, ray and python are on PATH, jobs/ is in /app, the data set where `--data auto` looks for it.
# It runs as uid 1000 on a read-only root file system; only /tmp (Ray's sessions) and /home/fmnist (caches) must be writable.

ARG BASE_IMAGE=python:3.11-slim-bookworm
# gpu adds the CUDA libraries that TensorFlow was built for; the driver comes from the node.
ARG VARIANT=cpu
# What the lock file has only to build our package. With one name too many, or one of hatchling's missing, pip ends the build.
ARG BUILD_TOOLS="editables|hatchling|pathspec|pluggy|trove-classifiers"


FROM ${BASE_IMAGE} AS data
WORKDIR /data
# The package manager checks Debian's signature, fmnist the files' sums whenever it reads them.
RUN apt-get update \
    && apt-get download dataset-fashion-mnist \
    && dpkg -x dataset-fashion-mnist_*.deb .


FROM ${BASE_IMAGE} AS dependencies
ARG VARIANT
ARG BUILD_TOOLS
# strip is in binutils; no pin, since nothing of it reaches the image.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
WORKDIR /build
COPY requirements.txt requirements-gpu.txt ./
# The base's own pip fills the environment, which therefore needs none.
RUN case "$VARIANT" in \
        cpu) lock=requirements.txt ;; \
        gpu) lock=requirements-gpu.txt ;; \
        *) echo "VARIANT=$VARIANT: expected cpu or gpu" >&2; exit 1 ;; \
    esac \
    && awk -v tools="^($BUILD_TOOLS)==" '/^[^ ]/ { keep = $0 !~ tools } keep' "$lock" > runtime.txt \
    && python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install \
        --no-cache-dir --no-compile --only-binary :all: --require-hashes -r runtime.txt
# Left out: C++ headers and libclang, which serve to build TensorFlow ops, Ray's Java workers, the test suites of libraries, and the
# symbols of TensorFlow's static functions, which only a debugger reads.
# WORKDIR, which hadolint prefers, does not expand the version in the folder's name.
# hadolint ignore=DL3003
RUN cd /opt/venv/lib/python3*/site-packages \
    && rm -r tensorflow/include clang ray/jars \
    && find matplotlib numpy pandas pyarrow scipy sklearn -type d -name tests -prune -exec rm -r {} + \
    && strip --strip-unneeded tensorflow/libtensorflow_cc.so.2 tensorflow/libtensorflow_framework.so.2
# Compiled now, since uid 1000 cannot write it down later and each of Ray's processes would compile again. Unchecked: the files
# do not change any more, and tools that give layers reproducible times would make all of it stale.
RUN /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib


FROM ${BASE_IMAGE} AS package
ARG BUILD_TOOLS
WORKDIR /build
COPY requirements.txt ./
RUN awk -v tools="^(packaging|$BUILD_TOOLS)==" '/^[^ ]/ { keep = $0 ~ tools } keep' requirements.txt > tools.txt \
    && python -m venv --without-pip /opt/tools \
    && python -m pip --python /opt/tools/bin/python install --no-cache-dir --only-binary :all: --require-hashes -r tools.txt \
    && python -m venv --without-pip /opt/venv
COPY pyproject.toml README.md LICENSE ./
COPY fmnist fmnist
RUN /opt/tools/bin/python -m hatchling build -t wheel \
    && python -m pip --python /opt/venv/bin/python install \
        --no-cache-dir --no-compile --no-deps --no-index --no-warn-script-location --root /installed dist/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash -s /installed -p / /installed


FROM ${BASE_IMAGE}
# KubeRay starts Ray in a shell that may be a login shell, and Debian's /etc/profile sets PATH anew.
RUN groupadd --gid 1000 fmnist \
    && useradd --uid 1000 --gid fmnist --create-home --shell /bin/bash --no-log-init fmnist \
    && echo "PATH=/opt/venv/bin:\$PATH" > /etc/profile.d/fmnist.sh \
    && install --directory --owner fmnist --group fmnist /app/artifacts
COPY --from=data /data/usr/share /usr/share
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=package /installed/opt/venv /opt/venv
WORKDIR /app
COPY jobs jobs
# HOME is named, since a pod may run as a uid that /etc/passwd does not know. Output is unbuffered, so that what a search space of
# somebody's own has printed is in the log of a killed process too. Ray's usage report goes to an address on the internet, which a
# training pod has no business with.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/fmnist \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
# By number, so that Kubernetes can tell that it is not root.
USER 1000:1000
CMD ["fmnist", "--help"]

ARG BASE_IMAGE
ARG VERSION
ARG REVISION
ARG CREATED
ARG SBOM_SHA256
# Runs record it.
ENV FMNIST_REVISION=${REVISION}
LABEL org.opencontainers.image.title="fmnist" \
      org.opencontainers.image.description="Batch training for Fashion-MNIST on Ray and TensorFlow" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.fmnist.sbom.sha256="${SBOM_SHA256}"
