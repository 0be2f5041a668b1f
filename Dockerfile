# A worker, the command line, or the example services: one small image without root.
FROM python:3.11-slim AS build
WORKDIR /build
COPY bootstrap.lock requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/handfast \
    && /opt/handfast/bin/python -m pip install --no-cache-dir --require-hashes -r bootstrap.lock
COPY src ./src
# The lock pins by hash what the extras need; the dev server's wheel and the tests' tools stay out.
RUN /opt/handfast/bin/uv pip install --no-cache --python /opt/handfast/bin/python \
        --constraint requirements.lock ".[postgres,otlp,oauth,backend,gateway,demo]" \
    && /opt/handfast/bin/uv pip uninstall --python /opt/handfast/bin/python pip uv

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 handfast
COPY --from=build /opt/handfast /opt/handfast
ENV PATH=/opt/handfast/bin:$PATH PYTHONUNBUFFERED=1 HANDFAST_HEALTH_HOST=0.0.0.0 HANDFAST_HEALTH_PORT=8080
USER handfast
WORKDIR /home/handfast
RUN mkdir data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
ENTRYPOINT ["handfast"]
CMD ["worker", "handfast.demo.support_desk.agent:desk"]
