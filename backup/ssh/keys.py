"""Private keys: one that is stored, or one that is made for one run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from backup.errors import DumpError, InputError
from backup.settings import Secret
from backup.ssh.programs import private_folder, program, program_environment


@dataclass(frozen=True, slots=True)
class KeyPair:
    """`public` is the line that an SSH server is given: `ssh-ed25519 AAAA…`."""

    private: Secret
    public: str


def in_memory(key: Secret) -> IO[bytes]:
    """A file without a name, for a program to open as its stdin: the key never lies on a disk."""
    held = os.fdopen(os.memfd_create("identity"), "w+b")
    os.fchmod(held.fileno(), 0o600)  # OpenSSH takes no key that others may read
    held.write(key.value.encode())
    held.flush()
    return held


def with_public(private: Secret, environment: Mapping[str, str]) -> KeyPair:
    """The pair of a stored private key. Raises InputError for one that cannot be used as it is."""
    # Without a passphrase; ssh itself would pass over a key that has one, and say nothing of it.
    command = [program("ssh-keygen"), "-y", "-P", "", "-f", "/dev/stdin"]
    with private_folder() as folder, in_memory(private) as identity:
        told = subprocess.run(
            command,
            env=program_environment(environment, folder),
            stdin=identity.fileno(),
            capture_output=True,
            text=True,
            errors="replace",
        )
    if told.returncode:
        raise InputError(
            "the private key for the tunnel cannot be used",
            detail=told.stderr.strip() or "ssh-keygen said nothing",
            hint="It must be a whole private key, without a passphrase: ssh-keygen -t ed25519"
            " -N '' -f id_ed25519, and store that file as the secret.",
        )
    return KeyPair(private, told.stdout.strip())


def new_key(environment: Mapping[str, str]) -> KeyPair:
    """Made by ssh-keygen, which writes to files alone: they are read and gone at once.

    Raises DumpError, or StorageError for a TMPDIR that cannot be written to.
    """
    command = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "pg-backup-action"]
    with private_folder() as folder:
        file = folder / "key"
        made = subprocess.run(
            [*command, "-f", str(file)],
            env=program_environment(environment, folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if made.returncode:
            raise DumpError(
                "ssh-keygen made no key",
                detail=f"{made.stdout}{made.stderr}".strip() or "it said nothing",
                hint="where it says nothing, the disk under TMPDIR is full",
            )
        return KeyPair(Secret(file.read_text()), file.with_suffix(".pub").read_text().strip())
