# docker build -t bids_neurodecode .
# Arguments: TORCH=cuda for GPUs, GLMSINGLE=1, TEMPLATES="..." (see docs/containers.md)
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS runtime
RUN --mount=type=bind,source=containers,target=/mnt /mnt/install.sh runtime

FROM runtime AS dependencies
ARG PIP_FIND_LINKS
ARG TORCH=cpu
ARG GLMSINGLE=0
ARG TEMPLATES="MNI152NLin2009cAsym MNI152NLin6Asym"
WORKDIR /build
COPY containers/ containers/
RUN containers/install.sh tools
COPY pyproject.toml constraints.txt cpu-nets.txt ./
RUN containers/install.sh dependencies
RUN containers/install.sh glmsingle
RUN containers/install.sh templates
RUN containers/install.sh sbom

FROM dependencies AS package
COPY setup.py README.md LICENSE ./
COPY bids_neurodecode/ bids_neurodecode/
RUN containers/install.sh package /install

FROM runtime
COPY --from=dependencies /opt/bids_neurodecode/ /opt/bids_neurodecode/
COPY --from=dependencies /opt/templateflow/ /opt/templateflow/
# no cache has a fixed place: the program makes its own below the work folder, so any user can run it
ENV PATH=/opt/bids_neurodecode/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    USER=neurodecode \
    LOGNAME=neurodecode \
    HF_HUB_OFFLINE=1 \
    TEMPLATEFLOW_HOME=/opt/templateflow \
    TEMPLATEFLOW_AUTOUPDATE=off
# the default work folder is ./work
WORKDIR /tmp
ENTRYPOINT ["/opt/bids_neurodecode/bin/bids_neurodecode"]
CMD ["--help"]
COPY --from=package /install/ /
ARG VERSION=0.1.0.dev0
ARG REVISION=unknown
ENV BIDS_NEURODECODE_CONTAINER=docker:bids_neurodecode:${VERSION}
LABEL org.opencontainers.image.title="bids_neurodecode" \
      org.opencontainers.image.description="A BIDS-App that relates what people see to their fMRI, both ways" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.authors="The bids_neurodecode developers" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
