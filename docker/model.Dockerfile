# Model server: vLLM, started from the adapter's manifest. The target `cuda` is based on vLLM's image, `cpu` on Python's.
ARG PYTHON_IMAGE
ARG VLLM_IMAGE

FROM scratch AS code
WORKDIR /
COPY --chmod=755 services/__init__.py services/chat_markup.py services/errors.py services/files.py services/urls.py services/
COPY --chmod=755 services/process services/process
COPY --chmod=755 services/persona services/persona
COPY --chmod=755 services/model services/model

FROM ${PYTHON_IMAGE} AS packages
WORKDIR /build
COPY install.sh pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache,sharing=locked \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=ca,target=/run/ca.crt \
    if [ -s /run/ca.crt ]; then export SSL_CERT_FILE=/run/ca.crt PIP_CERT=/run/ca.crt; fi; \
    PIP_FIND_LINKS=/wheels ./install.sh /opt/ada cpu --extra cpu --no-dev

FROM ${PYTHON_IMAGE} AS cpu
# vLLM on the CPU needs lscpu to find the cores and libnuma to place memory.
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libnuma1 util-linux \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 ada && useradd --uid 10001 --gid ada --no-create-home --home-dir /cache ada \
    && install -d -o ada -g ada /cache && install -d -m 777 /models /run/gpu
COPY --from=packages /opt/ada /opt/ada
WORKDIR /app
COPY --from=code / .
ENV PATH=/opt/ada/bin:$PATH HOME=/cache PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
CMD ["python3", "-m", "services.model", "--patient"]

FROM ${VLLM_IMAGE} AS cuda
USER 0:0
RUN groupadd --gid 10001 ada && useradd --uid 10001 --gid ada --no-create-home --home-dir /cache ada \
    && install -d -o ada -g ada /cache && install -d -m 777 /models /run/gpu
WORKDIR /app
COPY --from=code / .
ENV HOME=/cache TORCHINDUCTOR_CACHE_DIR=/cache/inductor PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT []
CMD ["python3", "-m", "services.model", "--patient"]
