"""What lies under a key in Redis: a hash of the revision `r` and the record `b`, or something else, which is damaged.

Rules of this file: pure; the script that writes and the reading here agree on the revision of whatever lies there, so
that what is damaged can be written over, and no key keeps the others of its commit from being written.
"""

import re
from typing import Final

from .record import StreamRecord
from .record_bytes import RecordError, unpack_record
from .store import DamagedRecordError

_REVISION: Final = re.compile(rb"[1-9][0-9]{0,18}")
# KEYS: streams. ARGV, four for each: revision before, or ''; revision, record, milliseconds to keep it. What is damaged
# has the revision 0, unless it has one of its own. All keys are looked at before any is written.
COMPARE_AND_SET: Final = """
local won, there = {}, {}
for place, key in ipairs(KEYS) do
    local r = redis.pcall('HGET', key, 'r')
    if type(r) == 'table' then
        if not string.find(r.err, 'WRONGTYPE', 1, true) then return r end
        r = '0'
        if ARGV[4 * place - 3] == r then redis.call('DEL', key) end
    elseif not r then
        r = redis.call('HGET', key, 'b') and '0' or ''
    elseif #r > 19 or not string.find(r, '^[1-9]%d*$') then
        r = '0'
    end
    there[place] = r
end
for place, key in ipairs(KEYS) do
    local at = 4 * place - 3
    won[place] = 0
    if there[place] == ARGV[at] then
        redis.call('HSET', key, 'r', ARGV[at + 1], 'b', ARGV[at + 2])
        redis.call('PEXPIRE', key, ARGV[at + 3])
        won[place] = 1
    end
end
return won
"""


def record_of(revision: bytes | None, data: bytes | None) -> StreamRecord | None:
    """Return the record that the two fields of a key are, None where neither is there.

    Raises:
        DamagedRecordError: they are none; its revision is the one that the script compares with.
    """
    if revision is None and data is None:
        return None
    lies_under = int(revision) if revision is not None and _REVISION.fullmatch(revision) else 0
    try:
        record = unpack_record(data or b"")
    except RecordError as err:
        raise DamagedRecordError(lies_under, err) from err
    if record.revision != lies_under:
        raise DamagedRecordError(lies_under, RecordError("revision", str(record.revision), revision))
    return record
