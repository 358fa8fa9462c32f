# The server over stdio: docker run -i --rm -v immunos:/ledger immunos-mcp
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /opt/immunos && /opt/immunos/bin/pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --create-home --uid 10001 immunos && install -d -m 0700 -o immunos /ledger
COPY --from=build /opt/immunos /opt/immunos
ENV PATH=/opt/immunos/bin:$PATH IMMUNOS_DB=/ledger/immunos.db
USER 10001
VOLUME /ledger
ENTRYPOINT ["immunos-mcp"]
