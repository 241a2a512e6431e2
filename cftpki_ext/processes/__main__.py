"""
The nursery as a program.
"""

import sys

from cftpki_ext.processes.nursery import main

main(sys.argv[1:])
