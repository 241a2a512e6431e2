"""
`cftpki cache …`: what is kept on the disk.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from cftpki_ext.bootstrap import cache_usage, flush_cache
from cftpki_ext.cli.options import config_option, config_path, json_option
from cftpki_ext.cli.render import console, table
from cftpki_ext.config import load
from cftpki_ext.config.units import format_size


@click.group()
def cache() -> None:
    """
    Look at the cache of OCSP responses and CRLs, or empty it. What is known to be revoked stays known.
    """


@cache.command()
@config_option(help_text="The configuration file.")
@json_option
def stats(config_file: Path | None, *, as_json: bool) -> None:
    """
    Show what the cache holds.
    """
    service = load(config_path(config_file)).service
    usage = cache_usage(service)
    data = {
        "directory": str(usage.directory),
        "entries": usage.entries,
        "bytes": usage.bytes,
        "max_bytes": service.cache_bytes,
    }
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    data["max_bytes"] = format_size(service.cache_bytes)
    console().print(table(("what", "value"), data.items()))


@cache.command()
@config_option(help_text="The configuration file.")
def flush(config_file: Path | None) -> None:
    """
    Forget every cached response; each is asked for again when it is needed.

    A running service keeps what it holds in memory until the refresh ages of [limits], or a restart.
    """
    count = flush_cache(load(config_path(config_file)).service)
    click.echo(f"forgot {count} responses")
