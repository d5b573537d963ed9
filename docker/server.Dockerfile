# The server: no torch, no compiler, no package manager of Python; runs as 10001 on a read-only root.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends binutils libexpat1
RUN python3 -m venv --without-pip /opt/landcover \
 && python3 -m venv /opt/pip
# Class polygons (GeoPackage, GeoJSON, FlatGeobuf) bring a GDAL of their own, 95 MB:
# --build-arg VECTORS=1 keeps it.
ARG VECTORS=
COPY docker/requirements.txt /src/docker/requirements.txt
# Hashes pin every package; tests and tools inside the packages are never run here. Only the tools
# of onnxruntime import sympy; OpenVINO computes on the CPU and reads ONNX alone; Python links ONNX
# Runtime in, so the library for C is a second copy.
RUN /opt/pip/bin/pip --python /opt/landcover/bin/python install --no-cache-dir --no-compile \
      --disable-pip-version-check --require-hashes -r /src/docker/requirements.txt \
 && cd /opt/landcover/lib/python3.*/site-packages \
 && find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
 && rm -rf onnxruntime/transformers onnxruntime/tools onnxruntime/quantization \
 && rm -rf sympy mpmath onnxruntime/capi/libonnxruntime.so* \
 && rm -f openvino/libs/libopenvino_intel_[gn]pu_plugin.so openvino/libs/cache.json \
 && find . -path './openvino/libs/*_frontend.so*' ! -name '*_onnx_*' ! -name '*_ir_*' -delete \
 && if [ -z "${VECTORS}" ]; then rm -rf pyogrio pyogrio.libs pyogrio-*; fi \
 && find . -name '*.pyi' -delete \
 && find rasterio uvloop pyproj numpy shapely httptools -name '*.so' -exec strip --strip-unneeded {} +
COPY model /opt/landcover/src/model
COPY app /opt/landcover/src/app
COPY docker/landcover docker/healthcheck.py /opt/landcover/bin/
# Compiled here: a read-only root keeps no byte code.
RUN chmod 0755 /opt/landcover/bin/landcover \
 && /opt/landcover/bin/python -m compileall -q /opt/landcover/lib /opt/landcover/src
# Demo County, so that `docker compose up` has something to serve at once and nothing to race for.
RUN /opt/landcover/bin/landcover demo --write-only /opt/demo-county \
 && rm -rf /opt/demo-county/truth /opt/demo-county/manifest.json

FROM ${PYTHON_IMAGE}
# What rasterio's wheel expects of the system; a slim base may lack it.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libexpat1 \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
RUN mkdir -p /var/cache/landcover /var/lib/landcover \
 && chown 10001:10001 /var/cache/landcover /var/lib/landcover
COPY --from=build /opt/landcover /opt/landcover
COPY --from=build /opt/demo-county /opt/demo-county
ENV PATH=/opt/landcover/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    LANDCOVER_HOST=0.0.0.0 \
    LANDCOVER_PORT=8000 \
    LANDCOVER_LOG_FORMAT=json \
    LANDCOVER_CACHE_DIR=/var/cache/landcover
# Ends the build when a shared library is missing.
RUN landcover --help >/dev/null
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=3 \
    CMD ["python", "/opt/landcover/bin/healthcheck.py"]
ENTRYPOINT ["landcover"]
CMD ["serve"]
