# A worker, the command line, or the example services: one small image without root.
FROM python:3.11-slim AS build
WORKDIR /build
COPY bootstrap.lock requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/holdfast \
    && /opt/holdfast/bin/python -m pip install --no-cache-dir --require-hashes -r bootstrap.lock
COPY src ./src
# The lock pins by hash what the extras need; the dev server's wheel and the tests' tools stay out.
RUN /opt/holdfast/bin/uv pip install --no-cache --python /opt/holdfast/bin/python \
        --constraint requirements.lock ".[postgres,otlp,oauth,backend,gateway,demo]" \
    && /opt/holdfast/bin/uv pip uninstall --python /opt/holdfast/bin/python pip uv

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 holdfast
COPY --from=build /opt/holdfast /opt/holdfast
ENV PATH=/opt/holdfast/bin:$PATH PYTHONUNBUFFERED=1 HOLDFAST_HEALTH_HOST=0.0.0.0 HOLDFAST_HEALTH_PORT=8080
USER holdfast
WORKDIR /home/holdfast
RUN mkdir data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
ENTRYPOINT ["holdfast"]
CMD ["worker", "holdfast.demo.support_desk.agent:desk"]
