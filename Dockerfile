# Another base can be given here; a stage of its own, below, keeps the default where Dependabot
# looks for it (it reads FROM lines, not arguments).
ARG BASE_IMAGE=base

# The digest is that of the multi-platform index of trixie-20261005-slim.
FROM debian:trixie-slim@sha256:a29215f6a35e51e22adffa17f89e9d2ef06214e64a2bad10d765c46aea49f11f AS base


# The clients of every major, taken out of their packages: the packages themselves depend on
# postgresql-client-common, and that on perl, neither of which the action uses.
FROM ${BASE_IMAGE} AS clients
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

ARG POSTGRES_MAJORS="14 15 16 17 18"
# Lines for apt, separated by semicolons; a major may come from any of them. When PostgreSQL's own
# archive retires a major, add the line of apt-archive.postgresql.org here.
ARG POSTGRES_SOURCES="deb [signed-by=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc] https://apt.postgresql.org/pub/repos/apt trixie-pgdg main"

WORKDIR /debs
# Debian's own postgresql-client-common carries the key that signs apt.postgresql.org, so the chain
# of trust starts at the base image.
ARG DEBIAN_FRONTEND=noninteractive
RUN chown _apt /debs; \
    apt-get update; \
    apt-get install --yes --no-install-recommends ca-certificates; \
    apt-get download postgresql-client-common; \
    dpkg-deb --extract postgresql-client-common_*.deb /extracted; \
    install -D -m 644 -t /usr/share/postgresql-common/pgdg /extracted/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc; \
    rm -r postgresql-client-common_*.deb /extracted; \
    echo "$POSTGRES_SOURCES" | tr ';' '\n' >/etc/apt/sources.list.d/postgresql.list; \
    apt-get update; \
    for major in $POSTGRES_MAJORS; do apt-get download "postgresql-client-$major"; done; \
    apt-get download libpq5; \
    rm -rf /var/lib/apt/lists/*

# libpq5 is the newest there is: every client runs with a libpq of its own major or above.
# status.d is where scanners and SBOM tools look for packages that dpkg did not install.
RUN for deb in *.deb; do \
        package=$(dpkg-deb --field "$deb" Package); \
        dpkg-deb --extract "$deb" /extracted; \
        mkdir -p /root-tree/var/lib/dpkg/status.d; \
        dpkg-deb --field "$deb" >"/root-tree/var/lib/dpkg/status.d/$package"; \
        install -D -m 644 -t "/root-tree/usr/share/doc/$package" "/extracted/usr/share/doc/$package/copyright"; \
    done; \
    for major in $POSTGRES_MAJORS; do \
        for program in pg_dump pg_dumpall pg_restore psql; do \
            install -D -m 755 -t "/root-tree/usr/lib/postgresql/$major/bin" "/extracted/usr/lib/postgresql/$major/bin/$program"; \
        done; \
    done; \
    libraries="/root-tree/usr/lib/$(basename "$(dirname /extracted/usr/lib/*/libpq.so.5)")"; \
    mkdir -p "$libraries"; \
    cp --archive /extracted/usr/lib/*/libpq.so.5* "$libraries/"


# The Python dependencies, in a virtual environment that has no pip in it.
FROM ${BASE_IMAGE} AS python
COPY requirements/runtime.txt /tmp/runtime.txt
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /tmp/installer \
    && python3 -m venv --without-pip /opt/venv \
    && /tmp/installer/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile \
        --only-binary :all: --require-hashes --requirement /tmp/runtime.txt \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib


FROM ${BASE_IMAGE}
ARG DEBIAN_FRONTEND=noninteractive
# The libraries are those that libpq and the clients are linked with.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates \
        libgssapi-krb5-2 \
        libldap2 \
        liblz4-1 \
        libreadline8t64 \
        libssl3t64 \
        libzstd1 \
        python3 \
        tzdata \
        zlib1g \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
COPY --from=clients /root-tree/ /
COPY --from=python /opt/venv /opt/venv
COPY entrypoint.py /app/entrypoint.py
COPY backup /app/backup

# A client that cannot run must fail this build, not a backup.
RUN ldconfig \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /app \
    && for bin in /usr/lib/postgresql/*/bin; do \
        major=$(basename "$(dirname "$bin")"); \
        for program in pg_dump pg_dumpall pg_restore psql; do \
            case $("$bin/$program" --version) in \
                "$program (PostgreSQL) $major."*) ;; \
                *) echo "$bin/$program does not run" >&2; exit 1 ;; \
            esac; \
        done; \
    done \
    && /opt/venv/bin/python -E -s -c 'import awscrt.checksums, botocore.session, psycopg; assert psycopg.pq.__impl__ == "binary"'

ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=""
LABEL org.opencontainers.image.title="pg-backup-action" \
      org.opencontainers.image.description="Backs a PostgreSQL database up to S3 from a GitHub workflow" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

WORKDIR /app
# Exec form with absolute paths: a shell would drop INPUT_* variables with a hyphen in their name,
# and a job may have put anything into PATH. -E and -s keep the job's PYTHON* variables and any
# user site-packages out (-I would also leave /app out of sys.path); -u and -X utf8 are given as
# flags because, with -E, the variables of the same purpose no longer count.
ENTRYPOINT ["/opt/venv/bin/python", "-E", "-s", "-u", "-X", "utf8", "/app/entrypoint.py"]
