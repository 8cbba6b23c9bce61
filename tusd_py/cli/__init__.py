"""The command `tusd-py`: what the operator types, and what comes back."""

from pathlib import Path

import click

from tusd_py import __version__
from tusd_py.cli.config_file import read_config
from tusd_py.cli.serve import serve_command
from tusd_py.cli.tools import backup, cleanup, import_command, ls, sign


class _Commands(click.Group):
    """The commands; the client's is loaded when it is asked for, so that a server starts sooner."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group.list_commands`."""
        return sorted([*super().list_commands(ctx), "upload"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group.get_command`."""
        if cmd_name == "upload":
            from tusd_py.client.command import upload

            return upload
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tusd-py")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="TUSD_PY_CONFIG",
    show_envvar=True,
    callback=read_config,
    expose_value=False,
    is_eager=True,
    help="A TOML file with flags of any command, without their dashes: max-size = '5GiB'.",
)
def main() -> None:
    """A tus 1.0 server for resumable uploads that never loses a byte it acknowledged."""


for _command in (serve_command, sign, cleanup, ls, backup, import_command):
    main.add_command(_command)
