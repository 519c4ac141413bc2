"""How a throwaway server is set up: fast, silent, on no network, and knowing nothing of ours."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

_MIB = 1 << 20


def server_environment(folder: Path) -> dict[str, str]:
    """Nothing of ours: the SQL of an archive may read the environment of its server."""
    packages = folder / "packages"
    environment = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C",
        "TZ": "UTC",
        # Where packages that are fetched for their extensions have their libraries and data.
        "LD_LIBRARY_PATH": str(packages / "lib"),
        "PROJ_DATA": f"{packages / 'proj'}:/usr/share/proj",
        "GDAL_DATA": f"{packages / 'gdal'}",
        "PERL5LIB": f"{packages / 'perl-binary'}:{packages / 'perl'}",
    }
    if Path("/usr/share/i18n/locales").is_dir():
        # With it glibc leaves locale-archive alone, so only where all can be made:
        # https://sourceware.org/glibc/manual/latest/html_node/Locale-Names.html
        environment["LOCPATH"] = f"{folder / 'locales'}:/usr/lib/locale"
    return environment


def configure(folder: Path, sockets: Path, major: int, jobs: int) -> None:
    memory = _memory_bytes()
    free = shutil.disk_usage(folder).free
    settings = {
        "listen_addresses": "",
        # A list, whose items may be quoted.
        "unix_socket_directories": '"' + str(sockets).replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
        # What is lost with the machine is restored again.
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "wal_init_zero": "off",
        "max_wal_size": f"{_between(128, free // 16 // _MIB, 1024)}MB",
        "checkpoint_timeout": "1h",
        "checkpoint_warning": "0",
        "autovacuum": "off",
        # A server that crashed has failed the drill.
        "restart_after_crash": "off",
        # Subscriptions of the source stay asleep, and nobody's triggers fire at a login.
        "max_logical_replication_workers": "0",
        **({"event_triggers": "off"} if major >= 17 else {}),
        "shared_buffers": f"{_between(64, memory // 8 // _MIB, 2048)}MB",
        "maintenance_work_mem": f"{_between(64, memory // 4 // max(jobs, 1) // _MIB, 1024)}MB",
        "max_connections": str(4 * jobs + 24),
        # pg_dump locks all tables in one transaction; together they are locks for 100,000.
        "max_locks_per_transaction": str(_between(64, 100_000 // (4 * jobs + 24), 4096)),
        # Docker gives a container 64 MB of /dev/shm, which posix would fill.
        "dynamic_shared_memory_type": "mmap",
        "huge_pages": "off",
        "jit": "off",
        "lc_messages": "C",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_messages": "warning",
        "logging_collector": "off",
    }
    lines = [f"{name} = {_literal(value)}\n" for name, value in settings.items()]
    with (folder / "data/postgresql.conf").open("a", encoding="utf-8") as configuration:
        configuration.writelines(lines)


def _literal(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _between(least: int, wanted: int, most: int) -> int:
    return max(least, min(wanted, most))


def _memory_bytes() -> int:
    """What this machine has, or this container may take (cgroup 2 and 1)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            memory = min(memory, int((Path("/sys/fs/cgroup") / limit).read_text()))
    return memory
