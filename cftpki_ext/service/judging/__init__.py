"""
Judges: processes that read strangers' certificates, and the front's ways to them (docs/adr/0021-processes.md).

`exchange` is what both sides say, `judge` runs in the process, `pool` chooses who judges what and when, `remote` is
the case as the driver of a check sees it.
"""
