"""How both programs say that they were called wrongly: one line with the mistake and where the right usage stands.

Must never import anything of the project: each program's edge says it from here.
"""

import click


def usage_line(error: click.ClickException) -> str:
    """The mistake in the form of all other errors: one line, in lower case, without the program's name."""
    text = error.format_message().removesuffix(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    see = f"see {context.command_path} --help" if context else ""
    return text[:1].lower() + text[1:] + (f"{'' if text.endswith('?') else ':'} {see}" if see else "")
