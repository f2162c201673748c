"""Where MAGICODE_EXPORTS says that exports wait, and MAGICODE_BACKUPS that backups lie: a folder, or a bucket.

AWS's library is loaded only where a bucket is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from infra.objects.folder import FolderObjects

if TYPE_CHECKING:
    from app.ports import Objects


def open_objects(setting: str | None, default: Path) -> Objects:
    """The folder `default` where nothing is named. Raises BucketAddressError, and what AWS's own settings are wrong by."""
    if setting and setting.startswith("s3:"):
        from infra.objects.s3 import open_s3  # noqa: PLC0415 (see the module's docstring)

        return open_s3(setting)
    return FolderObjects(Path(setting) if setting else default)
