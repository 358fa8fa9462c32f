# Two images: the local server over stdio, and the server of a team over HTTP (deploy/compose.yaml).
#
#   docker build --target local -t immunos-mcp . && docker run -i --rm -v immunos:/ledger immunos-mcp
#   docker build --target team -t immunos-mcp-team .

FROM python:3.13-slim AS build
WORKDIR /source
RUN python -m venv /opt/immunos
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/immunos/bin/pip install --no-cache-dir .

FROM build AS build-team
RUN /opt/immunos/bin/pip install --no-cache-dir '.[team]'

FROM python:3.13-slim AS base
RUN useradd --no-create-home --home-dir /nonexistent --uid 10001 immunos \
    && install -d -m 0700 -o immunos /ledger
ENV PATH=/opt/immunos/bin:$PATH PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["immunos-mcp"]

FROM base AS team
COPY --from=build-team /opt/immunos /opt/immunos
USER 10001
ENV IMMUNOS_HTTP=0.0.0.0:4780 IMMUNOS_BEHIND_PROXY=on
EXPOSE 4780
# Whether it runs; the proxy asks /readyz, which also needs the database, whose absence no restart mends.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:4780/healthz', timeout=4)"]
CMD ["serve"]

FROM base AS local
COPY --from=build /opt/immunos /opt/immunos
USER 10001
ENV IMMUNOS_DB=/ledger/immunos.db
VOLUME /ledger
