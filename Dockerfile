# One image for the pipeline, the servers and the worker. Every RUN is a target of the Makefile.
# PIP_ARGS selects the build of torch, by the index of CPU-only or CUDA builds (docs/deploy.md).
FROM python:3.11.13-bookworm AS build
ARG PIP_ARGS=""
ENV PIP_NO_CACHE_DIR=1
WORKDIR /project
# Dependencies first, so that a change of the code keeps this layer.
COPY Makefile pyproject.toml requirements.lock ./
RUN make dependencies VENV=/opt/venv LOCK=requirements.lock PIP_ARGS="$PIP_ARGS"
COPY README.md LICENSE ./
COPY src src
RUN make install VENV=/opt/venv LOCK=requirements.lock PIP_ARGS="$PIP_ARGS"

FROM python:3.11.13-slim-bookworm
# The slim image has no make.
COPY --from=build /usr/bin/make /usr/bin/make
WORKDIR /project
COPY Makefile ./
RUN make system
COPY --from=build /opt/venv /opt/venv
COPY . .
RUN make image VENV=/opt/venv OWNER=1000:1000
# Any user id may run the image, so name and home are set here.
ENV PATH=/opt/venv/bin:$PATH USER=bonesoup HOME=/tmp PYTHONUNBUFFERED=1
USER 1000:1000
HEALTHCHECK --interval=5m --timeout=30s CMD ["bonesoup", "--help"]
CMD ["bonesoup", "run"]
