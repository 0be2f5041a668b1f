# A worker, the command line, or the example services: one small image without root.
FROM python:3.11-slim AS build
WORKDIR /build
COPY bootstrap.lock requirements.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/handfast \
    && /opt/handfast/bin/python -m pip install --no-cache-dir --require-hashes -r bootstrap.lock
COPY src ./src
# The lock pins by hash what the extras need; the dev server's wheel and the tests' tools stay out.
# Bytecode is compiled here: the user of the image may not write it, so each start would compile everything again.
RUN /opt/handfast/bin/uv pip install --no-cache --compile-bytecode --python /opt/handfast/bin/python \
        --constraint requirements.lock ".[postgres,otlp,plans,inputs,scrub,backend,gateway,demo]" \
    && /opt/handfast/bin/uv pip uninstall --python /opt/handfast/bin/python pip uv

FROM python:3.11-slim
# The base image ships its standard library without bytecode.
RUN python -m compileall -q -x '/(tests?|idlelib|site-packages)/' /usr/local/lib/python3.11 \
    && useradd --create-home --uid 10001 handfast
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
