# docker build -t retina-jit . && docker run --rm -v "$PWD:/data:ro" -v retina-jit:/home/user/.cache retina-jit log TlsHandshake -r /data/capture.pcap
# From an interface of the host: docker run --rm --user root --network host --cap-add NET_RAW retina-jit log TlsHandshake -i eth0
FROM python:3.13-slim

# libpcap compiles the expressions of -F; nothing else is needed.
RUN apt-get update && apt-get install -y --no-install-recommends libpcap0.8 && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE /src/
COPY retina_jit /src/retina_jit
RUN pip install --no-cache-dir /src && rm -rf /src && useradd --create-home user && install -d -o user -g user -m 700 /home/user/.cache

# Kernels are compiled for the processor that runs them, so at the first start: keep the cache in a volume. A volume takes its
# owner from the folder that stands in its place, hence the one above.
USER user
VOLUME /home/user/.cache
WORKDIR /data
ENTRYPOINT ["retina-jit"]
CMD ["--help"]
