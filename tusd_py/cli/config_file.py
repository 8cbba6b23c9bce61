"""The TOML file of `tusd-py --config`: flags of any command, without their dashes."""

import tomllib
from pathlib import Path

import click


def read_config(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """The callback of the option: what the file says becomes the commands' defaults."""
    if path is None:
        return None
    try:
        lines = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.BadParameter(f"{path} cannot be read: {error}") from error
    group = context.command
    assert isinstance(group, click.Group), "it is an option of the group"
    values = {name.replace("_", "-"): value for name, value in lines.items()}
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    flags = {name: _flags(command) for name, command in commands.items() if command is not None}
    unknown = sorted(set(values) - set().union(*flags.values()))
    if unknown:
        raise click.BadParameter(f"{path} has {unknown[0]!r}, which is no flag of any command")
    context.default_map = {
        command: {
            str(known[flag].name): _checked(path, flag, values[flag], known[flag])
            for flag in values.keys() & known.keys()
        }
        for command, known in flags.items()
    }
    return path


def _flags(command: click.Command) -> dict[str, click.Option]:
    """The options of a command, by flag without its dashes."""
    options = (param for param in command.params if isinstance(param, click.Option))
    return {flag.lstrip("-"): option for option in options for flag in option.opts}


def _checked(path: Path, flag: str, value: object, option: click.Option) -> object:
    """A value of the file, in a shape that its flag can be given in."""
    if isinstance(value, list) and option.multiple:
        return [str(entry) for entry in value]
    if isinstance(value, dict | list) or isinstance(value, bool) is not option.is_flag:
        wanted = "true or false" if option.is_flag else "text or a number"
        raise click.BadParameter(f"{path}: {flag} must be {wanted}")
    return value if option.is_flag else str(value)
