"""
Child processes: how they are begun, confined, spoken with, watched and ended (docs/adr/0021-processes.md).

`frames`, `channel` and `front_channel` carry values (never pickle), `confine` takes rights away, `nursery` is the
process that forks the others, `spawning` the front's view of it, `child` is what runs in them, `worker` is the
front's end of one. What a process does is its role's business: a handler named by module and function, which only the
child calls. Nothing is imported here: a child has what it needs and no more.
"""
