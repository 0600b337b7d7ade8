"""`utxo-index config`: what is set, and where."""

from __future__ import annotations

import click


@click.command(short_help="Show the settings in force and where they come from.")
@click.argument("what", type=click.Choice(["show", "path"]), default="show")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def config(what: str, format_: str) -> None:
    """Show the settings in force and where each comes from, or the path of the config file.

    A setting is an option that can also be given as UTXO_INDEX_NAME in the environment, or as a line `name = value` of
    the config file (TOML). The command line outranks the environment, and that the file. The file is never written by
    utxo-index.
    """
    import json

    from utxo_index.cli.settings import config_path, resolved_settings

    path = config_path()
    if what == "path":
        click.echo(path)
        return
    settings = resolved_settings()
    if format_ == "json":
        values = {each.name: {"value": each.value, "origin": each.origin} for each in settings}
        click.echo(json.dumps({"config_file": str(path), "exists": path.exists(), "settings": values}, indent=2))
        return
    width = max(len(each.name) for each in settings)
    for each in settings:
        click.echo(f"{each.name:<{width}}  " + (f"{each.value}  ({each.origin})" if each.origin else "(default)"))
    click.echo(f"{'config file':<{width}}  {path}" + ("" if path.exists() else " (there is none)"))
