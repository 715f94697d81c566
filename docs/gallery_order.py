"""The order of the examples on the page that lists them: the simple ones first."""

ORDER = ["images", "tables", "stream", "search", "text", "method"]


def place(name):
    """Return the place of an example, by the name of its file."""
    return ORDER.index(name.removeprefix("plot_").removesuffix(".py"))
