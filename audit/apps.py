from django.apps import AppConfig


class AuditConfig(AppConfig):
    """Wires the receivers (sign-ins, what follows a migrate) and the system checks."""

    name = "audit"
    verbose_name = "Audit trail"

    def ready(self) -> None:
        from audit import checks, receivers  # noqa: F401  # importing them registers them
