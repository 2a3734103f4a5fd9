# syntax=docker/dockerfile:1
# The service and the command line, as an ordinary user. docs/decisions/0006-container.md says why so.

FROM node:22.12-bookworm-slim AS web
WORKDIR /app/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web ./
RUN npm run build

FROM python:3.13-slim-bookworm AS environment
COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /usr/local/bin/uv
WORKDIR /app
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --locked --no-dev --no-install-project --no-python-downloads --compile-bytecode --link-mode copy
COPY db db
COPY migration migration
COPY resolvers resolvers
COPY schema schema
COPY service service
RUN uv sync --locked --no-dev --no-python-downloads --compile-bytecode --link-mode copy

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --create-home stockshift \
    && install -d -o stockshift -g stockshift -m 0700 /data
WORKDIR /app
COPY --from=environment /app /app
COPY --from=web /app/web/dist web/dist
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STOCKSHIFT_DATA=/data \
    STOCKSHIFT_HOST=0.0.0.0 \
    STOCKSHIFT_LOG_FORMAT=json
USER 10001:10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ.get(\"STOCKSHIFT_PORT\", 8000)}/healthz', timeout=4)"]
ENTRYPOINT ["stockshift"]
CMD ["serve"]
