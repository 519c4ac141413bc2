# Another base can be given here; a stage of its own, below, keeps the default where Dependabot
# looks for it (it reads FROM lines, not arguments).
ARG BASE_IMAGE=base

# The digest is that of the multi-platform index of trixie-20261005-slim.
FROM debian:trixie-slim@sha256:a29215f6a35e51e22adffa17f89e9d2ef06214e64a2bad10d765c46aea49f11f AS base


# What clients and servers are linked with. libnss-wrapper gives a name to a user that has none
# (docker run --user 1001), which initdb asks for; tzdata-legacy has the names of old, US/Eastern.
# openssh-client is there for tunnels, and of its programs only the two that they need.
FROM ${BASE_IMAGE} AS runtime
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates \
        libgssapi-krb5-2 \
        libicu76 \
        libldap2 \
        liblz4-1 \
        libnss-wrapper \
        libnuma1 \
        libpam0g \
        libreadline8t64 \
        libselinux1 \
        libssl3t64 \
        libstdc++6 \
        libsystemd0 \
        liburing2 \
        libuuid1 \
        libxml2 \
        libxslt1.1 \
        libzstd1 \
        openssh-client \
        python3 \
        tzdata \
        tzdata-legacy \
        zlib1g \
    && rm -rf /usr/bin/scp /usr/bin/sftp /usr/bin/ssh-[ac]* /usr/bin/ssh-keyscan \
        /usr/lib/openssh /var/lib/apt/lists/* /var/cache/apt/* /var/log/*


# The clients and servers of every major, taken out of their packages: the packages themselves
# depend on postgresql-common, and that on perl, neither of which the action uses.
FROM runtime AS postgres
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

ARG POSTGRES_MAJORS="14 15 16 17 18"
# Those with a server too, which a drill restores into.
ARG POSTGRES_SERVERS="$POSTGRES_MAJORS"
# Lines for apt, separated by semicolons; a major may come from any of them. When PostgreSQL's own
# archive retires a major, add the line of apt-archive.postgresql.org here.
ARG POSTGRES_SOURCES="deb [signed-by=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc] https://apt.postgresql.org/pub/repos/apt trixie-pgdg main"

WORKDIR /debs
# Debian's own postgresql-client-common carries the key that signs apt.postgresql.org, so the chain
# of trust starts at the base image. A library that runtime lacks, as where a server was built for
# another suite than the base's, is taken out of its package as the servers are.
ARG DEBIAN_FRONTEND=noninteractive
RUN chown _apt /debs; \
    apt-get update; \
    apt-get download locales postgresql-client-common; \
    dpkg-deb --extract postgresql-client-common_*.deb /extracted; \
    install -D -m 644 -t /usr/share/postgresql-common/pgdg /extracted/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc; \
    rm -r postgresql-client-common_*.deb /extracted; \
    echo "$POSTGRES_SOURCES" | tr ';' '\n' >/etc/apt/sources.list.d/postgresql.list; \
    apt-get update; \
    for major in $POSTGRES_MAJORS; do apt-get download "postgresql-client-$major"; done; \
    for major in $POSTGRES_SERVERS; do apt-get download "postgresql-$major"; done; \
    apt-get download libpq5; \
    libraries_of() { \
        for deb in "$@"; do dpkg-deb --field "$deb" Depends; done \
            | tr ',' '\n' | sed -nE 's/^ *(lib[^ :(|]+).*/\1/p' | grep -v '^libllvm' | sort -u; \
    }; \
    for _round in 1 2 3 4; do \
        for library in $(libraries_of postgresql-[0-9]*.deb lib*.deb); do \
            ls "${library}"_*.deb >/tmp/found 2>&1 || dpkg-query --status "$library" >/tmp/found 2>&1 \
                || apt-get download "$library"; \
        done; \
    done; \
    rm -rf /var/lib/apt/lists/*

