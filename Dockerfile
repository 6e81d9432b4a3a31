# The server with the example's bundle in it. Two images from one file: RUNTIME=cpu, or RUNTIME=gpu with onnxruntime's
# CUDA build. Both stand on the same small Python image: the extra `gpu` brings CUDA and cuDNN as wheels, in the versions
# that onnxruntime was built for, and the driver comes from the host; a CUDA base image would bring them a second time.
#
# Nothing here needs BuildKit, so that older builders work too.
ARG BASE=python:3.13-slim

# --- tools: pip, and where it finds packages. The last stage does not stand on this one.
FROM ${BASE} AS tools
# Where packages come from, if not from PyPI. Empty settings are the same as none to pip, and none of them reaches the
# last stage. A TORCH_INDEX_URL with CPU builds of torch saves 2.9 GB of CUDA libraries while building.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_FIND_LINKS=
ARG PIP_CERT=
ENV PIP_INDEX_URL=${PIP_INDEX_URL} \
    PIP_EXTRA_INDEX_URL=${PIP_EXTRA_INDEX_URL} \
    PIP_FIND_LINKS=${PIP_FIND_LINKS} \
    PIP_CERT=${PIP_CERT} \
    PIP_CONSTRAINT=/build/constraints.txt \
    PIP_BUILD_CONSTRAINT=/build/constraints.txt \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    ORT_DISABLE_TELEMETRY=1
WORKDIR /build
COPY constraints.txt pyproject.toml ./
# Requirements as files, so that a change of the source does not install everything again.
RUN python -m venv /opt/tools && python -c "import tomllib; \
    project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = {'': project['dependencies'], **project['optional-dependencies']}; \
    [open(f'{name or \"base\"}.txt', 'w').write('\n'.join(needs)) for name, needs in extras.items()]"
ENV PATH=/opt/tools/bin:${PATH}

# --- wheel: cellgate itself, its inner parts compiled. COMPILE=0 leaves that out, and so do a network without Debian's
# packages and a base without Python's headers: a small network then costs a tenth more.
FROM tools AS wheel
ARG COMPILE=1
# Whatever gcc the base's release has: it does not leave this stage.
# hadolint ignore=DL3008
RUN [ "${COMPILE}" = 0 ] || { apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*; } || echo 'gcc cannot be installed from here'
COPY . /build/source
RUN headers=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))') \
    && if [ "${COMPILE}" != 0 ] && command -v gcc && [ -e "${headers}/Python.h" ]; then export CELLGATE_COMPILE=1; \
    else echo 'cellgate is built without compiled modules'; fi \
    && pip wheel --quiet --no-deps --wheel-dir /wheel /build/source

# --- bundle: the example exported with torch, and refused here if it is not equivalent.
FROM tools AS bundle
ARG TORCH_INDEX_URL=
RUN pip install --quiet ${TORCH_INDEX_URL:+--extra-index-url ${TORCH_INDEX_URL}} \
    --requirement base.txt --requirement export.txt --requirement cpu.txt
COPY --from=wheel /wheel /wheel
COPY examples/japanese_vowels /build/example
RUN pip install --quiet --no-deps /wheel/*.whl && cellgate export /build/example/network.py:speaker_network \
    --weights /build/example/weights.safetensors --out /bundles/japanese-vowels

# --- environment: what serves, without torch, onnx and pip. Bytecode comes below, for what is used; numpy's tests go.
FROM tools AS environment
ARG RUNTIME=cpu
RUN python -m venv --without-pip /opt/cellgate \
    && pip --python /opt/cellgate/bin/python install --quiet --no-compile \
    --requirement base.txt --requirement serve.txt --requirement grpc.txt --requirement redis.txt --requirement "${RUNTIME}.txt" \
    && find /opt/cellgate/lib/python3*/site-packages/numpy -type d -name tests -prune -exec rm -r {} +
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/cellgate/bin/python install --quiet --no-compile --no-deps /wheel/*.whl

# --- the image.
FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="cellgate" \
    org.opencontainers.image.description="Serves recurrent networks over the Open Inference Protocol" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=environment /opt/cellgate /opt/cellgate
COPY --from=bundle /bundles /srv/example
# onnxruntime's official builds send telemetry unless told not to. NVIDIA_… asks NVIDIA's container runtime for what CUDA
# needs of the driver, and means nothing elsewhere.
ENV PATH=/opt/cellgate/bin:${PATH} \
    CELLGATE_HOST=0.0.0.0 \
    HOME=/tmp \
    ORT_DISABLE_TELEMETRY=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /srv
# The golden cases once in the environment that serves. It also leaves compiled what the server imports, for at run time
# nobody may write here. Then nothing that could install packages remains.
RUN cellgate verify example/japanese-vowels --device cpu --no-record \
    && python -c "import cellgate.command.load_command, cellgate.command.ready_command, \
    cellgate.command.serve_command, cellgate.serve.app, cellgate.serve.processes.control_frontend, \
    cellgate.serve.processes.engine_child, cellgate.serve.processes.frontend, \
    cellgate.serve.processes.rpc_frontend, cellgate.serve.rpc.control_calls, cellgate.serve.streams.redis_store" \
    && rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* /tmp/*
# Where streams may be kept; a volume that is mounted here belongs to the server's user, as this folder does.
RUN mkdir /state && chown 10001:10001 /state
ENV PYTHONDONTWRITEBYTECODE=1
# A number, for Kubernetes can prove of a number that it is not root.
USER 10001:10001
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["cellgate", "ready"]
ENTRYPOINT ["cellgate"]
CMD ["serve", "example/japanese-vowels"]
