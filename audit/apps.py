from django.apps import AppConfig
from django.contrib import admin


class AuditConfig(AppConfig):
    """Wires the receivers (sign-ins, what follows a migrate) and the system checks."""

    name = "audit"
    verbose_name = "Audit trail"

    def ready(self) -> None:
        from procrastinate.contrib.django.models import ProcrastinateJob
        from rest_framework_api_key.models import APIKey

        from audit import checks, receivers  # noqa: F401  # importing them registers them

        # The library's own keys belong to no source; the portal has `audit.models.ApiKey`.
        admin.site.unregister(APIKey)
        admin.site.unregister(ProcrastinateJob)  # the page "Jobs" tells it in words
