"""
The console: pages for people on call, by a process of its own that reads only (docs/console.md).

`serving` listens, `guarding` says who may ask and within which bounds, `pages` answers; what is shown comes from `looks`, a
child process that has no network and can write no file, as plain data, and becomes blocks of a page in `views`, which are pure.
"""
