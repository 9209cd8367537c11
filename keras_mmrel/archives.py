"""Sizes that an archive announces, checked before anything is unpacked."""

import zipfile

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


def check_sizes(
    archive: zipfile.ZipFile, members: int, member: int, total: int
) -> None:
    """Refuse an archive that would take more memory than its data can need.

    Reading a member never gives more than it announces.

    Args:
        archive: What is to be read.
        members: Largest number of members.
        member: Largest size of one of them, in bytes.
        total: Largest size of all of them.

    Raises:
        ValueError: If it announces more.
    """
    known = archive.infolist()
    if len(known) > members:
        raise ValueError(f"{len(known):,} members, not at most {members:,}")
    for info in known:
        if info.file_size > member:
            raise ValueError(
                f"'{info.filename[:80]}' of {info.file_size:,} bytes when "
                f"unpacked, not at most {member:,}"
            )
    size = sum(info.file_size for info in known)
    if size > total:
        raise ValueError(f"{size:,} bytes when unpacked, not at most {total:,}")
