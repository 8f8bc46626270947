# docker build -t retina-jit . && docker run --rm -v "$PWD:/data:ro" retina-jit log TlsHandshake -r /data/capture.pcap
FROM python:3.13-slim

COPY pyproject.toml README.md LICENSE /src/
COPY retina_jit /src/retina_jit
RUN pip install --no-cache-dir /src && rm -rf /src && useradd --create-home user

# Kernels are compiled for the processor that runs them, so at the first start: keep the cache in a volume.
USER user
VOLUME /home/user/.cache
WORKDIR /data
ENTRYPOINT ["retina-jit"]
CMD ["--help"]
