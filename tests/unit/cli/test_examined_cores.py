"""
No command leaves a core behind: private keys would be in it.
"""

import subprocess
import sys


def test_command_forbids_its_own_core_dump():
    script = (
        "import resource; from click.testing import CliRunner; from cftpki_ext.cli.program import main\n"
        "assert CliRunner().invoke(main, ['completion', 'bash']).exit_code == 0\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert told.stdout.splitlines()[-1] == "(0, 0)"
