"""How pages are made from templates: whatever comes from the data is escaped, and a missing value is an error."""

import jinja2


def page_environment(package: str) -> jinja2.Environment:
    """The templates of a package, and the style sheet that all pages share."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("viscera.drawing")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
