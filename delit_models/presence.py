"""Whether something is there, and an error where the system cannot tell.

pathlib's own `is_file`, `is_dir` and `exists` answer no to a folder that may not be entered or a disk that does not
answer, from Python 3.14 on. Work whose results seem not to be there is begun anew, and its files are replaced.
"""

from __future__ import annotations

import errno
import os
import stat

from .errors import DelitError

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP}
# Windows: a drive without a disc, a name that no file can have, a link to nowhere.
_ABSENT_ON_WINDOWS = {21, 123, 1921}


def mode_of(path: str | os.PathLike) -> int | None:
    """`st_mode` of what is at a path, through links; None where nothing is.

    Raises OSError where the system cannot tell: a folder that may not be entered, a disk that does not answer, a name
    that is too long for it.
    """
    try:
        return os.stat(path).st_mode
    except ValueError:  # A zero byte, or what is no text: no file can have that name.
        return None
    except OSError as error:
        if error.errno in _ABSENT or getattr(error, "winerror", None) in _ABSENT_ON_WINDOWS:
            return None
        raise


def is_file(path: str | os.PathLike) -> bool:
    """Whether a file is there. Raises DelitError where the system cannot tell."""
    mode = _told_mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: str | os.PathLike) -> bool:
    """Whether a folder is there. Raises DelitError where the system cannot tell."""
    mode = _told_mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def is_there(path: str | os.PathLike) -> bool:
    """Whether anything is there. Raises DelitError where the system cannot tell."""
    return _told_mode(path) is not None


def _told_mode(path: str | os.PathLike) -> int | None:
    try:
        return mode_of(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # Nothing can be there.
            return None
        raise DelitError(
            f"{os.fspath(path)} cannot be read: {error.strerror or error}. Check the path, that you may read there, "
            "and that its disk is connected."
        ) from error
