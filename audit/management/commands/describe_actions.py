"""The catalogue as Markdown: the page an auditor is given, made from what the code runs on."""

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand

from audit.enums import ACTIONS, Action, Category, ContextKey

COLUMNS = ("Action", "Label", "Operation", "Phase", "Outcome", "Context keys")


class Command(BaseCommand):
    help = "Print the catalogue of actions as Markdown, one table for each category."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--category",
            choices=[category.value for category in Category],
            help="print this category only",
        )

    def handle(self, *args: Any, category: str | None = None, **options: Any) -> None:
        chosen = [Category(category)] if category else list(Category)
        self.stdout.write("\n\n".join("\n".join(section(each)) for each in chosen))


def section(category: Category) -> Iterator[str]:
    """The lines of one category: its heading, what asks for it, and a row for each action."""
    yield f"## {category.label}"
    yield ""
    required_for = ", ".join(category.frameworks) or "the portal's own accountability"
    yield f"Kept for {required_for}: {category.description}."
    yield ""
    yield row(*COLUMNS)
    yield row(*("---" for _ in COLUMNS))
    for member in ACTIONS.values():
        if member.category is category:
            yield action_row(member)


def action_row(action: Action) -> str:
    keys = "<br>".join(describe_key(key) for key in action.context_keys) or "none"
    operation = f"`{action.operation}`"
    return row(f"`{action}`", action.label, operation, action.phase, action.outcome, keys)


def describe_key(key: ContextKey) -> str:
    """One key in one line: `name` (type, sensitivity, when it applies): meaning, e.g. values."""
    facts = ", ".join(filter(None, (key.type, key.sensitivity, key.conditional)))
    values = ", ".join(f"`{example}`" for example in key.examples) + (", …" if key.open else "")
    return f"`{key.name}` ({facts}): {key.meaning}" + (f", e.g. {values}" if values else "")


def row(*cells: str) -> str:
    """A line of a Markdown table; a pipe inside a cell would otherwise end it."""
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
