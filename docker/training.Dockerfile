# Training: torch, without the server. Mount data and runs:
#   docker run --rm -v "$PWD/data:/data" -v "$PWD/runs:/work/runs" landcover-training fit --help
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
FROM ${PYTHON_IMAGE}
# The package index for torch: CPU builds, or CUDA builds for a GPU host.
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
RUN apt-get update \
 && apt-get install -y --no-install-recommends libexpat1 \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/training
COPY docker/requirements.txt /src/docker/requirements.txt
RUN /opt/training/bin/pip install --no-cache-dir --disable-pip-version-check \
      --require-hashes -r /src/docker/requirements.txt \
 && /opt/training/bin/pip install --no-cache-dir --disable-pip-version-check \
      ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH" \
 && /opt/training/bin/pip install --no-cache-dir --disable-pip-version-check \
      "onnx>=1.20.2" "h5py>=3.12" "jinja2>=3.1.6" "pyogrio>=0.10"
COPY model /src/model
COPY training /src/training
# Demo City is drawn with the primitives of Demo County.
COPY app/__init__.py /src/app/__init__.py
COPY app/demo /src/app/demo
ENV PATH=/opt/training/bin:$PATH PYTHONPATH=/src PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --create-home trainer && mkdir -p /work && chown 10001 /work
USER 10001
WORKDIR /work
ENTRYPOINT ["python", "-m", "training"]
