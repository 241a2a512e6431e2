"""
The command line: arguments in, the engine asked, exact exit statuses out.

Exit status of `check`: 0 accepted, the TLS alert number refused, 2 usage or configuration, 80 our own failure.
Of every other command: 0 done, 2 usage or configuration, 1 not done. Owns words and columns only.
"""

from cftpki_ext.cli.program import main

__all__ = ["main"]
