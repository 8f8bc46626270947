"""Becoming another user once sources are open: what is wrong with a parser or a callback then has that user's rights only."""

from __future__ import annotations

import os
import pwd

from retina_jit.errors import ConfigError


def account(name: str) -> pwd.struct_passwd:
    """Return a user's entry; the process must be able to become that user.

    Raises
    ------
    ConfigError
        No such user, or no right to become one.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError as fault:
        raise ConfigError(f"user = {name!r}: this system has no such user; make one with: sudo useradd --system {name}") from fault
    if os.geteuid() != 0 and found.pw_uid != os.geteuid():
        raise ConfigError(f"user = {name!r}: only root can become another user; start with sudo, or leave it out")
    return found


def become(user: pwd.struct_passwd) -> None:
    """Let all threads of the process have the rights of a user, for good.

    Raises
    ------
    ConfigError
        The system refuses.
    """
    if os.geteuid() == user.pw_uid:
        return
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError as fault:
        raise ConfigError(f"user = {user.pw_name!r}: the system refuses to become that user ({fault.strerror}), as within a user namespace") from fault
    try:
        os.setuid(0)
    except OSError:
        return
    if user.pw_uid != 0:
        raise ConfigError(f"user = {user.pw_name!r}: the rights of root could be had again, so they are not given up")
