# Debian's Redis, where the official image can't be had; the same user and the same folder.
ARG DEBIAN_REDIS
FROM ${DEBIAN_REDIS}
RUN install -d -o 999 -g 999 /data
WORKDIR /data
USER 999:999
CMD ["redis-server"]
