# NOT QDRANT: see qdrant_standin.py. Lies where the real image has its files, under the same user.
ARG ADA_SERVICES_IMAGE
FROM ${ADA_SERVICES_IMAGE}
USER 0:0
RUN install -d -o 1000 -g 1000 /qdrant/storage /qdrant/config
COPY --chmod=755 qdrant_standin.py /qdrant/
USER 1000:1000
LABEL org.opencontainers.image.title="qdrant-standin (a test double, not Qdrant)"
CMD ["python", "/qdrant/qdrant_standin.py", "/qdrant/storage", "/qdrant/config/local.yaml", "6333"]
