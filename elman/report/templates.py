"""Jinja templates of the HTML pages."""

from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from elman.report.shown import Missing


def text_of(package: str, name: str) -> str:
    """Read a file from the folder "templates" of a package."""
    return (resources.files(package) / "templates" / name).read_text(encoding="utf-8")


def environment(package: str) -> Environment:
    """Create the Jinja environment for the templates of a package, with autoescaping."""
    templates = Environment(
        loader=FunctionLoader(lambda name: text_of(package, name)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "ensure_ascii": False}
    templates.tests["missing"] = lambda part: isinstance(part, Missing)
    return templates