# libpq5 is the newest there is: every client runs with a libpq of its own major or above.
# status.d is where scanners and SBOM tools look for packages that dpkg did not install.
# Of a server: what runs it, its extensions and its text search; not its JIT, manuals, translations.
# The sources of locales are there so that a drill can make the one that a database sorts by, and
# apt's source so that it can fetch an extension that a database has.
RUN for deb in *.deb; do \
        package=$(dpkg-deb --field "$deb" Package); \
        dpkg-deb --extract "$deb" /extracted; \
        mkdir -p /root-tree/var/lib/dpkg/status.d; \
        dpkg-deb --field "$deb" >"/root-tree/var/lib/dpkg/status.d/$package"; \
        install -D -m 644 -t "/root-tree/usr/share/doc/$package" "/extracted/usr/share/doc/$package/copyright"; \
    done; \
    for major in $POSTGRES_MAJORS; do \
        for program in pg_amcheck pg_dump pg_dumpall pg_restore psql; do \
            install -D -m 755 -t "/root-tree/usr/lib/postgresql/$major/bin" "/extracted/usr/lib/postgresql/$major/bin/$program"; \
        done; \
    done; \
    for major in $POSTGRES_SERVERS; do \
        for program in initdb postgres; do \
            install -D -m 755 -t "/root-tree/usr/lib/postgresql/$major/bin" "/extracted/usr/lib/postgresql/$major/bin/$program"; \
        done; \
        install -D -m 644 -t "/root-tree/usr/lib/postgresql/$major/lib" "/extracted/usr/lib/postgresql/$major/lib/"*.so; \
        rm -f "/root-tree/usr/lib/postgresql/$major/lib/llvmjit"*.so; \
        mkdir -p /root-tree/usr/share/postgresql; \
        cp --recursive "/extracted/usr/share/postgresql/$major" /root-tree/usr/share/postgresql/; \
        rm -rf "/root-tree/usr/share/postgresql/$major/man"; \
    done; \
    libraries="/root-tree/usr/lib/$(basename "$(dirname /extracted/usr/lib/*/libpq.so.5)")"; \
    mkdir -p "$libraries"; \
    for library in /extracted/usr/lib/*/lib*.so.*; do \
        [ -e "${library#/extracted}" ] || cp --archive "$library" "$libraries/"; \
    done; \
    cp --recursive /extracted/usr/share/i18n /root-tree/usr/share/; \
    install -D -m 644 -t /root-tree/etc/apt/sources.list.d /etc/apt/sources.list.d/postgresql.list; \
    install -D -m 644 -t /root-tree/usr/share/postgresql-common/pgdg /usr/share/postgresql-common/pgdg/apt.postgresql.org.asc


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


FROM runtime
COPY --from=postgres /root-tree/ /
COPY --from=python /opt/venv /opt/venv
COPY entrypoint.py /app/entrypoint.py
COPY backup /app/backup
WORKDIR /app

# A program that cannot run must fail this build, not a backup or a drill. PostgreSQL refuses to run
# as root, so a drill's server has a user of its own.
RUN ldconfig \
    && useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pg-drill \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /app \
    && for program in /usr/lib/postgresql/*/bin/*; do \
        major=$(basename "$(dirname "$(dirname "$program")")"); \
        case $("$program" --version) in \
            "$(basename "$program") (PostgreSQL) $major."*) ;; \
            *) echo "$program does not run" >&2; exit 1 ;; \
        esac; \
    done \
    && for library in /usr/lib/postgresql/*/lib/*.so; do \
        case $(ldd "$library" 2>&1) in \
            *"not found"*) echo "$library lacks another" >&2; exit 1 ;; \
        esac; \
    done \
    && /usr/bin/ssh -V \
    && ssh-keygen -q -t ed25519 -N '' -f /tmp/key && ssh-keygen -y -f /tmp/key && rm /tmp/key* \
    && /opt/venv/bin/python -E -s -c 'import awscrt.checksums, botocore.session, psycopg; assert psycopg.pq.__impl__ == "binary"' \
    && /opt/venv/bin/python -E -s -c 'import awslambdaric.bootstrap, backup.lambda_function, runtime_client'

ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=""
LABEL org.opencontainers.image.title="pg-backup-action" \
      org.opencontainers.image.description="Backs a PostgreSQL database up to S3 from a GitHub workflow" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

# For hosts that make the rest read-only. ECS gives a volume to a user without rights only where the
# image declares it: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
VOLUME ["/tmp"]

# Exec form with absolute paths: a shell would drop INPUT_* variables with a hyphen in their name,
# and a job may have put anything into PATH. -E and -s keep the job's PYTHON* variables and any
# user site-packages out (-I would also leave /app out of sys.path); -u and -X utf8 are given as
# flags because, with -E, the variables of the same purpose no longer count. Lambda is given another
# entry: /opt/venv/bin/python -E -s -m awslambdaric backup.lambda_function.handler
ENTRYPOINT ["/opt/venv/bin/python", "-E", "-s", "-u", "-X", "utf8", "/app/entrypoint.py"]
